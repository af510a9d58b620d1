"""Self-signed certificates, like those of rented machines: made on the spot by the openssl command."""

import asyncio
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate and its key."""

    certificate: Path
    key: Path

    def context(self):
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


async def self_signed(folder, *, names=()):
    """A new certificate in ``folder``. ``names`` are as openssl writes them, ``IP:127.0.0.1`` or ``DNS:localhost``.

    Without names it is like vast's: no client finds the host in it.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("needs the openssl command: apt-get install openssl")
    made = Certificate(Path(folder, "instance.crt"), Path(folder, "instance.key"))
    arguments = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", made.key]
    arguments += ["-days", "2", "-subj", "/CN=instance", "-out", made.certificate]
    if names:
        arguments += ["-addext", f"subjectAltName={','.join(names)}"]
    process = await asyncio.create_subprocess_exec(
        openssl, "req", "-x509", *arguments, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"openssl failed: {errors.decode()}")
    return made
