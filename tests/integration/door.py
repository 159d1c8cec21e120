"""A door to a server that can be shut: no connection is made through it then."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from tests.integration.tunnel import pump


class Door:
    """Listens on a port of its own, and carries bytes to another one of this machine."""

    def __init__(self, port: int) -> None:
        """Reserve a port, on which connections are refused until the door is opened."""
        self.target = port
        self._listener = self._bound(0)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}"
        self._sockets: list[socket.socket] = []

    @staticmethod
    def _bound(port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def open(self) -> None:
        """Take connections from now on."""
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Break all connections, and refuse new ones until the door is opened again."""
        port = self._listener.getsockname()[1]
        self.__exit__()
        self._sockets.clear()
        self._listener = self._bound(port)

    def __enter__(self) -> Self:
        """Keep it for a block."""
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
                outer = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [inner, outer]
                for pair in ((inner, outer), (outer, inner)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
