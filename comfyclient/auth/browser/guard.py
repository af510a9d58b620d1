"""What the pages of a browser send: watched for silence, and for a password that goes where it does not belong.

A login may be redirected together with its form (307 and 308), and no page says so in advance. So each request is held
until it is known where it goes; redirects count as requests.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from comfyclient.auth.browser.forms import web_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import BrowserContext, CDPSession, Page, Request, Response
    from yarl import URL

    from comfyclient._redact import Secret

__all__ = ["Guard", "Traffic"]

_SILENCE: Final = 2.0  # seconds
_LONG_SILENCE: Final = 15.0  # pages may ask for news for ever
_COUNTED: Final = frozenset({"document", "xhr", "fetch"})


class Traffic:
    """What has been going on in the pages since `mark`.

    Args:
        context: The browser.
        belongs: Whether what is sent to a url may be the login; what others answer says nothing about it.

    Attributes:
        sent: How many requests.
        navigated: Whether a document was among them.
        fault: Why the server could not judge what was posted: ``"HTTP 500"``, ``"no answer"``; else ``None``.
        rejected: The HTTP status, 4xx, of a page that came in answer to a form; else ``None``.
    """

    def __init__(self, context: BrowserContext, belongs: Callable[[URL], bool]) -> None:
        self._belongs = belongs
        self._clock = asyncio.get_running_loop().time
        self._under_way: set[Request] = set()
        self._last = self._marked = self._clock()
        self.sent = 0
        self.navigated = False
        self.fault: str | None = None
        self.rejected: int | None = None
        context.on("request", self._begun)
        context.on("response", self._answered)
        context.on("requestfinished", self._ended)
        context.on("requestfailed", self._failed)

    def mark(self) -> None:
        """Begin to count: something is about to be sent."""
        self.sent = 0
        self.navigated = False
        self.fault = self.rejected = None
        self._last = self._marked = self._clock()

    @property
    def at_rest(self) -> bool:
        """Whether what was sent has been answered, and nothing more follows."""
        now = self._clock()
        if any(one.resource_type == "document" or one.method not in {"GET", "HEAD"} for one in self._under_way):
            return False
        if now - self._marked >= _LONG_SILENCE:
            return True
        silence = _SILENCE if self.sent else _LONG_SILENCE  # scripts may have to think first
        return not self._under_way and now - self._last >= silence

    def _begun(self, request: Request) -> None:
        if request.resource_type not in _COUNTED:
            return
        self._under_way.add(request)
        self._last = self._clock()
        self.sent += 1
        if request.resource_type == "document":
            self.navigated = True
            self._marked = self._last

    def _answered(self, response: Response) -> None:
        request, status = response.request, response.status
        if not self._is_login(request):
            return
        if status >= 500 or status == 429:
            self.fault = f"HTTP {status}"
        elif status >= 400 and request.resource_type == "document":
            self.rejected = status

    def _failed(self, request: Request) -> None:
        if self._is_login(request) and "ERR_ABORTED" not in (request.failure or ""):  # that was the page's own doing
            self.fault = "no answer"
        self._ended(request)

    def _is_login(self, request: Request) -> bool:
        url = web_url(request.url)
        return request.method == "POST" and url is not None and self._belongs(url)

    def _ended(self, request: Request) -> None:
        if request in self._under_way:
            self._under_way.discard(request)
            self._last = self._clock()


class Guard:
    """Stops requests that carry the password to where it does not belong.

    Args:
        password: What must not go there.
        belongs: Whether it may go to a url.

    Attributes:
        stopped: The url of a request that was stopped, else ``None``.
    """

    def __init__(self, password: Secret, belongs: Callable[[URL], bool]) -> None:
        self._password = password
        self._belongs = belongs
        self._answers: set[asyncio.Task[None]] = set()
        self._pages: set[Page] = set()
        self.stopped: URL | None = None

    async def watch(self, page: Page) -> None:
        """Begin with a page; before it is given a password."""
        if page in self._pages:
            return
        session = await page.context.new_cdp_session(page)
        session.on("Fetch.requestPaused", lambda event: self._spawn(session, event))
        await session.send("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        self._pages.add(page)

    async def close(self) -> None:
        """End what is under way. Requests that are held then stay so: close the browser next."""
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    def _spawn(self, session: CDPSession, event: dict[str, Any]) -> None:
        task = asyncio.create_task(self._answer(session, event))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, session: CDPSession, event: dict[str, Any]) -> None:
        from playwright.async_api import Error

        url = web_url(event["request"]["url"])
        stop = url is not None and not self._belongs(url) and self._carries(event["request"])
        if stop:
            self.stopped = url
        try:
            if stop:
                await session.send(
                    "Fetch.failRequest", {"requestId": event["requestId"], "errorReason": "AccessDenied"}
                )
            else:
                await session.send("Fetch.continueRequest", {"requestId": event["requestId"]})
        except Error:  # the page went away, and its request with it
            return

    def _carries(self, request: dict[str, Any]) -> bool:
        """Whether the password is in it, or whether that cannot be told."""
        texts = [request["url"], *map(str, request.get("headers", {}).values())]
        if request.get("hasPostData"):
            body = _body(request)
            if body is None or not self._password.disguises:
                return True
            texts.append(body)
        return any(self._password.is_in(text) for text in texts)


def _body(request: dict[str, Any]) -> str | None:
    """What it posts, as text; ``None`` if the browser does not say."""
    entries = request.get("postDataEntries") or []
    try:
        parts = [base64.b64decode(entry["bytes"]) for entry in entries]
    except (KeyError, binascii.Error):
        return None
    text = b"".join(parts).decode("utf-8", "replace") + str(request.get("postData", ""))
    return text or None
