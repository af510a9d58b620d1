"""Rules of `detect` for ComfyUI itself, for logins by what they do, and for everything else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from yarl import URL

from comfyclient.auth.detect import redirects
from comfyclient.auth.detect.providers import OAUTH2_PROXY_PING, VAST_RESOLVER
from comfyclient.auth.detect.verdicts import Kind, Verdict, verdict

if TYPE_CHECKING:
    from comfyclient.auth.detect.signs import Signs

__all__ = ["anything", "forbidden", "open_comfyui", "redirected", "unauthorized", "web_page"]

_CADDY_REALM: Final = re.compile(r'(?:^|,)\s*(?i:basic\s+realm)\s*=\s*"?restricted"?\s*(?:,|$)')
_SHOWABLE_HOST: Final = re.compile(r"[a-z0-9._-]{1,100}|[0-9a-f:.]{2,45}")


def open_comfyui(signs: Signs) -> Verdict | None:
    """ComfyUI's own answer: ``{"exec_info": {"queue_remaining": <int>}}``. The shape tells, not the content type."""
    body = signs.json if signs.status == 200 else None
    info = body.get("exec_info") if isinstance(body, dict) else None
    remaining = info.get("queue_remaining") if isinstance(info, dict) else None
    return verdict(Kind.OPEN) if isinstance(remaining, int) and not isinstance(remaining, bool) else None


def redirected(signs: Signs) -> Verdict | None:
    """A login page here or elsewhere, or a place that ComfyUI has moved to."""
    if not signs.redirects:
        return None
    found = signs.target
    if found is None:
        return verdict(Kind.NOT_COMFYUI, name=f"a redirect that leads nowhere (HTTP {signs.status})")
    is_login = redirects.is_login_path(signs.url, found)
    if redirects.is_own(signs.url, found):
        return _own_login(signs, found) if is_login else _moved(signs, found)
    same_place = redirects.same_host(signs.url, found) or found.name == signs.url.name  # other port, or other host
    return _login_elsewhere(signs, found) if is_login or not same_place else _moved(signs, found)


def _own_login(signs: Signs, found: URL) -> Verdict:
    path = redirects.own_path(found)
    return verdict(Kind.LOGIN_FORM, hint=_ai_dock_hint(signs, found), location=_own_page(signs, path), confirm=path)


def _own_page(signs: Signs, path: str) -> URL:
    return signs.url.origin().join(URL(path, encoded=True))


def _login_elsewhere(signs: Signs, found: URL) -> Verdict:
    return verdict(
        Kind.FOREIGN_LOGIN,
        name=f"a login page at {_shown(found)}",
        hint=_ai_dock_hint(signs, found),
        location=redirects.without_query(found),
    )


def _ai_dock_hint(signs: Signs, found: URL) -> str | None:
    """The images of ai-dock send to their portal's ``/login``, on this port or another; tokens work without it."""
    if "caddy" not in signs.server or found.path != "/login" or not redirects.same_host(signs.url, found):
        return None
    return (
        "log in with `comfyclient login URL --browser`; if this is an ai-dock image, its WEB_TOKEN works as well, with "
        "--token-file FILE"
    )


def _moved(signs: Signs, found: URL) -> Verdict:
    place = "another path" if redirects.is_own(signs.url, found) else _shown(found)
    return verdict(
        Kind.NOT_COMFYUI,
        name=f"a redirect to {place} (HTTP {signs.status})",
        hint="it is not followed: give the address that a browser ends up at, if that is the right one",
    )


def _shown(found: URL) -> str:
    """The host and port for people; nothing else of a place that a server named."""
    host = (found.raw_host or "").lower()
    if not _SHOWABLE_HOST.fullmatch(host):
        return "another host"
    return host if found.is_default_port() else f"{host}, port {found.port}"


def unauthorized(signs: Signs) -> Verdict | None:
    """401, by its challenge, its words or its page; 407."""
    if signs.status == 407:
        return verdict(Kind.LOGIN_UNKNOWN, name="a proxy on the way that wants a login of its own (HTTP 407)")
    if signs.status != 401:
        return None
    return _challenged(signs) or _comfyui_login(signs) or _login_page(signs) or _unknown_login(signs)


