"""A server on a real socket that says, byte for byte, what a test wrote down for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Write down one answer, with its Content-Length unless told otherwise."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Scripted:
    """Gives its answers in turn, the last one for ever; keeps connections open between them."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self._answers = list(answers)
        self._close = close
        self._lock = threading.Lock()
        self.requests: list[str] = []
        """Request heads, as they came."""
        self.connections: list[socket.socket] = []
        """Connections, in the order in which they were made."""
        self.sent = 0
        """Answers that went out whole."""

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Drop everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while head := self._head(connection):
                with self._lock:
                    self.requests.append(head)
                    said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                connection.sendall(said.replace(b"{url}", self.url.encode()))
                self.sent += 1
                if self._close:
                    connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _head(connection: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return ""
            data += piece
        return data.decode("latin-1")
