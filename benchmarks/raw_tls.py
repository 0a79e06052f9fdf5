"""The bound of everything that travels: a mutually authenticated TLS 1.3 connection over the loopback.

Blocking sockets, the serving end in a second thread, the same kind of certificates as between nodes.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from transport.identity import Identity

Serve = Callable[[ssl.SSLSocket], None]
"""Serves one connection until it returns; then the connection is closed."""

_LOOPBACK = ("127.0.0.1", 0)


@contextmanager
def connected(
    server: Identity, client: Identity, folder: Path, serve: Serve
) -> Iterator[ssl.SSLSocket]:
    """The client's end of a connection that `serve` works on in a thread; raises what `serve` raised."""
    server_context = _context(ssl.PROTOCOL_TLS_SERVER, server, folder)
    client_context = _context(ssl.PROTOCOL_TLS_CLIENT, client, folder)
    with socket.create_server(_LOOPBACK) as door, ThreadPoolExecutor(1) as thread:
        serving = thread.submit(_serve_one, door, server_context, serve)
        with (
            socket.create_connection(door.getsockname()) as plain,
            client_context.wrap_socket(plain) as secure,
        ):
            secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield secure
        serving.result()


def _serve_one(door: socket.socket, context: ssl.SSLContext, serve: Serve) -> None:
    plain, _ = door.accept()
    with plain, context.wrap_socket(plain, server_side=True) as secure:
        secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(secure)


def _context(protocol: "ssl._SSLMethod", identity: Identity, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.authority)
    key = Ed25519PrivateKey.from_private_bytes(identity.seed)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / f"{protocol.name}.pem"  # the ssl module reads keys from files only
    file.touch(mode=0o600)
    file.write_bytes(pem + ssl.DER_cert_to_PEM_cert(identity.certificate).encode())
    context.load_cert_chain(file)
    return context
