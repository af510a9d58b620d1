"""Rules of `detect` for what stands on the way: another scheme, tunnels, and proxies that do not reach ComfyUI.

They are asked before those about logins: what the page of a proxy that gets no answer says about logins is worth
nothing. What proxies answer was seen on the real ones, or read in their documentation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from comfyclient.auth.detect import redirects
from comfyclient.auth.detect.verdicts import Kind, Verdict, verdict

if TYPE_CHECKING:
    from yarl import URL

    from comfyclient.auth.detect.signs import Signs

__all__ = [
    "PLACEHOLDER",
    "browser_check",
    "https_of",
    "interstitial",
    "pod_gone",
    "starting",
    "tunnel_down",
    "tunnel_headers",
    "unavailable",
    "use_https",
]

PLACEHOLDER: Final = "x-portal-placeholder"
"""The header of vast's page for the time until ComfyUI is up."""

_NGROK_HEADER: Final = "ngrok-skip-browser-warning"
_NGROK_DOMAINS: Final = (".ngrok.io", ".ngrok.app", ".ngrok.dev", ".ngrok-free.app", ".ngrok-free.dev")
_LOCALTUNNEL_HEADER: Final = "bypass-tunnel-reminder"
_LOCALTUNNEL_DOMAINS: Final = (".loca.lt", ".localtunnel.me")
_TUNNELS: Final = ((_NGROK_HEADER, _NGROK_DOMAINS), (_LOCALTUNNEL_HEADER, _LOCALTUNNEL_DOMAINS))

_NGROK_WARNING: Final = 6024
_NGROK_OFFLINE: Final = 3200
_CLOUDFLARE_TUNNEL_GONE: Final = re.compile(r"\b(?:1033|1016)\b")  # nobody is at its other end; its name is gone
_PLAIN_HTTP: Final = (  # what Go (Caddy, Traefik), nginx and Apache say to http on a port of https
    "client sent an http request to an https server",
    "plain http request was sent to https port",
    "speaking plain http to an ssl-enabled server port",
)


def tunnel_headers(host: str) -> dict[str, str]:
    """The header that takes a tunnel's warning page away, for hosts of that tunnel only."""
    name = f".{host.lower().rstrip('.')}"
    return {header: "1" for header, domains in _TUNNELS if name.endswith(domains)}


def https_of(signs: Signs) -> URL | None:
    """The url that was asked, with https, if the answer says that nothing else is spoken there."""
    if signs.url.scheme != "http":
        return None
    port = _https_port(signs)
    if port is None:
        return None
    return redirects.without_query(signs.url).with_scheme("https").with_port(None if port == 443 else port)


def _https_port(signs: Signs) -> int | None:
    """The port may stay, or 80 become 443. Another one may be somebody else's."""
    port, found = signs.url.port, signs.target
    if signs.status == 400 and any(words in signs.text for words in _PLAIN_HTTP):
        return port
    if not signs.redirects or found is None or found.scheme != "https" or not redirects.same_host(signs.url, found):
        return None
    return found.port if found.port == port or (port, found.port) == (80, 443) else None


def use_https(signs: Signs) -> Verdict | None:
    """A redirect from http to the same place by https (vast's is a 308), or a port that speaks TLS only."""
    upgraded = https_of(signs)
    return None if upgraded is None else verdict(Kind.USE_HTTPS, location=upgraded)


def starting(signs: Signs) -> Verdict | None:
    """The page of vast's portal while ComfyUI starts: 502, and through Cloudflare 200."""
    return verdict(Kind.STARTING) if signs.header(PLACEHOLDER) else None


def browser_check(signs: Signs) -> Verdict | None:
    """Cloudflare's "just a moment" page, with 403 or 503."""
    if signs.header("cf-mitigated").lower() != "challenge":
        return None
    return verdict(
        Kind.FORBIDDEN,
        name="Cloudflare's check for browsers, which no program passes",
        hint="whoever runs the instance must except its address from that check, in Cloudflare's settings",
    )


def tunnel_down(signs: Signs) -> Verdict | None:
    """A tunnel's near end says that nobody is at the far end."""
    cloudflare = signs.status == 530 and _CLOUDFLARE_TUNNEL_GONE.search(signs.text)
    ngrok = signs.status >= 400 and signs.ngrok_code == _NGROK_OFFLINE
    localtunnel = signs.status >= 400 and "unavailable" in signs.header("x-localtunnel-status").lower()
    return verdict(Kind.TUNNEL_DOWN) if cloudflare or ngrok or localtunnel else None


def pod_gone(signs: Signs) -> Verdict | None:
    """A 404 of RunPod's proxy itself, which is a page; that of a program in the pod is none."""
    if signs.status != 404 or not signs.on_domain("proxy.runpod.net"):
        return None
    return verdict(Kind.POD_GONE) if signs.html or not signs.body.strip() else None


def interstitial(signs: Signs) -> Verdict | None:
    """A tunnel's warning page for browsers: 200; localtunnel's with 401 or 511 as well."""
    if not signs.html or signs.status not in {200, 401, 511}:
        return None
    if signs.ngrok_code == _NGROK_WARNING or _NGROK_HEADER in signs.text:
        return _warning_page("ngrok", _NGROK_HEADER)
    reminder = "localtunnel" in signs.text and ("tunnel password" in signs.text or "friendly reminder" in signs.text)
    if reminder or _LOCALTUNNEL_HEADER in signs.text:
        return _warning_page("localtunnel", _LOCALTUNNEL_HEADER)
    return None


def _warning_page(whose: str, header: str) -> Verdict:
    hint = f"give the header that takes it away: --header {header}=1"
    return verdict(Kind.INTERSTITIAL, name=f"the warning page of {whose}", hint=hint)


def unavailable(signs: Signs) -> Verdict | None:
    """Too many requests, or any error of a server or proxy."""
    status = signs.status
    if status == 429:
        return verdict(
            Kind.UNAVAILABLE,
            name="a server or proxy that gets too many requests (HTTP 429)",
            hint="ask less often, or wait with --wait-ready SECONDS",
        )
    if status in {502, 503, 504} or 520 <= status <= 530:
        return verdict(Kind.UNAVAILABLE, name=f"a proxy that gets no answer from ComfyUI (HTTP {status})")
    if 500 <= status <= 599:
        return verdict(
            Kind.UNAVAILABLE,
            name=f"a server that fails (HTTP {status})",
            hint="look at the logs there; if it is still starting, wait for it with --wait-ready SECONDS",
        )
    return None
