"""A proxy that opens tunnels, and knows nothing of what goes through them."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class TunnelProxy:
    """Answers CONNECT with a tunnel to where it leads."""

    def __init__(self) -> None:
        """Prepare; ``with`` begins to listen."""
        self.heads: list[str] = []
        """Of the requests, as they came."""
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Drop everything."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                self._sockets.append(inner)
                threading.Thread(target=self._open, args=[inner], daemon=True).start()

    def _open(self, inner: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += inner.recv(1)
        self.heads.append(head.decode())
        host, _, port = head.split()[1].decode().partition(":")
        outer = socket.create_connection((host, int(port)))
        self._sockets.append(outer)
        inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pump, args=[outer, inner], daemon=True).start()
        pump(inner, outer)


class SocksProxy(TunnelProxy):
    """A SOCKS 5 proxy without a login (RFC 1928), which leads every connection to one port."""

    def __init__(self, port: int) -> None:
        """Prepare; ``heads`` gets the names that are wanted."""
        super().__init__()
        self._port = port

    def _open(self, inner: socket.socket) -> None:
        inner.recv(3)
        inner.sendall(b"\x05\x00")
        request = inner.recv(512)
        self.heads.append(request[5 : 5 + request[4]].decode())
        outer = socket.create_connection(("127.0.0.1", self._port))
        self._sockets.append(outer)
        inner.sendall(b"\x05\x00\x00\x01" + bytes(6))
        threading.Thread(target=pump, args=[outer, inner], daemon=True).start()
        pump(inner, outer)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way until that way ends, and then end it there too."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
