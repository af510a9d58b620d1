"""A Caddyfile that makes Caddy treat its callers as vast.ai's portal does, in front of any server.

Written from what the portal was seen to do. Its checks, in their order: paths that are free for all; ``?token=`` of a
browser (a redirect and a cookie) and of anybody else (passed on, with a cookie); the cookie, anywhere in the header;
the bearer token; basic auth, with a cookie. One difference: the portal takes ``token`` out of what it passes on.
"""

import ctypes
import re
import shutil
import string
import subprocess

from .caddy import Caddy

FREE = (
    "/.well-known/acme-challenge/*",
    "/.well-known/change-password",
    "/manifest.json",
    "/manifest.webmanifest",
    "/site.webmanifest",
    "/.well-known/security.txt",
    "/security.txt",
    "/portal-resolver",
)
# The uri without its token, in up to five parts, wherever in the query the token is.
WITHOUT_TOKEN = r"^(?:([^?]*)\?token=[^&]*|([^?]*\?)token=[^&]*&(.*)|([^?]*\?.*)&token=[^&]*((?:&.*)?))$"
BROWSER = '({http.request.header.Accept}.contains("text/html") || {http.request.header.Sec-Fetch-Dest} == "document")'

CADDYFILE = string.Template("""
{
	admin off
	auto_https disable_redirects
	servers {
		protocols h1 h2
		$wrappers
	}
}
:{$$PORT} {
	bind {$$HOST}
	$tls
	encode zstd gzip
	map {http.request.header.Cf-Ray} {not_ready} {
		"" 502
		default 200
	}
	handle_errors {
		@down expression `{http.error.status_code} in [502, 503, 504]`
		handle @down {
			header X-Portal-Placeholder true
			header Cache-Control no-store
			header Content-Type "text/html; charset=utf-8"
			respond "<!DOCTYPE html><html><title>Not ready</title><p>The application is starting</p></html>" {not_ready}
		}
	}
	route {
		@free path $free
		handle @free {
			route /portal-resolver {
				header Access-Control-Allow-Origin "*"
				header Access-Control-Allow-Methods "GET, OPTIONS"
				header Access-Control-Allow-Headers "*"
				respond 200
			}
			$proxy
		}
		@link expression `($token) && $browser`
		handle @link {
			route {
				@cut vars_regexp cut {http.request.uri} `$without_token`
				header Set-Cookie $token_cookie
				redir @cut {re.cut.1}{re.cut.2}{re.cut.3}{re.cut.4}{re.cut.5} 302
			}
		}
		@token expression `$token`
		handle @token {
			route {
				header Set-Cookie $token_cookie
				$proxy
			}
		}
		@cookie expression `$cookie`
		handle @cookie {
			$proxy
		}
		@bearer expression `$bearer`
		handle @bearer {
			$proxy
		}
		handle {
			route {
				basicauth {
					$username $password_hash
				}
				header Set-Cookie $password_cookie
				$proxy
			}
		}
	}
}
""")
PROXY = """reverse_proxy %s {
				header_up Host {upstream_hostport}
				header_down -X-Portal-Placeholder
				flush_interval -1
			}"""


def vast_portal(upstream, *, https=False, host="127.0.0.1", certificate=None, **options):
    """A Caddy, to be entered, that is vast's portal before ``upstream``. ``options`` are those of `vast_caddyfile`.

    Over https, plain http at the same port gets vast's answer: 308, in HTTP/1.0.
    """
    scheme = "https" if https else "http"
    return Caddy(vast_caddyfile(upstream, https=https, **options), host=host, scheme=scheme, certificate=certificate)


def vast_caddyfile(
    upstream,
    *,
    web_password=None,
    open_button_token=None,
    username="vastai",
    label="C.12345678",
    https=False,
    bcrypt_cost=4,
):
    """The configuration. Each secret defaults to the other; ``label=None`` is an instance without one."""
    password = _stripped(web_password or open_button_token)
    token = _stripped(open_button_token or web_password)
    secrets = dict.fromkeys([password, token])
    cookie = f"{label}_auth_token="
    return CADDYFILE.substitute(
        wrappers="listener_wrappers {\n\t\t\thttp_redirect\n\t\t\ttls\n\t\t}" if https else "",
        tls="tls {$CERTIFICATE} {$KEY}" if https else "",
        free=" ".join(FREE),
        proxy=PROXY % upstream.removeprefix("http://"),
        browser=BROWSER,
        without_token=WITHOUT_TOKEN,
        token=_any_of("{http.request.uri.query.token} == %s", secrets),
        cookie=_any_of("{http.request.header.Cookie}.contains(%s)", [cookie + secret for secret in secrets]),
        bearer=_any_of("{http.request.header.Authorization} == %s", [f"Bearer {secret}" for secret in secrets]),
        token_cookie=_set_cookie(cookie + token),
        password_cookie=_set_cookie(cookie + password),
        username=_quoted(username),
        password_hash=_quoted(bcrypt(password, bcrypt_cost)),
    )


def bcrypt(password, cost):
    """The hash, by the C library if it can: Caddy's own command always takes a second."""
    try:
        crypt = ctypes.CDLL("libcrypt.so.1").crypt
    except OSError:
        command = [shutil.which("caddy"), "hash-password"]
        return subprocess.run(command, input=f"{password}\n", text=True, capture_output=True, check=True).stdout.strip()
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), f"$2b${cost:02}$comfyclientComfyclient".encode()).decode()


def _stripped(secret):
    return re.sub(r"[\r\n;]", "", secret)


def _any_of(condition, values):
    return " || ".join(condition % _cel(value) for value in values)


def _cel(text):
    """A literal of Caddy's expressions in which no character can mean anything else."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


def _quoted(text):
    """A token of a Caddyfile."""
    return '"' + re.sub(r'(["{}])', r"\\\1", text) + '"'


def _set_cookie(pair):
    """The portal doubles backslashes here, where Caddy takes them as they are: such a cookie never fits."""
    doubled = pair.replace("\\", "\\\\")
    return _quoted(f"{doubled}; Path=/; Max-Age=604800; HttpOnly; SameSite=lax")
