"""Interruption of network waits: one thread shuts down the socket that another waits on.

A worker that stops cannot wait minutes for a silent server. ``close`` from another thread does
not wake a blocked ``recv``; ``shutdown`` does (man 2 close, man 2 shutdown).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TypeVar

from geodes_tasks.transports.rate import RateLimit, rate_limit

Result = TypeVar("Result")


class Call:
    """One open href of one thread."""

    def __init__(self, rate: RateLimit | None = None) -> None:
        self.rate = rate
        self.broken_off = False
        """Whether the thread must stop waiting."""
        self._end: threading.Event | None = None
        """Set to end a sleep; made for one, as a small file costs a hundredth more with it."""
        self._shut: Callable[[], None] | None = None
        self.connected = True
        """False while a connection is being made: no byte of a request was sent yet."""
        self.query: str | None = None
        """Query to send to the letter; None: as the client encodes it."""

    def waits_on(self, shut: Callable[[], None]) -> None:
        """Record how to interrupt the next wait."""
        self._shut = shut
        # ``break_off`` may have run between two waits, when there was nothing to shut down.
        if self.broken_off:
            self.break_off()

    def sleep(self, seconds: float) -> None:
        """Wait this many seconds, or until ``break_off``."""
        end = self._end = threading.Event()
        # ``break_off`` may have run before there was something to set.
        if not self.broken_off:
            end.wait(seconds)

    def interruptible(self, act: Callable[[], Result], interruption: Exception) -> Result:
        """Return the result of a function, which runs in a thread so that the wait can end.

        For waits without a socket that could be shut down, as that for a command of the user.

        Args:
            act: The function; what it raises is raised here.
            interruption: Raised after ``break_off``; the thread is left alone then.
        """
        done: SimpleQueue[tuple[list[Result], BaseException]] = SimpleQueue()

        def run() -> None:
            try:
                done.put(([act()], interruption))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                done.put(([], error))

        threading.Thread(target=run, name="interruptible", daemon=True).start()
        self.waits_on(lambda: done.put(([], interruption)))
        results, error = done.get()
        if not results:
            raise error
        return results[0]

    def break_off(self) -> None:
        """Interrupt the thread, now or at its next wait."""
        self.broken_off = True
        if self._end is not None:
            self._end.set()
        # The peer may have closed first: shutdown then fails with ENOTCONN or EBADF
        # (man 2 shutdown).
        with suppress(OSError, ValueError, RuntimeError):
            if self._shut is not None:
                self._shut()


class Calls:
    """Open hrefs of a transport, by thread."""

    def __init__(self, bytes_per_second: int | None = None) -> None:
        """Prepare; ``bytes_per_second`` limits the bytes of all calls of all transports."""
        self._rate = rate_limit(bytes_per_second)
        self._by_thread: dict[int, Call] = {}

    @contextmanager
    def begin(self) -> Iterator[Call]:
        """Yield the call of this thread, which is registered while the href is open."""
        thread = threading.get_ident()
        # A thread may open a second href before it closes the first: the first is then restored.
        outer, call = self._by_thread.get(thread), Call(self._rate)
        self._by_thread[thread] = call
        try:
            yield call
        finally:
            if outer is None:
                self._by_thread.pop(thread, None)
            else:
                self._by_thread[thread] = outer

    def watch(self, sock: socket.socket) -> None:
        """Record the socket that this thread is about to wait on."""
        call = self._by_thread.get(threading.get_ident())
        if call is not None:
            # SSLSocket.shutdown drops the TLS object first, so the reading thread would then
            # take cipher text for data; the method of the plain socket leaves it in place
            # (CPython, Lib/ssl.py).
            call.waits_on(lambda: socket.socket.shutdown(sock, socket.SHUT_RDWR))

    def connecting(self, *, done: bool) -> None:
        """Record that this thread starts to connect, or has connected."""
        call = self._by_thread.get(threading.get_ident())
        if call is not None:
            call.connected = done

    def exact(self, target: str) -> str:
        """Return a request target with the query of this thread's call to the letter."""
        call = self._by_thread.get(threading.get_ident())
        if call is None or call.query is None:
            return target
        return f"{target.partition('?')[0]}?{call.query}"

    def abort(self, thread: int) -> None:
        """Interrupt the wait of a thread; no effect on a thread without an open href."""
        call = self._by_thread.get(thread)
        if call is not None:
            call.break_off()
