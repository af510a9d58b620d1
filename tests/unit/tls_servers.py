"""TLS servers on loopback that write down each byte they are told after the handshake, and certificates for them."""

import base64
import contextlib
import datetime as dt
import hashlib
import queue
import re
import socket
import ssl
import threading
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def self_signed(name="vast.example", *, not_before=NOW - DAY, not_after=NOW + DAY, attributes=None):
    """A certificate that nobody vouches for: (DER, PEM with its key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) if attributes is None else attributes
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    return certificate.public_bytes(serialization.Encoding.DER), pem


def der_of(pem):
    return ssl.PEM_cert_to_DER_cert(re.search(r"-----BEGIN CERT.*?END CERTIFICATE-----", pem.decode(), re.DOTALL)[0])


@dataclass(frozen=True)
class Connection:
    """What came in over one connection."""

    handshake: bool
    said: bytes


class Recorder:
    """A server of one certificate. `connection` waits for the end of the next connection."""

    def __init__(self, pem, folder, *, version=None, plain=False):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.plain = plain
        if version is not None:
            self.context.maximum_version = version
        self.folder = folder
        self.show(pem)
        self._ended = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def show(self, pem):
        """Show that certificate from now on."""
        path = self.folder / "server.pem"
        path.write_bytes(pem)
        self.context.load_cert_chain(path)
        self.der = der_of(pem)

    def connection(self):
        return self._ended.get(timeout=30)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw:
                raw.settimeout(30)
                self._ended.put(self._attend(raw))

    def _attend(self, raw):
        if self.plain:
            said = raw.recv(65536)
            raw.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return Connection(False, said)
        try:
            secured = self.context.wrap_socket(raw, server_side=True)
        except OSError:
            return Connection(False, b"")
        with secured:
            return Connection(True, _converse(secured))


def _converse(secured):
    """Answer requests for pages and for a websocket until the other side has enough."""
    said = b""
    with contextlib.suppress(OSError):  # a reset ends it like any other end
        while data := secured.recv(65536):
            said += data
            if said.endswith(b"\r\n\r\n"):
                secured.sendall(_answer(said))
            elif b"\r\n\r\n" in said:
                break  # a frame: the websocket is being closed
    return said


def _answer(request):
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    if key is None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )
