"""Stand-ins for what people put before a ComfyUI: each asks for its credential, and refuses, as its original does."""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote

from aiohttp import web

from .comfyui_login import ComfyUILogin
from .formpages import JSLogin, LoginForm
from .gateway import Gateway, wants_html
from .site import Seen, Site

__all__ = [
    "ApiKey",
    "Basic",
    "Bearer",
    "CloudflareAccess",
    "ComfyUILogin",
    "Gateway",
    "JSLogin",
    "LoginForm",
    "OAuth2Proxy",
    "Seen",
    "Site",
]


class Keyed(Gateway):
    """For schemes without sessions: there, expiry means that the credential is no longer good."""

    def expire(self):
        """Revoke the credential, for good."""
        self.revoked = True


class Basic(Keyed):
    """Basic auth as nginx does it: on every request, user and password in utf-8, HTML for those without."""

    def __init__(self, upstream, *, username="user", password="secret-word", realm="ComfyUI", **options):
        super().__init__(upstream, **{"server": "nginx/1.24.0", **options})
        self.username = username
        self.password = password
        self.realm = realm

    def admits(self, request):
        """See `Gateway.admits`."""
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "basic" and same(given.strip(), pair) and not self.revoked

    def refuse(self, request):
        """See `Gateway.refuse`."""
        page = "<html><head><title>401 Authorization Required</title></head><body>nginx</body></html>"
        headers = {"WWW-Authenticate": f'Basic realm="{self.realm}"'}
        return web.Response(status=401, text=page, content_type="text/html", headers=headers)


class Bearer(Keyed):
    """A bearer token on every request; says whether it was missing or wrong."""

    def __init__(self, upstream, *, token="bearer-token-0123", **options):
        super().__init__(upstream, **options)
        self.token = token

    def admits(self, request):
        """See `Gateway.admits`."""
        return same(request.headers.get("Authorization", ""), f"Bearer {self.token}") and not self.revoked

    def refuse(self, request):
        """See `Gateway.refuse`."""
        wrong = ', error="invalid_token"' if "Authorization" in request.headers else ""
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="ComfyUI"{wrong}'})


class ApiKey(Keyed):
    """``X-API-Key``, as Comfy Cloud has it.

    Args:
        socket_token: Websockets bring the key as ``?token=`` and in no other way.
    """

    def __init__(self, upstream, *, key="comfyui-0123456789abcdef", socket_token=False, **options):
        super().__init__(upstream, **options)
        self.key = key
        self.socket_token = socket_token

    def admits(self, request):
        """See `Gateway.admits`."""
        in_url = self.socket_token and request.headers.get("Upgrade", "").lower() == "websocket"
        given = request.query.get("token", "") if in_url else request.headers.get("X-API-Key", "")
        return same(given, self.key) and not self.revoked

    def refuse(self, request):
        """See `Gateway.refuse`."""
        return web.json_response({"code": "UNAUTHORIZED", "message": "API key missing or invalid"}, status=401)


class CloudflareAccess(Gateway):
    """Cloudflare Access with a service token: without a good one all, JSON or not, are sent to its own host."""

    def __init__(
        self, upstream, *, client_id="0123abcd.access", client_secret="access-secret-4567", team="team", **options
    ):
        super().__init__(upstream, **{"server": "cloudflare", "cookie": "CF_Authorization", **options})
        self.client_id = client_id
        self.client_secret = client_secret
        self.team = team

    def expire(self):
        """The token's day has come: it is refused, and so are the cookies that it gave."""
        super().expire()
        self.revoked = True

    def admits(self, request):
        """See `Gateway.admits`."""
        return super().admits(request) or self._by_token(request)

    def refuse(self, request):
        """See `Gateway.refuse`."""
        back = quote(self.target(request), safe="")
        host = f"{self.team}.cloudflareaccess.com"
        location = f"https://{host}/cdn-cgi/access/login/{request.host}?kid=0f1e2d3c&redirect_url={back}"
        return web.Response(status=302, headers=[("Location", location), *_ray()])

    def additions(self, request):
        """See `Gateway.additions`."""
        return _ray() if super().admits(request) else [*_ray(), self.set_cookie(self.new_session())]

    def _by_token(self, request):
        given = [request.headers.get(f"CF-Access-Client-{part}", "") for part in ("Id", "Secret")]
        return same(given[0], self.client_id) and same(given[1], self.client_secret) and not self.revoked


class OAuth2Proxy(Gateway):
    """oauth2-proxy before an identity provider elsewhere: sessions come from `grant`, as from a person's browser.

    Args:
        token: A bearer token that is good as well.
        sign_in_page: Answer people with a page that has a button, not with the redirect behind it.
    """

    def __init__(self, upstream, *, token=None, sign_in_page=False, **options):
        super().__init__(upstream, **{"cookie": "_oauth2_proxy", **options})
        self.token = token
        self.sign_in_page = sign_in_page

    def grant(self):
        """A new session, as the ``Cookie`` header that carries it."""
        return f"{self.cookie}={self.new_session()}"

    def admits(self, request):
        """See `Gateway.admits`."""
        given = request.headers.get("Authorization", "")
        return super().admits(request) or (self.token is not None and same(given, f"Bearer {self.token}"))

    async def own(self, request, body):
        """See `Gateway.own`."""
        if request.path == f"{self.prefix}/ping":
            return web.Response(text="OK")
        if request.path == f"{self.prefix}/oauth2/auth":
            return web.Response(status=202 if self.admits(request) and not self.deaf else 401)
        return None

    def refuse(self, request):
        """See `Gateway.refuse`."""
        csrf = [("Set-Cookie", f"_oauth2_proxy_csrf={secrets.token_urlsafe(32)}; Path=/; HttpOnly")]
        if "application/json" in request.headers.get("Accept", ""):
            return web.json_response({}, status=401, headers=csrf)
        if self.sign_in_page and wants_html(request):
            page = '<title>Sign In</title><form method="GET" action="/oauth2/start"><button>Sign in</button></form>'
            return web.Response(status=403, text=page, content_type="text/html", headers=csrf)
        back = quote(f"http://{request.host}/oauth2/callback", safe="")
        query = f"client_id=comfyui&redirect_uri={back}&response_type=code&state={secrets.token_hex(8)}"
        return web.Response(status=302, headers=[("Location", f"https://idp.example/authorize?{query}"), *csrf])


def same(given, wanted):
    """Compare secrets as servers should."""
    return hmac.compare_digest(_digest(given), _digest(wanted))


def _digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _ray():
    return [("Cf-Ray", f"{secrets.token_hex(8)}-FRA")]
