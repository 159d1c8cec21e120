"""Connections that check the address of the peer and keep deadlines that no slow server extends.

A timeout of a socket limits one ``recv``: a server that sends a byte a second never meets it. So
the head of a response has one deadline, and so has each wait for a piece of its body (chunk sizes
and trailers included). Both need a urllib3 connection class: a pool builds its connections from
the public attribute ``ConnectionCls``. The check is made on the connected peer, because a name may
resolve to another address after an earlier check (DNS rebinding).
"""

from __future__ import annotations

import http.client
import io
import logging
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection

from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.http.addresses import AddressPolicy, refused_inside

MAX_HEADERS = 1000
"""Number of header fields in a response, at most; http.client takes 100 only, and some portals
behind several gateways send more."""

MAX_HEAD_BYTES = 1 << 20
"""Bytes of the head of a response, interim responses included, at most: lines of 64 KiB are
allowed, and a thousand of them for each transfer would fill the memory."""
TLS_RECORD_BYTES = 16 * 1024
"""Bytes of a TLS record at most (RFC 8446 section 5.1), which is what one ``recv`` returns."""
GATHER_MS = 20
"""Milliseconds without a new record after which those that arrived are handed on: one by one they
cost a third of the processor time of a transfer, and progress must not wait for a full piece."""

# Python 3.15 has a public parameter for it (max_response_headers); earlier ones only this constant.
http.client._MAXHEADERS = MAX_HEADERS  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Watch:
    """Limits of a connection."""

    policy: AddressPolicy | None
    """Decides which IP addresses a host may have; None allows all."""
    stall_seconds: float
    """Longest wait for a piece of a body, in seconds."""
    calls: Calls
    """Records which socket a thread waits on."""


class _DeadlineReader(io.RawIOBase):
    """Reads of a socket that end at a deadline, however many of them there are."""

    left_bytes: float = MAX_HEAD_BYTES
    """Bytes that may still come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._broken: OSError | None = None
        self.limit(sock.gettimeout())

    @property
    def is_tls(self) -> bool:
        """Return whether bytes come in TLS records."""
        return isinstance(self._sock, ssl.SSLSocket)

    def limit(self, seconds: float | None) -> None:
        """Begin a wait of this many seconds; None has no end."""
        self._deadline = float("inf") if seconds is None else time.monotonic() + seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the buffered reader that http.client wants of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._broken is not None:
            raise self._broken
        left_s = self._deadline - time.monotonic()
        # 0 would make the socket non-blocking (socket.settimeout).
        self._sock.settimeout(None if left_s == float("inf") else max(left_s, 0.001))
        size = self._raw.readinto(buffer)
        self.left_bytes -= size or 0
        if self.left_bytes < 0:
            raise http.client.LineTooLong("head")
        return size

    def read_records(self, room: memoryview) -> int:
        """Read the TLS records that arrive without a pause; return their bytes."""
        sock, size = self._sock, 0
        assert isinstance(sock, ssl.SSLSocket)  # noqa: S101 - is_tls was checked
        arrived = select.poll()
        arrived.register(sock, select.POLLIN)
        sock.settimeout(0.0)
        while size < len(room):
            try:
                count = sock.recv_into(room[size:])
            except ssl.SSLWantReadError:
                if not arrived.poll(GATHER_MS):
                    break
                continue
            except OSError as error:
                # Raised by the next read: the bytes that arrived before are not lost.
                self._broken = error
                break
            if not count:
                break
            size += count
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose head, and each piece of whose body, arrives before a deadline."""

    def __init__(self, stall_seconds: float, sock: socket.socket, *args: Any, **more: Any) -> None:
        # The timeout of the socket is now that of the first byte: it covers the whole head.
        self._reader, self._stall_seconds = _DeadlineReader(sock), stall_seconds
        super().__init__(self._reader, *args, **more)  # type: ignore[arg-type]  # it has makefile

    def begin(self) -> None:
        super().begin()
        # Interim responses such as 103 Early Hints come before the final one (RFC 9110 section
        # 15.2); http.client skips 100 only.
        while 101 < self.status < 200:
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        self._reader.left_bytes = float("inf")

    def read1(self, n: int = -1) -> bytes:
        self._reader.limit(self._stall_seconds)
        if not (self._reader.is_tls and self.length and n > TLS_RECORD_BYTES):
            return super().read1(n)
        piece = bytearray(min(n, self.length))
        with memoryview(piece) as room:
            size = self.fp.readinto1(room)
            size += self._reader.read_records(room[size:]) if size else 0
            self.length -= size
            return bytes(room[:size])


class _Watched(HTTPConnection):
    """A connection with the limits of a :class:`Watch`; mixed into a class of urllib3."""

    def __init__(self, *args: Any, watch: Watch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch
        self.response_class = partial(_Response, watch.stall_seconds)  # type: ignore[assignment]

    def connect(self) -> None:
        self._watch.calls.connecting(done=False)
        super().connect()
        self._watch.calls.connecting(done=True)

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        policy = self._watch.policy
        # Behind a proxy the peer is the proxy, which the environment of the user names.
        is_direct = self.proxy is None and not hasattr(self, "_socks_options")
        peer = sock.getpeername()[0]
        if is_direct and policy and not policy.may_reach(self.host, int(self.port), peer):
            sock.close()
            raise refused_inside(self.host)
        self._watch.calls.watch(sock)
        return sock

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().request(method, self._watch.calls.exact(url), *args, **kwargs)

    def getresponse(self) -> Any:
        self._watch.calls.watch(self.sock)
        return super().getresponse()


def watched(base: Any, watch: Watch) -> Callable[..., HTTPConnection]:
    """Return the ``ConnectionCls`` for a pool whose connections were of class ``base``."""
    return partial(type(f"Watched{base.__name__}", (_Watched, base), {}), watch=watch)


class _NoPaths(logging.Filter):
    """Removes paths and queries from urllib3's debug lines.

    A query may hold a signature, and the path of a webhook is the secret of most services.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                "/..." if isinstance(arg, str) and arg.startswith("/") else arg
                for arg in record.args
            )
        return True


_NO_PATHS = _NoPaths()


def hide_paths() -> None:
    """Remove paths from the log lines of urllib3. Idempotent."""
    # ``addFilter`` ignores a filter that a logger already has (Lib/logging).
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_NO_PATHS)
