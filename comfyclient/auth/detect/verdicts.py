"""What may stand at an instance's address, and what a person is told about it.

The texts are one table: a name that fits after "there is …", and what to do next. They hold nothing that a server
sent, apart from the names of hosts that `detect` fills in.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

__all__ = ["Kind", "Verdict", "verdict"]


class Kind(enum.StrEnum):
    """What answers at an address."""

    OPEN = "open"
    VAST = "vast"
    BASIC = "basic"
    BEARER = "bearer"
    API_KEY = "api_key"
    COMFYUI_LOGIN = "comfyui_login"
    LOGIN_FORM = "login_form"
    CLOUDFLARE_ACCESS = "cloudflare_access"
    OAUTH2_PROXY = "oauth2_proxy"
    AUTHELIA = "authelia"
    FOREIGN_LOGIN = "foreign_login"
    LOGIN_UNKNOWN = "login_unknown"
    STARTING = "starting"
    UNAVAILABLE = "unavailable"
    TUNNEL_DOWN = "tunnel_down"
    POD_GONE = "pod_gone"
    USE_HTTPS = "use_https"
    INTERSTITIAL = "interstitial"
    FORBIDDEN = "forbidden"
    NOT_COMFYUI = "not_comfyui"


_LOGINS: Final = frozenset({
    Kind.VAST, Kind.BASIC, Kind.BEARER, Kind.API_KEY, Kind.COMFYUI_LOGIN, Kind.LOGIN_FORM, Kind.CLOUDFLARE_ACCESS,
    Kind.OAUTH2_PROXY, Kind.AUTHELIA, Kind.FOREIGN_LOGIN, Kind.LOGIN_UNKNOWN,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer says about the address it came from.

    ``name`` and ``hint`` are for people. ``hint`` is what to do if no credential is there, or not the right one.
    ``location`` is the login page, or the https url for ``USE_HTTPS``; never with user info, and with a query only
    if it is on the instance's own origin. ``confirm`` settles a doubt: the path (encoded, from the root of the
    origin, perhaps with a query) that is to be fetched without credentials and handed to `detect.confirmed`.
    """

    kind: Kind
    name: str
    hint: str | None = None
    location: URL | None = None
    confirm: str | None = None

    @property
    def wants_login(self) -> bool:
        """Whether a credential may help."""
        return self.kind in _LOGINS

    @property
    def waits(self) -> bool:
        """Whether waiting may help: ComfyUI starts, or a proxy does not reach it."""
        return self.kind in {Kind.STARTING, Kind.UNAVAILABLE}


def verdict(
    kind: Kind,
    *,
    name: str | None = None,
    hint: str | None = None,
    location: URL | None = None,
    confirm: str | None = None,
) -> Verdict:
    """A verdict with the texts of its kind, unless better ones are known."""
    usual_name, usual_hint = _TEXTS[kind]
    return Verdict(kind, name or usual_name, hint or usual_hint, location, confirm)


_WAIT: Final = "wait for it with --wait-ready SECONDS"
_BY_HAND: Final = (
    "log in by hand with `comfyclient login URL --browser`, or give --cookies-file with the cookies of a browser "
    "that is logged in"
)

_TEXTS: Final[Mapping[Kind, tuple[str, str | None]]] = {
    Kind.OPEN: ("ComfyUI without a login", None),
    Kind.VAST: (
        "a vast.ai portal",
        (
            "log in with `comfyclient login URL`, where URL may be the link of vast's Open button; the user name is "
            "vastai unless it was changed, and the instance's token works as well, with --token-file FILE"
        ),
    ),
    Kind.BASIC: (
        "a server that wants user name and password (HTTP basic auth)",
        "log in with `comfyclient login URL --username NAME`; it asks for the password",
    ),
    Kind.BEARER: (
        "a server that wants a token (HTTP bearer)",
        "put the token into a file and log in with `comfyclient login URL --token-file FILE`",
    ),
    Kind.API_KEY: (
        "Comfy Cloud, which wants an API key",
        "put the API key into a file and log in with `comfyclient login URL --token-file FILE`",
    ),
    Kind.COMFYUI_LOGIN: (
        "the password page of ComfyUI-Login",
        (
            "log in with `comfyclient login URL`; it asks for the password. The token that ComfyUI prints when it "
            "starts works as well, with --token-file FILE"
        ),
    ),
    Kind.LOGIN_FORM: (
        "a login page",
        (
            "log in with `comfyclient login URL --username NAME`, or, if the page needs JavaScript, with "
            "`comfyclient login URL --browser`"
        ),
    ),
    Kind.CLOUDFLARE_ACCESS: (
        "Cloudflare Access",
        (
            "give a service token that is valid, with --header CF-Access-Client-Id=ID and "
            "--header CF-Access-Client-Secret=SECRET (the action of its policy must be Service Auth), or log in by "
            "hand with `comfyclient login URL --browser`"
        ),
    ),
    Kind.OAUTH2_PROXY: ("oauth2-proxy", f"{_BY_HAND}; if it accepts tokens, --token-file FILE"),
    Kind.AUTHELIA: ("Authelia", _BY_HAND),
    Kind.FOREIGN_LOGIN: (
        "a login page at another address",
        f"{_BY_HAND}; if ComfyUI's address accepts a token, --token-file FILE",
    ),
    Kind.LOGIN_UNKNOWN: (
        "a server with a login of an unknown kind",
        (
            "is there a token for it? give it with --token-file FILE, or the header that it wants with "
            f"--header NAME=VALUE; else {_BY_HAND}"
        ),
    ),
    Kind.STARTING: ("the waiting page of a vast.ai portal", _WAIT),
    Kind.UNAVAILABLE: (
        "a proxy that gets no answer from ComfyUI",
        f"is ComfyUI still starting? {_WAIT}",
    ),
    Kind.TUNNEL_DOWN: (
        "the near end of a tunnel whose far end is gone",
        "start the tunnel again where ComfyUI runs, and use the address that it has then",
    ),
    Kind.POD_GONE: (
        "RunPod's proxy, which knows no such pod or port",
        "start the pod, and have ComfyUI's port among its HTTP ports; a new pod has a new address",
    ),
    Kind.USE_HTTPS: ("a server that speaks https only", "use the same address with https://"),
    Kind.INTERSTITIAL: (
        "a warning page of the tunnel before ComfyUI",
        "the page goes away with a header, which one is on it: give it with --header NAME=VALUE",
    ),
    Kind.FORBIDDEN: (
        "something that refuses this request (HTTP 403)",
        "may this machine use that address? if a header opens it, give it with --header NAME=VALUE",
    ),
    Kind.NOT_COMFYUI: (
        "something that is not ComfyUI",
        "is this ComfyUI's address? is the port right, and is it served under another path?",
    ),
}
