"""Login pages that only a browser can use, each with its own way to be difficult."""

import json
import secrets

from aiohttp import web

from ..login.formpages import PageGateway  # noqa: TID252
from ..login.gateway import raw_cookies  # noqa: TID252
from ..login.site import Site  # noqa: TID252

USERNAME = "ada"
PASSWORD = 'pass/word "ü" 42'

# What all pages have: `ask` posts JSON to the gateway, `field` makes an input.
SCRIPT = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Welcome</title></head><body><main></main>
<script>
const main = document.querySelector("main");
const ask = async (path, body = {}) => {
  const answer = await fetch(%s + path, { method: "POST", body: JSON.stringify(body) });
  return { ok: answer.ok, ...(await answer.json()) };
};
const field = (name, type) => Object.assign(document.createElement("input"), { name, type, placeholder: name });
const button = (text) => Object.assign(document.createElement("button"), { textContent: text });
const enter = (answer) => {
  if (answer.ok) location.replace(%s + "/");
  else main.append(Object.assign(document.createElement("p"), { textContent: "Wrong." }));
};
%s
</script></body></html>"""

TWO_STEPS = """
const form = main.appendChild(document.createElement("form"));
const user = field("identifier", "text"), next = button("Next");
next.disabled = true;
user.addEventListener("input", () => { next.disabled = !user.value; });
form.append(user, next);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await ask("/auth/account", { username: user.value });
  const second = document.createElement("form"), password = field("secret", "password");
  second.append(password, button("Sign in"));
  second.addEventListener("submit", async (event) => {
    event.preventDefault();
    enter(await ask("/auth/session", { username: user.value, password: password.value }));
  });
  form.replaceWith(second);
});
"""

# A web component; no form at all, buttons that read nothing but clicks, and one that shows the password.
COMPONENT = """
const shadow = main.attachShadow({ mode: "open" });
const search = field("search", "text"), user = field("login", "text"), password = field("secret", "password");
const see = button("Show"), go = Object.assign(document.createElement("div"), { role: "button" });
go.textContent = "Log in";
const hidden = Object.assign(field("trap", "password"), { style: "position: absolute; left: -5000px" });
shadow.append(search, hidden, user, password, see, go);
see.addEventListener("click", () => { password.type = "text"; });
go.addEventListener("click", async () => {
  enter(await ask("/auth/session", { username: user.value, password: password.value }));
});
"""

# Somebody else sees the click: the server, which answers when the person clicks.
PERSON = """
const password = field("secret", "password"), come = button("Log in with a smile");
main.append(password, come);
come.addEventListener("click", async () => enter(await ask("/auth/smile")));
ask("/auth/click").then(() => come.click());
"""

# Nothing is sent before a box is ticked.
TERMS = """
const form = main.appendChild(document.createElement("form"));
const box = Object.assign(field("terms", "checkbox"), { required: true });
form.append(field("user", "text"), field("secret", "password"), box, button("Sign in"));
form.addEventListener("submit", (event) => { event.preventDefault(); ask("/auth/session"); });
"""

# Takes the password, and then wants more.
CODE = """
const form = main.appendChild(document.createElement("form"));
const user = field("user", "text"), password = field("secret", "password");
form.append(user, password, button("Sign in"));
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await ask("/auth/first", { username: user.value, password: password.value });
  const second = document.createElement("form");
  second.append(field("code", "text"), button("Verify"));
  second.addEventListener("submit", (event) => { event.preventDefault(); ask("/auth/code"); });
  form.replaceWith(second);
});
"""

SIGN_IN = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Sign in</title></head><body>
<form method="post" action="{action}"><input name="user"><input type="password" name="secret"><button>Go</button></form>
</body></html>"""


