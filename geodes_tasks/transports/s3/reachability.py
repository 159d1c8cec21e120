"""Check that an endpoint accepts connections: once a process, not once a file.

Outside the CNES network the datalake's packets are lost without an answer, so each file would
wait for a connection that never comes.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

from geodes_tasks.errors import SourceUnreachableError
from geodes_tasks.transports.http.addresses import origin

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.5
"""Longest wait for a first connection, name look-up included."""
REMEMBERED_SECONDS = 10.0
"""Seconds for which a process does not try an endpoint out of reach again, at most: attempts that
begin together find it out once. The ledger tells the fleet."""


class Reach:
    """The reachability of endpoints, as one process knows it. Safe to use from many threads."""

    def __init__(
        self,
        remembered_s: float = REMEMBERED_SECONDS,
        probe: Callable[[str], str | None] | None = None,
    ) -> None:
        """Know nothing yet."""
        self._remembered_s = remembered_s
        self._probe = probe or connect_problem
        self._locks: dict[str, threading.Lock] = {}
        self._good: set[str] = set()
        self._bad: dict[str, tuple[str, float]] = {}

    def is_good(self, endpoint: str) -> bool:
        """Return whether the last connection to an endpoint succeeded."""
        return endpoint in self._good

    def check(self, endpoint: str) -> None:
        """Make sure that an endpoint can be connected to; the first asks, the others wait for it.

        Raises:
            SourceUnreachableError: it cannot, now or not long ago.
        """
        if endpoint in self._good:
            return
        with self._locks.setdefault(endpoint, threading.Lock()):
            if endpoint in self._good:
                return
            problem, until = self._bad.get(endpoint, ("", 0.0))
            if time.monotonic() >= until:
                problem = self._probe(endpoint) or ""
                if not problem:
                    self._good.add(endpoint)
                    return
                self._bad[endpoint] = problem, time.monotonic() + self._remembered_s
                logger.warning("%s cannot be reached from here (%s)", endpoint, problem)
        words = f"the S3 endpoint cannot be reached from here ({problem})"
        raise SourceUnreachableError("s3", endpoint, words, True)

    def lost(self, endpoint: str) -> None:
        """Hear that a connection could not be made: the next one asks again."""
        self._good.discard(endpoint)


def connect_problem(endpoint: str) -> str | None:
    """Connect and hang up; None when that went well or a proxy stands between."""
    scheme, host, port = origin(endpoint)
    if urllib.request.getproxies().get(scheme) and not urllib.request.proxy_bypass(host):
        return None
    answer: list[str | None] = ["no answer"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), PROBE_SECONDS).close()
            answer[0] = None
        except OSError as error:
            answer[0] = error.strerror or "no answer"

    # In a thread of its own: a name look-up has no timeout.
    thread = threading.Thread(target=connect, name="s3-reach", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0]
