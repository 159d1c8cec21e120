"""Which thread waits for which connection, so that another thread can break its wait off.

A worker that stops must not sit out the minutes that a silent server may take. Closing a socket
from outside does not wake who reads from it; shutting it down does (``man 2 shutdown``).
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Call:
    """One open href of one thread."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._shut: Callable[[], None] | None = None
        self.connected = True
        """False from when a connection is begun until it is there: nothing was sent by then."""

    @property
    def broken_off(self) -> bool:
        """Whether somebody wants the thread to stop waiting."""
        return self._end.is_set()

    def waits_on(self, shut: Callable[[], None]) -> None:
        """Note how to wake the thread; at once, when it came too late for the last wait."""
        self._shut = shut
        if self.broken_off:
            self.break_off()

    def sleep(self, seconds: float) -> None:
        """Wait for time to pass, or to be broken off."""
        self._end.wait(seconds)

    def break_off(self) -> None:
        """Wake the thread, now or at its next wait."""
        self._end.set()
        # The connection may have ended by itself a moment ago.
        with suppress(OSError, ValueError, RuntimeError):
            if self._shut is not None:
                self._shut()


class Calls:
    """The open hrefs of a transport, by thread."""

    def __init__(self) -> None:
        self._by_thread: dict[int, Call] = {}

    @contextmanager
    def begin(self) -> Iterator[Call]:
        """Keep a call for as long as this thread has an href open."""
        thread = threading.get_ident()
        outer, call = self._by_thread.get(thread), Call()
        self._by_thread[thread] = call
        try:
            yield call
        finally:
            if outer is None:
                self._by_thread.pop(thread, None)
            else:
                self._by_thread[thread] = outer

    def watch(self, sock: socket.socket) -> None:
        """Note the socket that this thread is about to wait on."""
        call = self._by_thread.get(threading.get_ident())
        if call is not None:
            # The method of the class: an SSLSocket's own takes the TLS layer apart as well.
            call.waits_on(lambda: socket.socket.shutdown(sock, socket.SHUT_RDWR))

    def connecting(self, *, done: bool) -> None:
        """Note that this thread begins to make a connection, or has made it."""
        call = self._by_thread.get(threading.get_ident())
        if call is not None:
            call.connected = done

    def abort(self, thread: int) -> None:
        """Break off what a thread waits for; one without an open href is not disturbed."""
        call = self._by_thread.get(thread)
        if call is not None:
            call.break_off()