def _challenged(signs: Signs) -> Verdict | None:
    """Basic first: who offers both takes a password as well, and that is what people have."""
    if "basic" in signs.challenges:
        return verdict(Kind.BASIC, confirm=VAST_RESOLVER if _perhaps_vast(signs) else None)
    if "bearer" in signs.challenges:
        return verdict(Kind.BEARER)
    return verdict(Kind.LOGIN_UNKNOWN) if signs.challenges else None


def _perhaps_vast(signs: Signs) -> bool:
    """The realm is Caddy's usual one. Behind a tunnel it is Cloudflare that signs as the server."""
    server = not signs.server or "caddy" in signs.server or "cloudflare" in signs.server
    return server and _CADDY_REALM.search(signs.header("www-authenticate")) is not None


def _comfyui_login(signs: Signs) -> Verdict | None:
    """ComfyUI-Login says it in JSON, without a challenge."""
    body = signs.json
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, str) or error.strip().lower() != "authentication required.":
        return None
    path = _beside_prompt(signs.url, "/login")
    return verdict(Kind.COMFYUI_LOGIN, location=_own_page(signs, path), confirm=path)


def _login_page(signs: Signs) -> Verdict | None:
    """A page with a password field, whatever its status."""
    if not signs.has_password_field:
        return None
    kind = Kind.COMFYUI_LOGIN if signs.title == "comfyui login" else Kind.LOGIN_FORM
    return verdict(kind, location=signs.url.with_user(None).with_fragment(None))


def _unknown_login(signs: Signs) -> Verdict:
    """With ``{}`` oauth2-proxy answers those who want JSON; any other may have a page at the usual place."""
    is_empty = signs.json == {}
    return verdict(Kind.LOGIN_UNKNOWN, confirm=OAUTH2_PROXY_PING if is_empty else _beside_prompt(signs.url, "/login"))


def _beside_prompt(url: URL, path: str) -> str:
    """``path`` below the prefix at which ComfyUI is served."""
    prefix = url.raw_path.removesuffix("/prompt").removesuffix("/api").strip("/")
    return f"/{prefix}{path}" if prefix and url.name == "prompt" else path


def forbidden(signs: Signs) -> Verdict | None:
    """403: a login page, ComfyUI's check of origins, Cloudflare's firewall, or whoever."""
    if signs.status != 403:
        return None
    return _login_page(signs) or _origin_check(signs) or _firewall(signs) or verdict(Kind.FORBIDDEN)


def _origin_check(signs: Signs) -> Verdict | None:
    """ComfyUI refuses foreign origins with an empty body. A program that sends no such header passes."""
    if signs.body or "aiohttp" not in signs.server:
        return None
    return verdict(
        Kind.FORBIDDEN,
        name="ComfyUI, which refuses requests of other web sites (HTTP 403)",
        hint="give no Origin or Sec-Fetch-Site with --header NAME=VALUE; does a proxy on the way add one?",
    )


def _firewall(signs: Signs) -> Verdict | None:
    """Cloudflare's error numbers; 1010 is for programs by their name."""
    code = signs.cloudflare_code
    if code is None:
        return None
    cure = " --header User-Agent=VALUE gives this program another name." if code == 1010 else ""
    return verdict(
        Kind.FORBIDDEN,
        name=f"Cloudflare's firewall, which refuses this client (error {code})",
        hint=f"whoever runs the instance must let it through, in Cloudflare's settings.{cure}",
    )


def web_page(signs: Signs) -> Verdict | None:
    """A page where data should be: a login page if it asks for a password."""
    if signs.status != 200 or not signs.html:
        return None
    if signs.title == "comfyui":
        return verdict(
            Kind.NOT_COMFYUI,
            name="ComfyUI's web page where its data should be",
            hint="give ComfyUI's address without the path of a page",
        )
    return _login_page(signs) or verdict(
        Kind.NOT_COMFYUI,
        name="a web page, not ComfyUI's data",
        hint="open the address in a browser; if it is a login page, log in with `comfyclient login URL --browser`",
    )


def anything(signs: Signs) -> Verdict:
    """Everything else."""
    shown = f" (HTTP {signs.status})" if 100 <= signs.status <= 599 else ""
    return verdict(Kind.NOT_COMFYUI, name=f"something that is not ComfyUI{shown}")
