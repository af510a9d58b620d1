"""Checks of ``comfyclient doctor`` up to the login: name, connection, certificate, scheme, what answers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import socket
import ssl
from typing import TYPE_CHECKING, Final

from comfyclient._transport import Transport
from comfyclient.auth.detect.verdicts import Kind
from comfyclient.auth.probe import probe
from comfyclient.auth.session import unusable
from comfyclient.auth.tls import fetch_certificate
from comfyclient.cli.running import waiting_for
from comfyclient.cli.text import count
from comfyclient.errors import CertificateUntrusted, ComfyClientError

if TYPE_CHECKING:
    from yarl import URL

    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.tls import TLS, SeenCertificate
    from comfyclient.cli.app import App
    from comfyclient.cli.checks import Findings

__all__ = ["check_connection", "check_name", "check_there", "is_public", "wait"]

_TIMEOUT: Final = 10.0
_SOON: Final = dt.timedelta(days=7)


async def wait(app: App, base: URL, tls: TLS | None, seconds: float) -> None:
    """Wait until something answers that is more than a proxy, or the time is up."""

    async def look() -> None:
        there, verdict = await _probe(base, tls)
        if verdict.waits:
            raise unusable(verdict, there)

    with contextlib.suppress(ComfyClientError):  # the checks that follow say it
        await waiting_for(app, seconds, look)


async def check_name(findings: Findings, base: URL) -> list[str]:
    """The addresses of the host; none if it has none."""
    host = base.host or ""
    try:
        return [str(ipaddress.ip_address(host.partition("%")[0]))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, base.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        quick = host.endswith(".trycloudflare.com")
        hint = "such a tunnel has a new name each time that it starts" if quick else "is it spelled right?"
        findings.failed("name", f"there is no host {host}", hint)
        return []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    findings.ok("name", f"{host} is {', '.join(addresses)}")
    return addresses


def is_public(addresses: list[str]) -> bool:
    """Whether one of them can be reached from everywhere."""
    return any(ipaddress.ip_address(address.partition("%")[0]).is_global for address in addresses)


async def check_connection(app: App, findings: Findings, base: URL) -> bool:
    """Whether anybody listens."""
    where = f"{base.host}, port {base.port}"
    began = app.clock()
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(base.host, base.port)
    except ConnectionRefusedError:
        findings.failed(
            "connection",
            f"{where}: nobody listens there",
            "is ComfyUI running, and is it that port? does it listen on that address (--listen)?",
        )
        return False
    except TimeoutError:
        findings.failed("connection", f"{where}: no answer", "is the machine on? does a firewall keep the port closed?")
        return False
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "no connection"
        findings.failed("connection", f"{where}: {reason}", "is the address right, and is this machine online?")
        return False
    writer.transport.abort()
    findings.ok("connection", f"{where} answers in {1000 * (app.clock() - began):.0f} ms")
    return True


async def check_there(app: App, findings: Findings, base: URL, tls: TLS | None) -> tuple[URL, Verdict] | None:
    """The address as it should be, and what answers there; ``None`` if that is nothing to log in at."""
    if base.scheme == "https" and not await _check_tls(app, findings, base, tls):
        return None
    try:
        there, verdict = await _probe(base, tls)
        if there != base and not await _check_https(app, findings, there, tls):
            return None
    except CertificateUntrusted:  # http was asked for, and only https is spoken
        secure = base.with_scheme("https").with_port(443 if base.port == 80 else base.port)
        await _check_https(app, findings, secure, tls)
        return None
    except ComfyClientError as error:
        findings.error("ComfyUI", error)
        return None
    if not verdict.wants_login and verdict.kind is not Kind.OPEN:
        findings.error("ComfyUI", unusable(verdict, there))
        return None
    findings.ok("ComfyUI", f"there is {verdict.name}")
    return there, verdict


async def _probe(base: URL, tls: TLS | None) -> tuple[URL, Verdict]:
    transport = Transport(timeout=_TIMEOUT, tls=tls)
    try:
        return await probe(transport, base)
    finally:
        await transport.close()


async def _check_https(app: App, findings: Findings, there: URL, tls: TLS | None) -> bool:
    findings.warning("scheme", "it speaks https only, and the url says http", f"use {there}")
    return await _check_tls(app, findings, there, tls)


async def _check_tls(app: App, findings: Findings, base: URL, tls: TLS | None) -> bool:
    """Whether its certificate is trusted."""
    try:
        seen = await fetch_certificate(base.host or "", base.port or 443, timeout=_TIMEOUT)
        if tls is not None and tls.ca_file is not None:
            return await _check_ca(findings, base, tls)
    except ComfyClientError as error:
        findings.error("certificate", error)
        return False
    if tls is not None and tls.insecure:
        findings.warning(
            "certificate", "not checked (--insecure)", f"trust this one: --tls-fingerprint {seen.fingerprint}"
        )
        return True
    if tls is not None and tls.fingerprint is not None:
        return _check_pin(app, findings, base, seen, tls.fingerprint)
    if not seen.verified:
        findings.failed(
            "certificate",
            f"not trusted: {seen.problem}; its fingerprint is {seen.fingerprint}",
            f"comfyclient login {base} shows it and can trust it; so does --tls-fingerprint {seen.fingerprint}",
        )
        return False
    _check_dates(app, findings, seen, "this system trusts it")
    return True


def _check_pin(app: App, findings: Findings, base: URL, seen: SeenCertificate, pin: str) -> bool:
    if seen.fingerprint != pin:
        findings.failed(
            "certificate",
            f"not the one that is trusted: it has {seen.fingerprint}",
            f"if the instance was set up anew: comfyclient login {base}; if not, somebody may be in between",
        )
        return False
    expired = seen.not_after is not None and seen.not_after < app.now()
    past = "; it has expired, which does not matter here" if expired else ""
    findings.ok("certificate", f"the one that is trusted by its fingerprint{past}")
    return True


async def _check_ca(findings: Findings, base: URL, tls: TLS) -> bool:
    context = await asyncio.to_thread(tls.context)
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(
                base.host, base.port, ssl=context, server_hostname=base.host or ""
            )
    except ssl.SSLCertVerificationError as error:
        findings.failed(
            "certificate", f"not vouched for by the CA file: {error.verify_message}", "is it the right file?"
        )
        return False
    except OSError:
        findings.failed("certificate", "the connection broke while it was checked")
        return False
    writer.transport.abort()
    findings.ok("certificate", "vouched for by the CA file")
    return True


def _check_dates(app: App, findings: Findings, seen: SeenCertificate, text: str) -> None:
    if seen.not_after is None:
        findings.ok("certificate", text)
        return
    left = seen.not_after - app.now()
    until = f"{text}, until {seen.not_after:%Y-%m-%d}"
    if left < _SOON:
        findings.warning("certificate", f"{until}: {count(max(left.days, 0), 'day')} left", "it must be renewed there")
    else:
        findings.ok("certificate", until)
