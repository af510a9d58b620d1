"""Debian's Caddy as a process of a test's own."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections import deque
from pathlib import Path

import pytest

from .certificates import Certificate, self_signed

START_SECONDS = 30


class Caddy:
    """A Caddy that runs for the time of an ``async with``; its files go into a folder that is removed with it.

    Args:
        caddyfile: Its configuration. Sites listen at ``:{$PORT}`` with ``bind {$HOST}``; TLS ones find a certificate at
            ``{$CERTIFICATE}`` and ``{$KEY}``. It should say ``admin off``.
        host: The address to listen on.
        certificate: For https: what to show; by default a new self-signed one without any name in it.
        scheme: Of `url`.

    Attributes:
        port: A free one, which it keeps through `restart`.
        certificate: What it shows over https.
        log: The last lines that it wrote.
    """

    def __init__(self, caddyfile, *, host="127.0.0.1", scheme="http", certificate: Certificate | None = None):
        self.caddyfile = caddyfile
        self.host = host
        self.scheme = scheme
        self.certificate = certificate
        self.log = deque(maxlen=200)
        self._process = None

    @property
    def url(self):
        """Where it listens, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def folder(self):
        """Where its files are."""
        return Path(self._folder.name)

    @property
    def pid(self):
        """Its process."""
        return self._process.pid

    async def __aenter__(self):
        self._binary = shutil.which("caddy") or pytest.skip("needs Caddy: apt-get install caddy")
        self._folder = tempfile.TemporaryDirectory(prefix="comfyclient-caddy-")
        self._reserved = _reserve(self.host)
        self.port = self._reserved.getsockname()[1]
        try:
            if self.scheme == "https" and self.certificate is None:
                self.certificate = await self_signed(self.folder)
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        await self.stop()
        self._reserved.close()
        self._folder.cleanup()

    async def restart(self, caddyfile=None):
        """Start again at the same port, with another configuration if one is given."""
        await self.stop()
        self.caddyfile = caddyfile or self.caddyfile
        await self._start()

    async def stop(self):
        """End it at once: it holds nothing worth an orderly end. The port stays reserved."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader
        self._process = None

    async def _start(self):
        written = self.folder / "Caddyfile"
        written.write_text(self.caddyfile, encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *("run", "--config", str(written), "--adapter", "caddyfile"),
            env=self._environment(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        serving = asyncio.Event()
        self._reader = asyncio.create_task(self._read_log(serving))
        async with asyncio.timeout(START_SECONDS):
            await serving.wait()
        if self._process.stderr.at_eof():
            raise RuntimeError(f"Caddy ended: {self.log[-1] if self.log else 'it wrote nothing'}")
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.close()
        await writer.wait_closed()

    async def _read_log(self, serving):
        """Keep its log, all the time: it would wait for a reader of a full pipe."""
        async for line in self._process.stderr:
            self.log.append(line.decode(errors="replace").rstrip())
            if b'"serving initial configuration"' in line:
                serving.set()
        serving.set()

    def _environment(self):
        folder = str(self.folder)
        mine = {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        mine |= {"HOST": self.host, "PORT": str(self.port)}
        if self.certificate is not None:
            mine |= {"CERTIFICATE": str(self.certificate.certificate), "KEY": str(self.certificate.key)}
        return {"PATH": os.environ.get("PATH", "")} | mine


def _reserve(host):
    """A socket that keeps a port free for Caddy, which shares ports (SO_REUSEPORT). It never listens."""
    kept = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind((host, 0))
    return kept
