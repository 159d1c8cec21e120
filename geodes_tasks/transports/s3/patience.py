"""Waits that no socket of ours can end, made such that they can be broken off.

A credentials command, a name look-up, a listing by boto3: nothing of them is in reach, and each
may take minutes. What a transport asks for over its own connections needs none of this.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from urllib3 import BaseHTTPResponse

from geodes_tasks.errors import GeodesTasksError, TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from geodes_tasks.transports.abort import Call

Given = TypeVar("Given")


def patiently(act: Callable[[], Given], href: str, call: Call) -> Given:
    """Do something in a thread of its own, so that the wait for it can be broken off.

    Args:
        act: What to do; never gives None.
        href: What it is for, fit to be shown.
        call: Of the thread that waits.

    Raises:
        TransferError: it was broken off.
        Exception: what ``act`` raises.
    """
    done: SimpleQueue[Given | BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            answer = act()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.put(error)
            return
        done.put(answer)
        if call.broken_off and isinstance(answer, BaseHTTPResponse):
            with suppress(OSError, ValueError):
                answer.close()

    threading.Thread(target=run, name="s3-wait", daemon=True).start()
    call.waits_on(lambda: done.put(None))
    answer = done.get()
    if answer is None or (call.broken_off and isinstance(answer, GeodesTasksError)):
        raise TransferError(href, "broken off before the answer")
    if isinstance(answer, BaseException):
        raise answer
    return answer
