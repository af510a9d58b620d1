"""What ``comfyclient serve`` does."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import signal
import sys
from typing import TYPE_CHECKING, Final

from comfyclient._redact import Secret
from comfyclient.cli.journals import is_on
from comfyclient.cli.secretfiles import SecretFiles
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from comfyclient.api.keys import ApiKeys
    from comfyclient.api.settings import ApiSettings, Limits
    from comfyclient.cli.app import App
    from comfyclient.cli.serve import ServeOptions

__all__ = ["run", "serve_on"]

_NEEDED: Final = ("fastapi", "uvicorn", "prometheus_client", "fastapi_offline")
_KEY: Final = "COMFYCLIENT_SERVE_API_KEY"
_WEBHOOKS: Final = "COMFYCLIENT_WEBHOOK_SECRET"
_OWNER: Final = "default"
"""Whose the key of the environment is."""


def run(app: App, options: ServeOptions) -> int:
    """Serve until a signal comes.

    Raises:
        ConfigError: The options make no sense, it must not or cannot listen there, or what it needs is not installed.
    """
    if not all(importlib.util.find_spec(name) for name in _NEEDED):
        raise ConfigError("the REST API is not installed", hint="pip install 'comfyclient[api]'")
    from comfyclient.api.listening import listen

    keys = _keys(app, options)
    sockets = listen(options.host, options.port, keys)
    try:
        if options.reload:
            return _serve_again_and_again(app, options, sockets)
        return _serve(app, _settings(app, options, keys, sockets), options, sockets)
    finally:
        for sock in sockets:
            sock.close()


def serve_on(options: ServeOptions, sockets: Sequence[socket.socket]) -> None:
    """What a process does that ``--reload`` starts: serve on the sockets of the one that started it."""
    from comfyclient.cli.app import App
    from comfyclient.cli.failures import report

    app = App.of_process()
    try:
        keys = _keys(app, options)
        code = _serve(app, _settings(app, options, keys, sockets), options, sockets)
    except Exception as error:  # noqa: BLE001 - the border of this process
        code = report(app, error, ())
    sys.exit(code)


def _serve(app: App, settings: ApiSettings, options: ServeOptions, sockets: Sequence[socket.socket]) -> int:
    from comfyclient.api.logs import logging_to
    from comfyclient.api.server import serve

    def listening(url: str) -> None:
        app.print(url)
        app.flush()
        if not settings.keys:
            app.note("there is no API key: whoever can log in on this machine can use it")
        app.note(f"{url}/docs shows and tries its calls; Ctrl-C stops it")

    with logging_to(app.stderr, verbosity=app.verbosity, access=options.access_log):
        code = serve(
            settings, sockets=sockets, forwarded_allow_ips=options.forwarded_allow_ips, listening=listening,
            leave=app.leave,
        )  # fmt: skip
    if app.owns_process:  # one more must not become how this process ended
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return code


def _serve_again_and_again(app: App, options: ServeOptions, sockets: list[socket.socket]) -> int:
    from pathlib import Path

    import uvicorn
    from uvicorn.supervisors import ChangeReload

    import comfyclient
    from comfyclient.api.logs import logging_to

    folder = Path(comfyclient.__file__).parent
    # The application is made by the process that serves it; this one only watches files.
    config = uvicorn.Config("", log_config=None, reload=True, reload_dirs=[str(folder)])
    target = functools.partial(serve_on, dataclasses.replace(options, drain=0.0))
    with logging_to(app.stderr, verbosity=app.verbosity):
        ChangeReload(config, target=target, sockets=sockets).run()
    return 0


def _settings(app: App, options: ServeOptions, keys: ApiKeys, sockets: Sequence[socket.socket]) -> ApiSettings:
    from comfyclient.addresses import Addresses
    from comfyclient.api.origins import normal_origin
    from comfyclient.api.settings import ApiSettings

    own = [sock.getsockname()[:2] for sock in sockets]
    return ApiSettings(
        host=options.host,
        port=own[0][1],
        keys=keys,
        basic=options.basic,
        hosts=frozenset(map(_host, options.allow_host)),
        origins=frozenset(map(normal_origin, options.allow_origin)),
        addresses=Addresses(allow=options.allow_address, deny_private=options.deny_private, own=own),
        workflows=_folder(app, options.workflows),
        journal=app.journal_folder() / "serve" if options.journal and is_on(app) else None,
        webhook_secret=_webhook_secret(app, options),
        drain=options.drain,
        limits=_limits(options),
    )


def _host(name: str) -> str:
    if not name.strip() or not name.isprintable() or any(char in name for char in " /@?#"):
        hint = "the name that callers write into the url, if need be with its port: comfy.example"
        raise ConfigError(f"--allow-host: {name!r} is no name of a host", hint=hint)
    return name


def _limits(options: ServeOptions) -> Limits:
    from comfyclient.api.settings import Limits

    usual = Limits()
    sessions, rate = options.max_sessions or usual.sessions, options.rate or usual.rate
    return dataclasses.replace(usual, sessions=sessions, rate=rate, idle=options.idle)


def _keys(app: App, options: ServeOptions) -> ApiKeys:
    from comfyclient.api.keys import ApiKeys

    if options.api_key_file is not None:
        return ApiKeys.read(app.path(options.api_key_file))
    key = _of_environment(app, _KEY)
    if not key and options.basic:
        raise ConfigError("--basic needs a key to be the password", hint=f"give --api-key-file FILE, or {_KEY}")
    return ApiKeys.of({_OWNER: key} if key else {})


def _webhook_secret(app: App, options: ServeOptions) -> Secret | None:
    if options.webhook_secret_file is not None:
        return Secret(SecretFiles(app).read(str(options.webhook_secret_file), "--webhook-secret-file"))
    given = _of_environment(app, _WEBHOOKS)
    return Secret(given) if given else None


def _of_environment(app: App, name: str) -> str | None:
    """A secret of the environment, or of the file that it names: so systemd and containers hand them over."""
    given, file = app.environ.get(name), app.environ.get(f"{name}_FILE")
    if given and file:
        raise ConfigError(f"{name} and {name}_FILE are both set", hint="set one of the two")
    return SecretFiles(app).read(file, f"{name}_FILE") if file else given


def _folder(app: App, given: Path | None) -> Path | None:
    if given is None:
        return None
    folder = app.path(given)
    if not folder.is_dir():
        raise ConfigError(f"--workflows: {given} is no folder")
    return folder.resolve()
