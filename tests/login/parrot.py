"""A ComfyUI of sorts that repeats what it was sent, in every place of an answer where there may be words."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

from aiohttp import WSMsgType, web

from .site import Site

# How a server may write down what it was sent.
DRESSES = {
    "plain": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, as a path": quote,
    "percent, in small letters": lambda text: _small(quote(text, safe="")),
    "percent, as a form": quote_plus,
    "base64": lambda text: base64.b64encode(_bytes(text)).decode(),
    "base64, behind more": lambda text: base64.b64encode(b"{" + _bytes(text) + b"}").decode(),
    "base64, for urls": lambda text: base64.urlsafe_b64encode(b"[]" + _bytes(text)).decode(),
    "json": json.dumps,
    "json, in utf-8": lambda text: json.dumps(text, ensure_ascii=False),
    "repr": repr,
    "json in json": lambda text: json.dumps({"said": json.dumps({"said": text})}),
    "percent, of json": lambda text: quote(json.dumps(text)),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json, of percent, of json": lambda text: json.dumps({"url": f"/?said={quote_plus(json.dumps(text))}"}),
    "base64, of json": lambda text: base64.b64encode(json.dumps({"said": text}).encode()).decode(),
    "percent, of base64": lambda text: quote(base64.b64encode(_bytes(text)).decode(), safe=""),
    "json, of html": lambda text: json.dumps(html.escape(text)),
}
REPEATED = ("authorization", "cookie", "comfy-user")
OPEN = {"exec_info": {"queue_remaining": 0}}
FORM = '<form method="post" action="/login"><input name="user"><input type="password" name="word">'
PAGE = f"<html><title>Sign in</title>{FORM}"


class Parrot(Site):
    """See the module. Whoever brings no credential gets 401 and a challenge, or the login page.

    Args:
        dress: One of `DRESSES`.
        status: Of all its answers to those with one; 200 for those of a ComfyUI.
        door: Let those in who ask for ``/prompt``, whatever ``status`` says, so that the login is right.
        login: Where those without a credential are sent, in place of the challenge.

    Attributes:
        plan: By method and path: what to answer instead, a function of the words.
        grant: The value of the session cookie that those with a credential get.
        fails: The job that is queued fails, and says the words.
        said: How many of its answers had words.
        sockets: The websockets that were opened.
    """

    def __init__(self, dress="plain", *, status=200, door=True, login=None, **options):
        super().__init__(**options)
        self.login = login
        self.dress = DRESSES[dress]
        self.status = status
        self.door = door
        self.plan = {}
        self.grant = "given-by-the-parrot"
        self.fails = True
        self.job = None
        self.said = 0
        self.sockets = []

    async def __aexit__(self, *_):
        for socket in self.sockets:
            await socket.close()
        await super().__aexit__(*_)

    async def respond(self, request, seen):
        """See `Site.respond`."""
        words = self.words(request, seen)
        if (seen.method, seen.path) in self.plan and seen.path == "/login":
            return self.plan[seen.method, seen.path](words)
        if seen.method == "GET" and seen.path in {"/", "/login"}:
            return web.Response(text=f"{PAGE}{words}", content_type="text/html")
        if not words and self.login is not None:
            return web.Response(status=302, headers={"Location": self.login})
        if not words:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="parrot"'})
        self.said += 1
        answer = self.plan.get((seen.method, seen.path))
        if answer is not None:
            return answer(words)
        if (seen.method, seen.path) == ("GET", "/prompt") and self.door:
            cookies = [("Set-Cookie", f"{name}={self.grant}; Path=/") for name in ("session", "C.1_auth_token")]
            return web.json_response(OPEN, headers=cookies if self.grant else None)
        if self.status != 200:
            return self.refusal(words)
        return await self._comfyui(request, seen, words)

    def words(self, request, seen):
        """What it was told, in its dress; empty if that was nothing."""
        headers = [
            v for name, v in request.headers.items() if name.lower() in REPEATED or name.lower()[:2] in {"x-", "cf"}
        ]
        told = [*headers, *([self.target(request)] if request.query.get("token") else [])]
        body = seen.body.decode("utf-8", "replace") if len(seen.body) < 1000 else ""
        told += [body] if told and body else []
        told += [body] if seen.path == "/login" and body else []
        return self.dress(" ".join(told)) if told else ""

    def refusal(self, words):
        """An answer of `status` full of words."""
        headers = [("WWW-Authenticate", f'Basic realm="{words}"'), ("X-Reason", words)]
        if 300 <= self.status < 400:
            headers.append(("Location", f"/{words}?said={words}"))
        body = json.dumps({"error": words, "detail": {"message": words}})
        return web.Response(status=self.status, reason=words[:500], text=body, headers=headers)

    async def _comfyui(self, request, seen, words):
        where = (seen.method, seen.path)
        if where == ("POST", "/login"):
            cookie = {"Set-Cookie": f"session={self.grant}; Path=/"}
            return web.Response(status=302, headers={"Location": "/welcome", **cookie})
        if seen.path == "/ws":
            return await self._socket(request)
        if where == ("POST", "/prompt"):
            return await self._queue(json.loads(seen.body), words)
        if where == ("GET", "/queue"):
            return web.json_response({"queue_running": [], "queue_pending": []})
        if seen.path.startswith("/history"):
            return web.json_response(self.job or {})
        if seen.path.startswith("/api/jobs/"):
            return web.json_response({"error": "no such job"}, status=404)
        if where == ("GET", "/system_stats"):
            return web.json_response({"system": {"comfyui_version": "0.33.0", "os": "posix"}, "devices": []})
        if where == ("POST", "/upload/image"):
            return web.json_response({"name": "mine.png", "subfolder": "", "type": "input"})
        return web.Response(body=b"a file") if seen.path == "/view" else web.json_response({})

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "status", "data": {"status": OPEN, "sid": request.query["clientId"]}})
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        return socket

    async def _queue(self, body, words):
        prompt_id = body["prompt_id"]
        self.job = {prompt_id: self._record(prompt_id, words)}
        for kind, data in self._messages(prompt_id, words):
            for socket in self.sockets:
                await socket.send_json({"type": kind, "data": data})
        problem = {"type": words, "message": words, "details": words, "extra_info": {"input_name": words}}
        errors = {"9": {"class_type": words, "errors": [problem], "dependent_outputs": ["9"]}}
        return web.json_response({"prompt_id": prompt_id, "number": 1, "node_errors": errors})

    def _messages(self, prompt_id, words):
        job = {"prompt_id": prompt_id, "timestamp": 1}
        yield "execution_start", job
        yield "executing", job | {"node": "1", "display_node": "1"}
        yield "executed", job | {"node": "1", "display_node": "1", "output": {"text": [words]}}
        if self.fails:
            failure = {
                "node_id": words,
                "node_type": words,
                "exception_type": words,
                "exception_message": words,
                "traceback": [f'  File "x", line 1\n    {words}\n', words],
            }
            yield "execution_error", job | failure
        else:
            yield "execution_success", job

    def _record(self, prompt_id, words):
        messages = [list(message) for message in self._messages(prompt_id, words)]
        outcome = "error" if self.fails else "success"
        node = {"class_type": words, "inputs": {"text": words, words: [words]}, "_meta": {"title": words}}
        extra = {"extra_pnginfo": {"workflow": {"nodes": [], "extra": {"said": words}}}, "said": words}
        return {
            "prompt": [1, prompt_id, {"1": node}, extra, ["1"]],
            "outputs": {"1": {"text": [words], "images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
            "status": {"status_str": outcome, "completed": not self.fails, "messages": messages},
            "meta": {"1": {"display_node": "1", "said": words}},
        }


def _bytes(text):
    return text.encode("utf-8", "surrogateescape")


def _small(text):
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])
