"""Rules of `detect` for login services in front of ComfyUI that are known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.auth.detect import redirects
from comfyclient.auth.detect.verdicts import Kind, Verdict, verdict

if TYPE_CHECKING:
    from yarl import URL

    from comfyclient.auth.detect.signs import Signs

__all__ = ["OAUTH2_PROXY_PING", "VAST_RESOLVER", "authelia", "cloudflare_access", "comfy_cloud", "oauth2_proxy"]

VAST_RESOLVER: Final = "/portal-resolver"
"""What vast's portal answers without a login."""
OAUTH2_PROXY_PING: Final = "/ping"
"""What oauth2-proxy answers without a login."""


def cloudflare_access(signs: Signs) -> Verdict | None:
    """A redirect to the team's login page, for programs too and for a stale service token; or a page with 403."""
    if signs.redirects and signs.target is not None and _is_access(signs.target):
        return verdict(Kind.CLOUDFLARE_ACCESS, location=_page(signs))
    if signs.status not in {401, 403}:
        return None
    page = signs.html and ("cloudflareaccess.com" in signs.text or "cloudflare access" in signs.text)
    marked = "cloudflare-access" in signs.challenges or bool(signs.header("cf-access-domain"))
    return verdict(Kind.CLOUDFLARE_ACCESS) if page or marked else None


def _is_access(found: URL) -> bool:
    host = (found.raw_host or "").lower()
    return f".{host}".endswith(".cloudflareaccess.com") or found.path.startswith("/cdn-cgi/access/")


def authelia(signs: Signs) -> Verdict | None:
    """A redirect with ``rd`` and ``rm``; for those who want no page a 401, mostly with the same ``Location``."""
    if not signs.redirects and signs.status != 401:
        return None
    if {"rd", "rm"} <= signs.target_params or "authelia_session" in signs.cookie_names:
        return verdict(Kind.AUTHELIA, location=_page(signs))
    return None


def oauth2_proxy(signs: Signs) -> Verdict | None:
    """A redirect to the provider with a cookie of its own, 401 for those who want JSON, or a page with a button."""
    if not signs.redirects and signs.status not in {200, 401, 403}:
        return None
    cookie = any(name.startswith("_oauth2_proxy") for name in signs.cookie_names)
    page = signs.html and "/oauth2/start" in signs.text
    if cookie or page or (signs.redirects and signs.target is not None and _is_oauth2_proxy(signs.target)):
        return verdict(Kind.OAUTH2_PROXY, location=_page(signs))
    return None


def _is_oauth2_proxy(found: URL) -> bool:
    callback = found.query.get("redirect_uri", "").partition("?")[0]
    return found.path.startswith(("/oauth2/start", "/oauth2/sign_in")) or callback.endswith("/oauth2/callback")


def comfy_cloud(signs: Signs) -> Verdict | None:
    """Comfy's own service wants an API key; it answers 429 without a time to come back when nobody pays."""
    if not signs.on_domain("comfy.org"):
        return None
    if signs.status == 402 or (signs.status == 429 and not signs.header("retry-after")):
        return verdict(
            Kind.FORBIDDEN,
            name=f"Comfy Cloud, which sees no credits or no subscription (HTTP {signs.status})",
            hint="look at the plan and the credits of that account on Comfy's site",
        )
    return verdict(Kind.API_KEY) if signs.status == 401 else None


def _page(signs: Signs) -> URL | None:
    return None if signs.target is None else redirects.without_query(signs.target)
