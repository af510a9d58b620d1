"""Certificates that nobody vouches for: shown, and trusted if the person at the terminal says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.auth.tls import TLS, fetch_certificate
from comfyclient.cli.running import run_for
from comfyclient.errors import CertificateUntrusted

if TYPE_CHECKING:
    from yarl import URL

    from comfyclient.auth.tls import SeenCertificate
    from comfyclient.cli.app import App

__all__ = ["decide", "facts_of"]

_TIMEOUT: Final = 15.0


def decide(app: App, base: URL, *, pinned: str | None = None) -> TLS | None:
    """Show the certificate of an instance, and ask whether to trust it.

    Args:
        app: The application.
        base: The instance.
        pinned: The fingerprint that it had before.

    Returns:
        What trusts it from now on; ``None`` if the system does so by now.

    Raises:
        CertificateUntrusted: It is not to be trusted, or there is nobody to ask.
        InstanceUnavailable: It cannot be seen.
    """
    seen = run_for(app, lambda: fetch_certificate(base.host or "", base.port or 443, timeout=_TIMEOUT))
    if seen.verified:
        app.note(f"{base.origin()}: this system trusts the certificate; no other has to be trusted by hand any more")
        return None
    changed = pinned is not None
    what = (
        "has another certificate than before" if changed else f"has a certificate that is not trusted ({seen.problem})"
    )
    if not app.stdin_is_terminal:
        raise _untrusted(base, what, seen)
    app.tell("\n".join([f"{base.origin()} {what}", *(f"  {name:<12} {value}" for name, value in facts_of(seen))]))
    if changed:
        app.tell("  if the instance was not set up anew, somebody may sit in between")
    app.tell(
        "  the fingerprint is right if the instance shows the same: openssl x509 -noout -fingerprint -sha256 -in FILE"
    )
    if not app.confirm("trust this certificate from now on?"):
        raise _untrusted(base, what, seen)
    return TLS(fingerprint=seen.fingerprint)


def facts_of(seen: SeenCertificate) -> list[tuple[str, str]]:
    """What a certificate says about itself, in lines for people."""
    facts = [("fingerprint", seen.fingerprint)]
    if seen.subject or seen.issuer:
        by = "itself" if seen.issuer == seen.subject else seen.issuer or "unknown"
        facts.append(("name", f"{seen.subject or 'none'}, signed by {by}"))
    if seen.not_before is not None and seen.not_after is not None:
        facts.append(("valid", f"{seen.not_before:%Y-%m-%d} to {seen.not_after:%Y-%m-%d}"))
    return facts


def _untrusted(base: URL, what: str, seen: SeenCertificate) -> CertificateUntrusted:
    return CertificateUntrusted(
        f"{base.origin()} {what}; its fingerprint is {seen.fingerprint}",
        fingerprint=seen.fingerprint,
        hint=f"if that is the instance's own, trust it: --tls-fingerprint {seen.fingerprint}",
    )
