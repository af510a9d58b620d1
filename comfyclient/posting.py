"""One file on its way to an instance, until it is known to be there or to be refused."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from comfyclient._http import NeverSentError, refusal
from comfyclient.errors import AuthError, CertificateUntrusted, ComfyClientError, InstanceUnavailable, TransferError
from comfyclient.wire.answers import Uploaded
from comfyclient.wire.limits import megabytes, told_limit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from comfyclient._http import Http, Reply
    from comfyclient.patience import Patience
    from comfyclient.sources import Source

__all__ = ["ANSWER_CAP", "SMALL", "post_file"]

ANSWER_CAP: Final = 1 * 2**20
"""Bytes that an answer about uploads may have when decoded."""

SMALL: Final = 1 * 2**20
"""Bytes that every server and proxy takes."""

_EXPECT: Final = 20.0  # seconds for "100 Continue", which some proxies never say
_PATH: Final = "/upload/image"
_NO_END: Final = aiohttp.ClientTimeout(total=None, sock_connect=10.0)


async def post_file(http: Http, source: Source, name: str, fields: Mapping[str, str], patience: Patience) -> Uploaded:
    """Send it. What a lost answer leaves open, sending it again settles: the same bytes, under the same name.

    Args:
        http: The instance.
        source: What to send.
        name: Its name there.
        fields: The other fields of the form.
        patience: How long to wait, and how often to send it again.

    Raises:
        TransferError: The instance did not take it, or cannot be asked.
        AuthError: It does not let us in.
    """
    return await _Posting(http, source, name, fields, patience).run()


class _Posting:
    def __init__(self, http: Http, source: Source, name: str, fields: Mapping[str, str], patience: Patience) -> None:
        self._http = http
        self._source = source
        self._name = name
        self._fields = fields
        self._patience = patience
        self._failures = 0
        self._expect = False

    async def run(self) -> Uploaded:
        while True:
            try:
                return self._uploaded(await self._post())
            except (AuthError, TransferError):
                raise
            except ComfyClientError as error:
                self._failures += 1
                if self._is_final(error):
                    raise self._given_up(error) from None
                sent = not isinstance(error, NeverSentError)
            # Who refuses a large file in the middle may cut the connection before the answer can be read. With
            # "Expect" the answer comes first; not twice in a row, as some do not know that word.
            self._expect = sent and not self._expect and self._source.size > SMALL
            await self._patience.pause(self._failures)

    def _is_final(self, error: ComfyClientError) -> bool:
        """Whether sending it again is of no use. "Expect" brings some proxies to say what is no HTTP."""
        may_pass = isinstance(error, InstanceUnavailable) or self._expect
        return not may_pass or self._failures > self._patience.repeats or isinstance(error, CertificateUntrusted)

    async def _post(self) -> Reply:
        headers = {"Expect": "100-continue"} if self._expect else None
        # The last bytes wait in buffers that nobody sees: hence twice the time.
        silence = _Silence(2 * self._patience.idle)
        with contextlib.ExitStack() as files:

            def form() -> aiohttp.FormData:  # made anew if it has to be sent again after a login
                silence.begin(min(_EXPECT, self._patience.idle) if self._expect else None)
                return self._form(files.enter_context(self._source.opened(silence.broken)))

            try:
                async with silence:
                    return await self._http.request(
                        "POST", _PATH, data=form, headers=headers, timeout=_NO_END, cap=ANSWER_CAP, safe=True
                    )
            except TimeoutError:
                raise InstanceUnavailable(f"POST {_PATH}: nothing was taken or answered for too long") from None

    def _form(self, content: object) -> aiohttp.FormData:
        form = aiohttp.FormData(quote_fields=False)  # else the server keeps the percent signs as part of the name
        form.add_field("image", content, filename=self._name, content_type="application/octet-stream")
        for field, value in self._fields.items():
            form.add_field(field, value)
        return form

    def _uploaded(self, reply: Reply) -> Uploaded:
        if reply.status == 413:
            raise self._too_large(reply)
        if reply.status == 400:
            raise TransferError(f"cannot upload {self._name}: the instance refused it (HTTP 400)")
        if reply.status == 417:
            raise InstanceUnavailable('POST /upload/image: a proxy does not know "Expect" (HTTP 417)')
        if reply.status != 200:
            raise refusal(reply)
        return Uploaded.from_json(reply.json())

    def _too_large(self, reply: Reply) -> TransferError:
        limit = told_limit(reply.body, self._http.base.host or "", reply.headers)
        size = megabytes(self._source.size)
        if limit is None:
            return TransferError(
                f"cannot upload {self._name}: with {size} it is larger than the instance, or a proxy before it, allows",
                hint="ComfyUI's limit is --max-upload-size (MB); nginx has client_max_body_size",
            )
        return TransferError(
            f"cannot upload {self._name}: with {size} it is larger than {limit.whose} allows, {megabytes(limit.size)}",
            hint=limit.hint,
        )

    def _given_up(self, error: ComfyClientError) -> TransferError:
        hint = error.hint
        if (
            self._source.size > SMALL
            and isinstance(error, InstanceUnavailable)
            and not isinstance(error, NeverSentError)
        ):
            hint = f"a proxy before the instance may not take {megabytes(self._source.size)} at once"
        return TransferError(f"cannot upload {self._name}: {error}", hint=hint)


class _Silence:
    """Ends what is awaited inside with TimeoutError, once nothing was read of the file for so many seconds.

    The library's own clock does not run while a body is sent, so a server that stops taking it would be waited for
    for ever.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._entered = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        await self._timeout.__aexit__(kind, error, trace)

    def begin(self, seconds: float | None = None) -> None:
        """From now on it is silent."""
        if self._entered and not self._timeout.expired():
            self._timeout.reschedule(self._loop.time() + (seconds or self._seconds))

    def broken(self) -> None:
        """Something was read; in any thread."""
        self._loop.call_soon_threadsafe(self.begin)
