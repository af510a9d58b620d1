"""Ears where nothing should be heard: on the wire to a stranger, in errors, in logs, on the screen."""

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
import traceback
from pathlib import Path

from hypothesis import strategies as st

from .sniffer import found

MARK = "Kq7ZxW"  # makes a secret one that turns up nowhere by chance
_AWKWARD = (
    "a.*[b]+(c)$", "it's \"so\"", "100%25 %41%zz%", "QUJDREVGR0g=", " spaced  out ", "ünïcödé", "日本語🎉",
    "\\u00e9\\", "a+b/c==",
    "</script>&amp;", "{}{0}%s%(x)s", "a=b; c=d", "\\", "\\n", "***", "bearer", "Basic ",
)  # fmt: skip
_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(_AWKWARD)

# What people choose as passwords, and programs make: no control characters, which no header carries.
secrets = st.builds("{}{}{}".format, _texts, st.just(MARK), _texts)

SERVERS = {"aiohttp.server", "aiohttp.web", "aiohttp.access"}  # which are those of the tests
LOGGERS = ("comfyclient", "aiohttp", "asyncio", "websockets", "concurrent")


class Ear:
    """A stranger at an address of its own, for the time of an ``async with``. It takes every connection.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        heard: What came in over each connection: of a TLS client its hello, since nobody answers.
    """

    async def __aenter__(self):
        self.heard = []
        self._writers = set()
        self._server = await asyncio.start_server(self._listen, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def at(self, scheme, host="127.0.0.1"):
        """Its url."""
        return f"{scheme}://{host}:{self.port}"

    async def _listen(self, reader, writer):
        self.heard.append(said := bytearray())
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                said.extend(data)
                if b"\r\n\r\n" in data or data[:1] == b"\x16":
                    break  # as much as it takes to know
        self._writers.discard(writer)
        writer.transport.abort()


class Overheard:
    """What anybody could read while it is entered: all loggers at their loudest, and the error stream.

    Args:
        gateway: There is a `Gateway`, whose own websockets are logged by their library.

    Attributes:
        texts: All of it. What else is to be looked at is added with `note`.
    """

    def __init__(self, *, gateway=False):
        self.texts = []
        self._others = SERVERS | ({"websockets.client"} if gateway else set())
        self._stream = io.StringIO()
        self._undo = contextlib.ExitStack()

    def __enter__(self):
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(args)s"))
        handler.addFilter(lambda record: record.name not in self._others)
        root = logging.getLogger()
        root.addHandler(handler)
        self._undo.callback(root.removeHandler, handler)
        for logger in (root, *_loggers()):
            self._undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.DEBUG)
        self._undo.enter_context(contextlib.redirect_stderr(self._stream))
        return self

    def __exit__(self, *_):
        self._undo.close()
        self.texts.append(self._stream.getvalue())

    def note(self, *things):
        """Look at these as well, as people and programs show them."""
        for thing in things:
            self.texts += told(thing) if isinstance(thing, BaseException) else [str(thing), repr(thing), f"{thing}"]

    def betrays(self, *secrets):
        """The lines that give one of the secrets away, cut short; empty if all is well."""
        lines = set("\n".join(self.texts).splitlines())
        if not any(gives_away("\n".join(lines), secret) for secret in secrets):
            return []
        return [line[:1000] for line in sorted(lines) for secret in secrets if gives_away(line, secret)] or ["?"]


async def in_another_process(ca_file, *steps, **environment):
    """Have a client do the steps in a process whose system trusts that CA; what came of each.

    See `trusting_process`.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("trusting_process.py"))),
        env={"SSL_CERT_FILE": str(ca_file), "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(steps).encode())
    assert process.returncode == 0
    return json.loads(out)


def told(error):
    """All that an error says, to people and programs."""
    texts = [str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error))]
    texts.append(repr(getattr(error, "hint", None)))
    if hasattr(error, "to_json"):
        body = error.to_json()
        texts += [repr(body), json.dumps(body), json.dumps(body, ensure_ascii=False)]
    return texts


def gives_away(text, secret):
    """Whether the secret can be read off the text: as it is, percent-encoded, in base64, as JSON has it.

    Of one that was made for that, a part is enough, which no encoding of texts changes.
    """
    if MARK in secret and MARK in text:
        return True
    try:
        secret.encode()
    except UnicodeEncodeError:  # bytes that are no text, which nothing encodes
        return any(form in text for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]))
    wire = text.encode("utf-8", "surrogatepass")
    return any(found(wire, form) for form in {secret, secret.strip()})


def _loggers():
    named = logging.root.manager.loggerDict.items()
    return [
        logger for name, logger in named if isinstance(logger, logging.Logger) and name.partition(".")[0] in LOGGERS
    ] + [logging.getLogger(name) for name in LOGGERS]
