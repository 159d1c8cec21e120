"""Flower's configuration: columns, limits, readable rows, and when it wants a password.

``celery -A worker flower`` and ``geodes-tasks flower`` both call :func:`configure` before Flower
reads its own options, so environment (``FLOWER_*``), conf file and command line still win.
"""

from __future__ import annotations

import ast
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from geodes_tasks import errors
from geodes_tasks.errors import ConfigError
from geodes_tasks.model.formatting import human_bytes, shortened
from geodes_tasks.monitoring.wording import clock, end_with, without_addresses
from geodes_tasks.settings.urls import is_loopback

COLUMNS = "kwargs,state,result,received,runtime,worker,uuid"
"""Columns of Flower's list of tasks; the uuid links to the page of the task."""
MAX_TASKS = 20_000
"""Number of rows that Flower keeps, in memory, some 7 kB each: its default of 100,000 is 0.7 GB."""
USER = "geodes"
AUTH_FILE = "FLOWER_BASIC_AUTH_FILE"
"""Variable that names a file of lines USER:PASSWORD: other users can read an environment."""
OPEN_API = "FLOWER_UNAUTHENTICATED_API"
NAME_WIDTH = 28
"""Characters of a file's name in the list; both ends are kept, where product names differ."""

_UNREADABLE = ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError
"""Errors of texts that another program wrote."""


def configure(receiver: type, on_ready: Callable[[Mapping[str, Any]], None]) -> None:
    """Set Flower's defaults, and add the page ``/batches`` to its own.

    The user's environment, conf file and options still win.

    Args:
        receiver: Class in place of Celery's EventReceiver, which hands on whatever comes.
        on_ready: Called with the tasks that Flower has stored, before it listens.
    """
    from flower import app, events
    from flower.options import options
    from flower.urls import handlers, settings

    from geodes_tasks.monitoring.flower_page import OwnSiteOnly, add_page

    class Events(events.Events):  # type: ignore[misc] # flower has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            on_ready(self.state.tasks)

    app.Events, events.EventReceiver = Events, receiver
    add_page(handlers)
    settings["transforms"] = [OwnSiteOnly]

    options.tasks_columns = COLUMNS
    options.max_tasks = MAX_TASKS
    options.natural_time = True
    options.format_task = readable
    # Flower's own default is every address of the machine.
    options.address = "127.0.0.1"
    # None: not decided by the user; `protect` decides once it knows the passwords.
    options.read_only = None
    options.add_parse_callback(_Guard(options))


class _Guard:
    """Calls :func:`protect` after Flower has read its conf file, which may name a password."""

    def __init__(self, options: Any) -> None:
        self.options, self.readings = options, 0

    def __call__(self) -> None:
        # Flower reads its command line, then the conf file, then its command line again.
        self.readings += 1
        if self.readings > 1 or not Path(self.options.conf).exists():
            try:
                protect(self.options)
            except ConfigError as error:
                end_with(error)


def protect(options: Any) -> None:
    """Require a password unless only this machine can reach Flower.

    Without a password Flower is read-only; with one, its buttons work.

    Raises:
        ConfigError: the file of passwords cannot be read, or has no line USER:PASSWORD.
    """
    if not options.basic_auth and (file := os.environ.get(AUTH_FILE)):
        options.basic_auth = credentials(Path(file))
    private = bool(options.unix_socket) or is_loopback(options.address)
    if not (private or options.basic_auth or options.auth):
        options.basic_auth = [f"{USER}:{_new_password(options.address)}"]
    protected = bool(options.basic_auth or options.auth)
    if not protected:
        # Flower 2 refuses its API without a login unless this is set, though its pages are open.
        os.environ.setdefault(OPEN_API, "true")
    if options.read_only is None:
        options.read_only = not protected


def credentials(file: Path) -> list[str]:
    """Return the lines USER:PASSWORD of a file.

    Raises:
        ConfigError: the file cannot be read, or has no such line; Flower must not start open.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        # Not chained, and no words of a decoder: it quotes the file.
        problem = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(AUTH_FILE, f"{file}: {problem}") from None
    if not (known := [line for line in lines if re.fullmatch(r"[^:]+:.+", line)]):
        raise ConfigError(AUTH_FILE, f"{file} has no line USER:PASSWORD")
    return known


def _new_password(address: str) -> str:
    """Return a new password after writing it to stderr, the only copy."""
    password = secrets.token_urlsafe(12)
    sys.stderr.write(
        f"Flower listens on {address or 'every address of this machine'}, so it asks for a "
        f"password: user {USER}, password {password}. "
        "Name your own with --basic_auth=USER:PASSWORD or FLOWER_BASIC_AUTH.\n"
    )
    return password


# --- rows ----------------------------------------------------------------------------------------


def readable(task: Any) -> Any:
    """Return a row of Flower's list with readable texts; Flower passes a copy of the task."""
    task.kwargs = arguments(task.kwargs)
    if task.state == "RETRY":
        task.result = wait(task.exception)
    elif task.state == "FAILURE":
        # The list has little room, and the page of the task has the whole text.
        task.result = without_addresses(error(task.exception or ""))
    elif task.state == "SUCCESS":
        task.result = result(task.result)
    return task


def arguments(kwargs: str | None) -> str | None:
    """Return the arguments as ``FILE, SIZE, ITEM``; those of another task unchanged."""
    values = _literal(kwargs)
    if not values.get("file"):
        return kwargs
    file, item = str(values["file"]), str(values.get("item"))
    whole = [] if len(file) <= NAME_WIDTH else [file]
    return ", ".join([shortened(file, NAME_WIDTH), str(values.get("size")), item, *whole])


def error(exception: str) -> str:
    """Return an error as a sentence; Celery reports it as ``Class(values)``."""
    name, _, values = exception.rstrip(")").partition("(")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.GeodesTasksError)):
        return exception
    try:
        given = ast.literal_eval(f"({values},)")
        # Celery cuts a long repr with '...', which reads as Ellipsis: the values are not whole.
        return exception if ... in given else f"{name}: {kind(*given)}"
    except (ArithmeticError, *_UNREADABLE):
        return exception  # of another program that may send events


def wait(exception: str | None) -> str:
    """Return why a download waits, after the time of day when the wait ends."""
    text, _, due_at = (exception or "").rpartition(" (waits until ")
    try:
        due, now = datetime.fromisoformat(due_at.removesuffix(")")).timestamp(), time.time()
    except (ValueError, OverflowError):
        return without_addresses(exception or "")
    reason = without_addresses(text)
    # A row is drawn long after its event: a time that has passed is none to wait for.
    wait_for = f"until {clock(due, now)}" if due > now else "waits for a free worker"
    return f"{wait_for}, {reason}"


def result(text: str | None) -> str | None:
    """Return how success came about; the result of another task unchanged."""
    values = _literal(text)
    if not values.get("outcome"):
        return text
    proven = "verified" if values.get("verified") else "unverified: the catalogue has no checksum"
    try:
        size = human_bytes(values.get("bytes_transferred"))
    except (ArithmeticError, *_UNREADABLE):
        return text
    fetched = f"{size} from {values.get('source')}, "
    return f"{values['outcome']}, {fetched if values.get('source') else ''}{proven}"


def _literal(text: str | None) -> dict[str, Any]:
    """Parse a dictionary as Python writes it; empty for anything else, truncated text included."""
    try:
        value = ast.literal_eval(text or "")
    except _UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}
