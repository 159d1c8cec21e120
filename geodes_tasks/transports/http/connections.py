"""Connections that watch where they lead and how long they stay silent.

requests knows one read timeout for both the wait for an answer and the silence within a body.
The waits differ (a portal may think for minutes, a body must not pause so long), so the socket's
timeout is lowered once the headers are in; urllib3 raises it again for the next request. A
urllib3 connection class is the public place for both this and the check of the peer: the pool
makes its connections from ``ConnectionCls``. Checking the connected peer, not a look-up made
before, leaves no gap for a name that resolves anew (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from geodes_tasks.transports.http.addresses import refused_inside

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from urllib3 import HTTPResponse

    from geodes_tasks.transports.abort import Calls
    from geodes_tasks.transports.http.addresses import AddressPolicy


@dataclass(frozen=True, slots=True)
class Watch:
    """What a connection keeps an eye on."""

    policy: AddressPolicy | None
    """Says which addresses a host may turn out to have; without one, any."""
    stall_seconds: float
    """Longest silence within a body."""
    calls: Calls
    """Learns which socket a thread waits on."""


class _Watched(HTTPConnection):
    def __init__(self, *args: Any, watch: Watch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def connect(self) -> None:
        self._watch.calls.connecting(done=False)
        super().connect()
        self._watch.calls.connecting(done=True)

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        try:
            self._judge(sock)
        except BaseException:
            sock.close()
            raise
        self._watch.calls.watch(sock)
        return sock

    def _judge(self, sock: socket.socket) -> None:
        policy = self._watch.policy
        # Behind a proxy the peer is the proxy, which the user's environment vouches for.
        if self.proxy is not None or policy is None:
            return
        if not policy.may_reach(self.host, sock.getpeername()[0]):
            raise refused_inside(self.host)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        sock = self.sock
        self._watch.calls.watch(sock)
        response = super().getresponse()
        # An answer without a body may have closed the socket already.
        with contextlib.suppress(OSError):
            sock.settimeout(self._watch.stall_seconds)
        return response


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


_CLASSES = {"http": _Watched, "https": _WatchedTLS}


def watched(scheme: str, watch: Watch) -> Callable[..., HTTPConnection]:
    """Give what a pool of a scheme makes its connections from."""
    return partial(_CLASSES[scheme], watch=watch)


class _NoQueries(logging.Filter):
    """Takes the query off the addresses in urllib3's debug lines: it may hold a signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
            )
        return True


_NO_QUERIES = _NoQueries()


def hide_queries() -> None:
    """Keep queries out of urllib3's own log lines; calling again changes nothing."""
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_NO_QUERIES)