class ScriptedLogin(PageGateway):
    """A login page made by a script, at ``/login?return=…``.

    Args:
        script: Makes it.

    Attributes:
        clicked: The posts to ``/auth/click`` wait for it.
        value: What the next session cookie holds; by default something new.
    """

    def __init__(self, upstream, script, **options):
        super().__init__(upstream, **{"username": USERNAME, "password": PASSWORD, **options})
        self.script = script
        self.clicked = False
        self.value = None

    def page(self, request, back):
        """See `PageGateway.page`."""
        base = json.dumps(self.prefix)
        return _page(SCRIPT % (base, base, self.script))

    def new_session(self):
        """See `Gateway.new_session`."""
        if self.value is None:
            return super().new_session()
        self.sessions.add(self.value)
        return self.value

    async def own(self, request, body):
        """See `Gateway.own`."""
        path = request.path.removeprefix(self.prefix)
        if path == "/login":
            return self.page(request, "/")
        if not path.startswith("/auth/"):
            return None
        if path == "/auth/click":
            await self.until(lambda: self.clicked)
        if path == "/auth/session":
            wanted = {"username": self.username, "password": self.password}
            return await self._try(right=json.loads(body) == wanted)
        if path == "/auth/smile":
            return await self._try(right=self.clicked)
        return web.json_response({})

    async def click(self):
        """Do what the person does."""
        self.clicked = True
        await self.tell()

    async def _try(self, *, right):
        if not await self.logging_in(right=right):
            return web.json_response({}, status=403)
        return web.json_response({}, headers=[self.set_cookie(self.new_session())])


class PlainLogin(PageGateway):
    """A form in HTML, the way that single sign-on has it: it may lead elsewhere at every step.

    Args:
        page_at: Where the page is: a url of another host; by default here.
        action: Where its form goes; by default here.
        onward: Where a form that is posted here is sent on to, with 307.
    """

    def __init__(self, upstream, *, page_at=None, action=None, onward=None, **options):
        super().__init__(upstream, **{"username": USERNAME, "password": PASSWORD, **options})
        self.page_at = page_at
        self.action = action
        self.onward = onward
        self.tickets = set()

    def refuse(self, request):
        """See `Gateway.refuse`."""
        if self.page_at is None:
            return super().refuse(request)
        return web.Response(status=302, headers={"Location": f"{self.page_at}?back={self.url}/auth/ticket"})

    def page(self, request, back):
        """See `PageGateway.page`."""
        return _page(SIGN_IN.format(action=self.action or f"{self.prefix}/login"))

    async def own(self, request, body):
        """See `Gateway.own`."""
        path = request.path.removeprefix(self.prefix)
        if path == "/auth/ticket":
            return await self._enter(right=request.query.get("ticket") in self.tickets)
        if path != "/login":
            return None
        if request.method != "POST":
            return self.page(request, "/")
        if self.onward is not None:
            return web.Response(status=307, headers={"Location": self.onward})
        form = await request.post()
        assert "seen" in raw_cookies(request)
        return await self._enter(right=(form["user"], form["secret"]) == (self.username, self.password))

    async def _enter(self, *, right):
        if not await self.logging_in(right=right):
            return web.Response(status=303, headers={"Location": f"{self.prefix}/login"})
        return web.Response(status=303, headers=[("Location", f"{self.prefix}/"), self.set_cookie(self.new_session())])


class SignOn(Site):
    """A single sign-on: its page at ``/sign-on?back=…`` takes the password, and leads back with a ticket."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gateway = None

    async def respond(self, request, seen):
        """See `Site.respond`."""
        if request.method != "POST":
            page = SIGN_IN.format(action=f"/sign-on?back={request.query.get('back', '')}")
            headers = {"Set-Cookie": "signed_on=no; Path=/"}
            return web.Response(text=page, content_type="text/html", headers=headers)
        form = await request.post()
        ticket = secrets.token_hex(8)
        if self.gateway is not None and (form["user"], form["secret"]) == (USERNAME, PASSWORD):
            self.gateway.tickets.add(ticket)
        return web.Response(status=303, headers={"Location": f"{request.query['back']}?ticket={ticket}"})


def _page(text):
    """With a cookie, as most servers have one for everybody: it lets nobody in."""
    headers = {"Set-Cookie": f"seen={secrets.token_hex(4)}; Path=/"}
    return web.Response(text=text, content_type="text/html", headers=headers)
