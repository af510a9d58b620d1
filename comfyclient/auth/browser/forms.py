"""Login forms in a browser's page, also those that scripts build: found, filled in, sent.

Everything happens inside one document, and each step checks again whose it is. A page that becomes another one in the
meantime gets nothing: the texts go with a script that only such a document runs, never to the keyboard.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from yarl import URL

if TYPE_CHECKING:
    from playwright.async_api import Frame

__all__ = ["Form", "fill", "find", "page_text", "send", "web_url"]

_FIND: Final = r"""
    const TYPED = ["text", "email", "tel"];
    const USER = /user|mail|login|account|uid|uname|nick|ident/i;
    const SEARCH = /search|query|filter/i;
    const GO = RegExp("log.?[io]n|sign.?[io]n|continue|next|enter|submit|anmelden|einloggen|weiter|connexion"
        + "|connecter|suivant|entrar|iniciar|acceder|accedi|avanti|войти|登录|登入|ログイン|次へ|로그인", "i");
    const OTHER = /forgot|reset|cancel|regist|sign.?up|create|show|hide|\b(with|via|using)\b/i;
    const BUTTON = "button, input[type=submit], input[type=image], input[type=button], [role=button]";
    const every = (root) => [...root.querySelectorAll("*")].flatMap(
        (one) => (one.shadowRoot ? [one, ...every(one.shadowRoot)] : [one]));
    const shown = (one) => {
        const box = one.getBoundingClientRect();
        return box.width > 1 && box.height > 1 && box.right + scrollX > 0 && box.bottom + scrollY > 0
            && one.checkVisibility({ opacityProperty: true, visibilityProperty: true,
                                     checkOpacity: true, checkVisibilityCSS: true })
            && !one.closest("[inert], [aria-hidden=true]");
    };
    const hint = (one) => (one.getAttribute("autocomplete") ?? "").toLowerCase();
    const named = (one) => /username|email/.test(hint(one)) || one.type === "email"
        || USER.test(`${one.name} ${one.id}`);
    const find = () => {
        const elements = every(document);
        const inputs = elements.filter((one) => one instanceof HTMLInputElement && shown(one));
        const free = inputs.filter((one) => !one.disabled && !one.readOnly);
        const passwords = inputs.filter((one) => one.type === "password");
        const typed = free.filter((one) => TYPED.includes(one.type) && !SEARCH.test(`${one.name} ${one.id}`));
        const password = passwords.find((one) => free.includes(one) && !hint(one).includes("new-password")
            && passwords.filter((other) => other.form === one.form).length === 1);
        if (password) {
            const near = typed.filter((one) => one.form === password.form);
            const before = near.filter((one) => inputs.indexOf(one) < inputs.indexOf(password));
            const user = before.findLast(named) ?? near.find(named) ?? before.at(-1) ?? null;
            return { elements, step: "password", field: password, user, password };
        }
        const user = passwords.length ? null
            : typed.find(named) ?? (typed.length === 1 && typed[0].form ? typed[0] : null);
        return user ? { elements, step: "username", field: user, user, password: null } : null;
    };
    const words = (one) => `${one.innerText ?? ""} ${one.value ?? ""} ${one.getAttribute("aria-label") ?? ""}`;
    const goes = (one) => GO.test(words(one)) && !OTHER.test(words(one));
    // What the Enter key would press; where no form says that, what reads like it, the nearest first.
    const button = ({ elements, field }) => {
        const buttons = elements.filter((one) => one.matches(BUTTON) && shown(one));
        if (field.form) {
            const own = buttons.filter((one) => one.form === field.form || field.form.contains(one));
            const submits = (one) => one.form === field.form && ["submit", "image"].includes(one.type);
            return own.find(submits) ?? own.find(goes) ?? null;
        }
        for (let around = field.parentNode; around; around = around.parentNode ?? around.host) {
            const found = buttons.find((one) => around.contains(one) && goes(one));
            if (found) return found;
        }
        return null;
    };
    const action = (found) => {
        const own = button(found)?.getAttribute("formaction") ?? found.field.form?.getAttribute("action");
        if (!own) return null;
        try { return new URL(own, document.baseURI).href; } catch { return "unreadable:"; }
    };
    const same = (wanted) => {
        if (location.origin !== wanted.origin) return null;
        const found = find();
        return found && found.step === wanted.step && action(found) === wanted.action ? found : null;
    };
