"""What is told of an address that is no ComfyUI: nothing that its server has answered.

Whoever may call this server could read with it what only this machine can reach: statuses, names of hosts, texts. So a
login that fails is looked into once more, and told in the fixed words for what was recognised, or in none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.auth.detect import Kind
from comfyclient.auth.detect.verdicts import verdict
from comfyclient.auth.entrance import SPELLING, unusable
from comfyclient.auth.probe import probe
from comfyclient.errors import (
    AuthError,
    AuthRequired,
    CertificateUntrusted,
    InstanceUnavailable,
    LoginRefused,
    NotComfyUI,
    ProtocolError,
)

if TYPE_CHECKING:
    from comfyclient.client import ComfyClient
    from comfyclient.errors import ComfyClientError

__all__ = ["in_our_words"]

_STRANGERS: Final = frozenset(
    {Kind.NOT_COMFYUI, Kind.FOREIGN_LOGIN, Kind.LOGIN_UNKNOWN, Kind.FORBIDDEN, Kind.INTERSTITIAL}
)


async def in_our_words(client: ComfyClient, error: ComfyClientError) -> ComfyClientError:
    """What a caller is told when a login at an instance has failed."""
    if isinstance(error, ProtocolError):
        return _stranger()
    if isinstance(error, CertificateUntrusted) or not isinstance(error, AuthError | InstanceUnavailable):
        return error
    try:
        base, found = await probe(client._http._transport, client.url)  # noqa: SLF001 - it asks as the client does
    except InstanceUnavailable as silence:
        return silence
    except ProtocolError:
        return _stranger()
    if found.kind is Kind.OPEN:
        return error
    usual = verdict(found.kind)  # without statuses and names of hosts
    if found.kind in _STRANGERS or not found.name.startswith(usual.name):
        return _stranger()
    if isinstance(error, LoginRefused):
        return LoginRefused(f"{base.origin()}: {usual.name} did not accept what was given", hint=SPELLING)
    if isinstance(error, InstanceUnavailable) and usual.wants_login:
        return InstanceUnavailable(
            f"{base.origin()}: {usual.name} does not answer the login", hint="try again in a moment"
        )
    return unusable(usual, base, given=isinstance(error, AuthError) and not isinstance(error, AuthRequired))


def _stranger() -> NotComfyUI:
    return NotComfyUI(
        "something answers there, and it is not ComfyUI, or does not let us in",
        hint="is that ComfyUI's address, and its port? is the credential right?",
    )
