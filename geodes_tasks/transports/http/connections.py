"""Connections that check the address of the peer and limit the silence within a body.

requests has one read timeout for the wait for a response and for the silence within its body. The
two waits differ (a portal may need minutes to respond, a body must not pause so long), so the
timeout of the socket is lowered after the headers; urllib3 raises it again for the next request.
Both features need a urllib3 connection class: a pool builds its connections from the public
attribute ``ConnectionCls``. The check is made on the connected peer, because a name may resolve
to another address after an earlier check (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection

from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.http.addresses import AddressPolicy, refused_inside


@dataclass(frozen=True, slots=True)
class Watch:
    """Limits of a connection."""

    policy: AddressPolicy | None
    """Decides which IP addresses a host may have; None allows all."""
    stall_seconds: float
    """Longest silence within a body, in seconds."""
    calls: Calls
    """Records which socket a thread waits on."""


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
            self._check_peer(sock)
        except BaseException:
            sock.close()
            raise
        self._watch.calls.watch(sock)
        return sock

    def _check_peer(self, sock: socket.socket) -> None:
        policy = self._watch.policy
        # Behind a proxy the peer is the proxy, which the environment of the user names.
        if self.proxy is not None or policy is None:
            return
        if not policy.may_reach(self.host, sock.getpeername()[0]):
            raise refused_inside(self.host)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        sock = self.sock
        self._watch.calls.watch(sock)
        response = super().getresponse()
        # http.client closes the socket at once after a response without a body.
        with contextlib.suppress(OSError):
            sock.settimeout(self._watch.stall_seconds)
        return response


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


_CLASSES = {"http": _Watched, "https": _WatchedTLS}


def watched(scheme: str, watch: Watch) -> Callable[..., HTTPConnection]:
    """Return the ``ConnectionCls`` for the pools of a scheme."""
    return partial(_CLASSES[scheme], watch=watch)


class _NoQueries(logging.Filter):
    """Removes the query from addresses in urllib3's debug lines: it may hold a signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
            )
        return True


_NO_QUERIES = _NoQueries()


def hide_queries() -> None:
    """Remove queries from the log lines of urllib3. Idempotent."""
    # ``addFilter`` ignores a filter that a logger already has (Lib/logging).
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_NO_QUERIES)
