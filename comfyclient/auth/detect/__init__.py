"""What answers at an address, told by one request that carries no credential: ``GET {base}/prompt``.

Every ComfyUI has that path; it is small and costs nothing. The answer goes through a table of rules, and the first
that knows it decides. A second request, `Verdict.confirm`, settles what one answer cannot. Both go without
credentials; those are sent when it is known what wants them. Pure: nothing here touches the network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from comfyclient.auth.detect import gateways, logins, providers, redirects
from comfyclient.auth.detect.gateways import tunnel_headers
from comfyclient.auth.detect.redirects import is_login_redirect
from comfyclient.auth.detect.signs import Answer, Signs, header_values
from comfyclient.auth.detect.verdicts import Kind, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yarl import URL

__all__ = [
    "Answer",
    "Kind",
    "Verdict",
    "classify",
    "confirmed",
    "https_upgrade",
    "is_login_redirect",
    "login_wanted",
    "tunnel_headers",
]

_RULES: Final[tuple[Callable[[Signs], Verdict | None], ...]] = (
    # which scheme?
    gateways.use_https,
    # is ComfyUI up?
    gateways.starting,
    gateways.browser_check,
    gateways.tunnel_down,
    gateways.pod_gone,
    gateways.interstitial,
    providers.comfy_cloud,
    gateways.unavailable,
    # who wants a login?
    logins.open_comfyui,
    providers.cloudflare_access,
    providers.authelia,
    providers.oauth2_proxy,
    logins.redirected,
    logins.unauthorized,
    logins.forbidden,
    logins.web_page,
)

_SAID_BY_A_PAGE: Final = frozenset({
    Kind.COMFYUI_LOGIN, Kind.LOGIN_FORM, Kind.CLOUDFLARE_ACCESS, Kind.OAUTH2_PROXY, Kind.AUTHELIA, Kind.FOREIGN_LOGIN,
})  # fmt: skip


def classify(answer: Answer) -> Verdict:
    """Say what answered. There is a verdict for every answer."""
    signs = Signs(answer)
    known = (found for rule in _RULES if (found := rule(signs)) is not None)
    return next(known, None) or logins.anything(signs)


def confirmed(doubtful: Verdict, answer: Answer) -> Verdict:
    """The verdict after the unauthenticated GET of ``doubtful.confirm``. It has no ``confirm`` any more."""
    sure = replace(doubtful, confirm=None)
    if doubtful.confirm == providers.VAST_RESOLVER:
        return verdict(Kind.VAST) if _is_vast_resolver(Signs(answer)) else sure
    if doubtful.confirm == providers.OAUTH2_PROXY_PING:
        is_ok = answer.status == 200 and answer.body.strip() == b"OK"
        return verdict(Kind.OAUTH2_PROXY) if is_ok else sure
    return sure if doubtful.confirm is None else _confirmed_by_page(sure, answer)


def _is_vast_resolver(signs: Signs) -> bool:
    """A catch-all page of some other server has a body, or does not open itself to all origins."""
    return signs.status == 200 and not signs.body and signs.header("access-control-allow-origin") == "*"


def _confirmed_by_page(sure: Verdict, answer: Answer) -> Verdict:
    """What the login page is, or where it sends; if it says nothing, the verdict stays."""
    page = classify(answer)
    if page.kind is sure.kind:  # whose hint may know more than the page does
        return replace(sure, location=page.location or sure.location)
    if page.kind in _SAID_BY_A_PAGE:
        return replace(page, confirm=None)
    if sure.kind is Kind.COMFYUI_LOGIN and answer.status == 404:
        return verdict(Kind.LOGIN_UNKNOWN)
    return sure


def login_wanted(url: URL, status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer to ``url`` in a running session means that the login is over. The body is not needed.

    401; a redirect to a login page or another host; a web page where data was asked for, unless it says that
    ComfyUI is starting. Not 403: ComfyUI itself answers so, and no login changes it.
    """
    if status == 401:
        return True
    if status in redirects.REDIRECTS:
        return any(is_login_redirect(url, place) for place in header_values(headers, "location"))
    is_page = any("html" in value.lower() for value in header_values(headers, "content-type"))
    return status == 200 and is_page and not header_values(headers, gateways.PLACEHOLDER)


def https_upgrade(answer: Answer) -> URL | None:
    """The url that was asked, with https, if the server says that it speaks nothing else there.

    The host stays, and so does the port, but for 80, which may become 443: another port may be somebody else's.
    Path and query of a redirect are not taken over.
    """
    return gateways.https_of(Signs(answer))
