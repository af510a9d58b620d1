"""Login pages of no particular make: an HTML form, and one that is nothing without scripts."""

import secrets
from urllib.parse import parse_qs, quote

from aiohttp import web

from .gateway import Gateway, raw_cookies

FORM = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Please sign in</title></head><body>
<form method="get" action="/search"><input name="q"><button>Search</button></form>
<form method="post" action="{action}">{error}
<input type="hidden" name="csrf_token" value="{csrf}">
<input type="hidden" name="next" value="{next}">
<label>Account <input type="text" name="account" autofocus></label>
<label>Password <input type="password" name="passphrase"></label>
<label><input type="checkbox" name="remember" value="yes"> Remember me</label>
<button type="submit" name="go" value="1">Sign in</button>
</form></body></html>"""

SCRIPTED = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Sign in</title></head><body>
<noscript>This page needs JavaScript.</noscript><main></main>
<script>
(async () => {
  const base = %(base)s;
  const { nonce } = await (await fetch(base + "/auth/challenge")).json();
  const form = document.createElement("form");
  for (const [name, type] of [["account", "text"], ["passphrase", "password"]]) {
    const input = form.appendChild(document.createElement("input"));
    Object.assign(input, { id: name, type, placeholder: name });
  }
  form.appendChild(document.createElement("button")).textContent = "Sign in";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(base + "/auth/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        account: form.elements.account.value,
        passphrase: form.elements.passphrase.value,
        proof: [...nonce].reverse().join(""),
      }),
    });
    if (answer.ok) location.replace(base + "/");
    else form.appendChild(document.createElement("p")).textContent = "Wrong name or password.";
  });
  document.querySelector("main").append(form);
})();
</script></body></html>"""


class PageGateway(Gateway):
    """A login page with a session cookie.

    Args:
        username: Who may log in.
        password: And with what.
        answers: What everybody else gets: ``"redirect"`` (302 to the page), ``"page"`` (the page itself, with 200, in
            place of whatever was asked for) or ``"unauthorized"`` (401 and nothing more).
    """

    def __init__(self, upstream, *, username="ada", password="form-password", answers="redirect", **options):
        super().__init__(upstream, **options)
        self.username = username
        self.password = password
        self.answers = answers

    def refuse(self, request):
        """See `Gateway.refuse`."""
        if self.answers == "unauthorized":
            return web.Response(status=401)
        if self.answers == "page":
            return self.page(request, self.target(request))
        back = quote(self.target(request), safe="")
        return web.Response(status=302, headers={"Location": f"{self.prefix}/login?next={back}"})

    def page(self, request, back):
        """The login page; ``back`` is where it leads in the end."""
        raise NotImplementedError


class LoginForm(PageGateway):
    """A form with a token against forgery that must fit a cookie; a mistake shows the page again, with 200."""

    def __init__(self, upstream, **options):
        super().__init__(upstream, **options)
        self._csrf = set()

    def page(self, request, back, *, error=""):
        """See `PageGateway.page`."""
        csrf = secrets.token_urlsafe(16)
        self._csrf.add(csrf)
        text = FORM.format(action=f"{self.prefix}/login", csrf=csrf, next=_escaped(back), error=error)
        headers = {"Set-Cookie": f"csrf={csrf}; Path=/; SameSite=Strict{'; Secure' * self.secure_cookie}"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def own(self, request, body):
        """See `Gateway.own`."""
        if request.path != f"{self.prefix}/login":
            return None
        if request.method != "POST":
            return self.page(request, request.query.get("next", "/"))
        form = {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
        return await self._login(request, form)

    async def _login(self, request, form):
        csrf = form.get("csrf_token")
        if csrf not in self._csrf or raw_cookies(request).get("csrf") != csrf:
            self.attempts += 1
            return web.Response(status=403, text="<h1>Forbidden</h1><p>CSRF</p>", content_type="text/html")
        back = form.get("next", "/")
        right = (form.get("account"), form.get("passphrase")) == (self.username, self.password)
        if not await self.logging_in(right=right):
            return self.page(request, back, error="<p>Wrong name or password.</p>")
        location = ("Location", self.prefix + back)
        return web.Response(status=303, headers=[location, self.set_cookie(self.new_session())])


class JSLogin(PageGateway):
    """A page without a form in its HTML: a script asks for a nonce, builds the form, and sends it with fetch."""

    def __init__(self, upstream, **options):
        super().__init__(upstream, **options)
        self._nonces = set()

    def page(self, request, back):
        """See `PageGateway.page`. It always leads to ``/``."""
        text = SCRIPTED % {"base": f'"{self.prefix}"'}
        return web.Response(text=text, content_type="text/html")

    async def own(self, request, body):
        """See `Gateway.own`."""
        path = request.path.removeprefix(self.prefix)
        if path == "/login":
            return self.page(request, "/")
        if path == "/auth/challenge":
            self._nonces.add(nonce := secrets.token_hex(8))
            return web.json_response({"nonce": nonce})
        if path == "/auth/session" and request.method == "POST":
            return await self._login(await request.json())
        return None

    async def _login(self, given):
        proof = given.get("proof", "")[::-1]
        known = proof in self._nonces
        self._nonces.discard(proof)
        right = known and (given.get("account"), given.get("passphrase")) == (self.username, self.password)
        if not await self.logging_in(right=right):
            return web.json_response({"error": "wrong"}, status=403)
        return web.json_response({}, headers=[self.set_cookie(self.new_session())])


def _escaped(text):
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
