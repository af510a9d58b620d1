"""ComfyUI-Login: one password for a ComfyUI, kept by an extension of it."""

import base64
import hashlib
from urllib.parse import parse_qs

from aiohttp import web

from .gateway import Gateway, read_cookies, wants_html

PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>ComfyUI Login</title></head><body>
%s
<form action="/login" method="post">%s
<input type="password" name="password" placeholder="Enter password" required>
<input type="submit" value="Login">
</form></body></html>"""
FIRST = "<p>For your first login, choose a user name and a password.</p>"
USERNAME = '<input type="text" name="username" placeholder="Enter username" required>'
BCRYPT_BYTES = 72


class ComfyUILogin(Gateway):
    """Stands in for it, down to its oddities.

    Right and wrong passwords both get a 302. Without a password (``password=None``) the first one that is posted
    becomes it. The token is what bcrypt made of the password. An ``Authorization`` header of other than two words, a
    login without password and a password of more than 72 bytes are all 500. It knows nothing of a prefix.

    Attributes:
        token: Good as bearer token and as ``?token=``; ``None`` as long as there is no password.
        claimed: What the first login set: ``(username, password)``; ``None`` if there was none.
    """

    def __init__(self, upstream, *, username="ada", password="comfy-password", **options):
        super().__init__(upstream, **{"cookie": "AIOHTTP_SESSION", **options})
        self.username = username
        self.password = password
        self.claimed = None

    @property
    def token(self):
        """Looks like a bcrypt hash."""
        if self.password is None:
            return None
        digest = hashlib.sha512(self.password.encode()).digest()
        return "$2b$12$" + base64.b64encode(digest, altchars=b"./").decode()[:53]

    def admits(self, request):
        """See `Gateway.admits`."""
        free = request.method == "OPTIONS" or request.path.endswith((".js", ".css", ".ico"))
        return free or self._logged_in(request) or (self.token is not None and self.token in _tokens(request))

    def refuse(self, request):
        """See `Gateway.refuse`."""
        if wants_html(request):
            return _redirect("/login")
        return web.json_response({"error": "Authentication required."}, status=401)

    def set_cookie(self, value):
        """See `Gateway.set_cookie`. The value is quoted."""
        return "Set-Cookie", f'{self.cookie}="{value}"; HttpOnly; Path=/{"; Secure" * self.secure_cookie}'

    async def own(self, request, body):
        """See `Gateway.own`."""
        path = request.path.removeprefix(self.prefix)
        if path == "/login":
            return await self._login(body) if request.method == "POST" else self._page(request)
        if path == "/logout":
            self.sessions.discard(read_cookies(request).get(self.cookie))
            return _redirect("/login")
        words = request.headers.get("Authorization", "two words").split()
        return _trouble() if len(words) != 2 and not self._logged_in(request) else None

    def _logged_in(self, request):
        return read_cookies(request).get(self.cookie) in self.sessions

    def _page(self, request):
        if self._logged_in(request) and not self.deaf:
            return _redirect("/")
        welcome = f"<p>Welcome back, {self.username}!</p>"
        page = PAGE % ((welcome, "") if self.password else (FIRST, USERNAME))
        return web.Response(text=page, content_type="text/html")

    async def _login(self, body):
        form = {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
        password = form.get("password")
        lacking = self.password is None and "username" not in form
        if password is None or lacking or len(password.encode()) > BCRYPT_BYTES:
            self.attempts += 1
            return _trouble()
        if self.password is None:
            self.username, self.password = self.claimed = form["username"], password
        if not await self.logging_in(right=password == self.password):
            return _redirect("/login?wrong_password=1")
        return _redirect("/", self.set_cookie(self.new_session()))


def _tokens(request):
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return {request.query.get("token"), token.strip() if kind == "Bearer" else None}


def _redirect(location, *headers):
    return web.Response(status=302, headers=[("Location", location), *headers])


def _trouble():
    return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")
