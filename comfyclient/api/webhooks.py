"""Telling others that a job has ended: a signed POST, repeated until it is taken or there is no hope.

A delivery carries ``X-Comfyclient-Delivery``, the same in each attempt, so that one that comes twice is known again,
and ``X-Comfyclient-Signature: t=SECONDS,v1=HEX``: HMAC-SHA256, with the server's webhook secret, of ``SECONDS.BODY``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from comfyclient._redact import RedactingFilter
from comfyclient._transport import Transport
from comfyclient.api.errors import ApiError
from comfyclient.api.replies import Json
from comfyclient.errors import AddressRefused, CertificateUntrusted, ComfyClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfyclient._redact import Secret
    from comfyclient.addresses import AddressPolicy
    from comfyclient.api.jobs import JobRecord

__all__ = ["Webhooks", "sign"]

_PAUSES: Final = (1.0, 5.0, 30.0, 120.0, 600.0)  # seconds before each further attempt
_AT_ONCE: Final = 8  # attempts for each owner: receivers that never answer hold up nobody else's
_TIMEOUT: Final = 10.0

_log = logging.getLogger("comfyclient.api.webhooks")
_log.addFilter(RedactingFilter())


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The value of ``X-Comfyclient-Signature``."""
    mac = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256)
    return f"t={seconds},v1={mac.hexdigest()}"


class Webhooks:
    """Sends them.

    Args:
        secret: What they are signed with; ``None``: there are none.
        addresses: Which addresses may be connected to.
        done: Called with each job whose webhook was taken, or given up.
        pauses: Seconds before each further attempt.
    """

    def __init__(
        self,
        secret: Secret | None,
        addresses: AddressPolicy | None,
        *,
        done: Callable[[JobRecord], None],
        pauses: tuple[float, ...] = _PAUSES,
    ) -> None:
        self._secret, self._addresses, self._done, self._pauses = secret, addresses, done, pauses
        self._gates = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_AT_ONCE))  # by owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Transport | None = None

    def check(self, url: str) -> None:
        """Refuse a webhook that cannot be.

        Raises:
            ApiError: The server has no secret, or it is no address.
        """
        if self._secret is None:
            raise ApiError(
                400, "no_webhook_secret", "this server signs no webhooks",
                hint="start it with --webhook-secret-file, or COMFYCLIENT_WEBHOOK_SECRET",
            )  # fmt: skip
        try:
            address = URL(url)
        except ValueError:
            address = URL()
        if address.scheme not in {"http", "https"} or not address.host or address.user or address.password:
            raise ApiError(400, "webhook_refused", "a webhook is an http or https url, without user and password")

    def send(self, record: JobRecord, body: dict[str, Any]) -> None:
        """Tell of a job that has ended."""
        if record.webhook is None or self._secret is None:
            return
        record.told = "is being delivered"
        task = asyncio.create_task(
            self._deliver(record, record.webhook, bytes(Json(body).body), self._secret),
            name=f"comfyclient-webhook-{record.id}",
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; what was not taken yet is sent again when the server begins anew."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport.close()

    async def _deliver(self, record: JobRecord, url: str, body: bytes, secret: Secret) -> None:
        trouble = ""
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads attempts, hides nothing
            async with self._gates[record.owner]:
                trouble, final = await self._attempt(record, url, body, secret)
            if not trouble:
                record.told = "delivered"
                self._done(record)
                return
            if final:
                break
            record.told = f"is tried again: {trouble}"
        record.told = f"given up: {trouble}"
        _log.warning("the webhook of job %s was given up: %s", record.id, trouble)
        self._done(record)

    async def _attempt(self, record: JobRecord, url: str, body: bytes, secret: Secret) -> tuple[str, bool]:
        """One attempt. Returns what went wrong, if anything, and whether another makes no sense."""
        if self._transport is None:
            self._transport = Transport(timeout=_TIMEOUT, addresses=self._addresses)
        headers = {
            "Content-Type": "application/json",
            "X-Comfyclient-Delivery": record.id,
            "X-Comfyclient-Signature": sign(secret.reveal(), body, int(time.time())),
        }
        try:
            async with self._transport.send("POST", URL(url), headers=headers, data=body) as response:
                status = response.status
        except (AddressRefused, CertificateUntrusted) as error:
            return str(error), True
        except ComfyClientError as error:
            return str(error), False
        if 200 <= status < 300:
            return "", True
        return f"it was answered with HTTP {status}", 300 <= status < 500 and status not in {408, 425, 429}