"""
_LOOK: Final = (
    "() => {" + _FIND + "const found = find();"
    "return found && { origin: location.origin, step: found.step, action: action(found) }; }"
)
_FILL: Final = (
    "({ wanted, username, password }) => {"
    + _FIND
    + r"""
    const found = same(wanted);
    if (!found) return false;
    const write = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    const type = (field, text) => {
        if (!field || text === null) return;
        field.focus();
        write.call(field, text);
        const options = { bubbles: true, composed: true };
        for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, options));
        field.dispatchEvent(new KeyboardEvent("keyup", options));
    };
    type(found.user, username);
    type(found.password, password);
    return true;
}"""
)
_SEND: Final = (
    "async ({ wanted, patience }) => {"
    + _FIND
    + r"""
    const until = performance.now() + patience;
    let found = same(wanted), press = null;
    while (found) {  // scripts may let it be pressed a moment after the fields are full
        press = button(found);
        if (press && !press.disabled && press.getAttribute("aria-disabled") !== "true") break;
        if (performance.now() > until) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
        found = same(wanted);
    }
    if (!found || !found.field.value) return "changed";
    const { field } = found, { form } = field;
    if (press ? press.disabled : false) return "disabled";
    if (form && !form.noValidate && !form.checkValidity()) return "invalid";
    const enter = () => {
        const key = { key: "Enter", code: "Enter", keyCode: 13, which: 13, bubbles: true, composed: true,
                      cancelable: true };
        const heard = ["keydown", "keypress", "keyup"].map((name) => field.dispatchEvent(new KeyboardEvent(name, key)));
        if (form && !heard.includes(false) && form.getAttribute("method")?.toLowerCase() === "post") {
            form.requestSubmit();
        }
    };
    setTimeout(() => (press ? press.click() : enter()), 0);  // once this has been answered
    return "sent";
}"""
)
_BUTTON_PATIENCE: Final = 3.0  # seconds
_PATIENCE: Final = 2.0  # seconds; a document that is about to make place for another one does not answer


@dataclass(frozen=True, slots=True)
class Form:
    """What a document asks for.

    Attributes:
        frame: Where it is.
        origin: Of the document.
        step: ``"password"``: the password, and perhaps the user name; ``"username"``: that alone, the password later.
        action: Where the form says that it is sent; ``None`` if it does not say so.
        wanted: The same, for the scripts.
    """

    frame: Frame
    origin: URL
    step: Literal["password", "username"]
    action: URL | None = field(repr=False)
    wanted: dict[str, Any] = field(repr=False)


async def find(frame: Frame) -> Form | None:
    """The login form that the frame shows now; ``None`` without one, or while it loads."""
    found = await _evaluate(frame, _LOOK, None)
    if not isinstance(found, dict):
        return None
    origin = web_url(str(found.get("origin")))
    step, action = found.get("step"), found.get("action")
    if origin is None or step not in {"password", "username"}:
        return None
    return Form(frame, origin, step, web_url(str(action)) or URL() if action is not None else None, found)


async def fill(form: Form, username: str | None, password: str | None) -> bool:
    """Fill it in, if the frame still shows the same form of the same document; returns whether it does."""
    texts = {"wanted": form.wanted, "username": username, "password": password}
    return await _evaluate(form.frame, _FILL, texts) is True


async def send(form: Form) -> Literal["sent", "disabled", "invalid", "changed"]:
    """Send what is filled in, as a person would by the form's button or the Enter key.

    Returns:
        ``"sent"``, also if that cannot be known; ``"disabled"``: the button cannot be pressed; ``"invalid"``: the form
        says that fields are wrong; ``"changed"``: it is not there any more, and was not sent.
    """
    argument = {"wanted": form.wanted, "patience": _BUTTON_PATIENCE * 1000}
    answer = await _evaluate(form.frame, _SEND, argument, _BUTTON_PATIENCE + _PATIENCE)
    return answer if answer in {"disabled", "invalid", "changed"} else "sent"


async def page_text(form: Form) -> str | None:
    """The HTML that the form's document has become; ``None`` if it goes away."""
    text = await _evaluate(form.frame, "() => document.documentElement.outerHTML", None)
    return text if isinstance(text, str) else None


def web_url(text: str) -> URL | None:
    """The url; ``None`` if it is not http or https."""
    try:
        url = URL(text)
        usable = url.scheme in {"http", "https"} and bool(url.raw_host) and url.port is not None
    except ValueError:
        return None
    return url if usable else None


async def _evaluate(frame: Frame, script: str, argument: Any, seconds: float = _PATIENCE) -> Any:
    """What the script returns; ``None`` if the document goes away under it, or does not answer."""
    from playwright.async_api import Error

    try:
        async with asyncio.timeout(seconds):
            return await frame.evaluate(script, argument)
    except (Error, TimeoutError):  # the next look sees what is there instead, or that the browser is gone
        return None
