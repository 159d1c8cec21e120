"""How Flower shows downloads: columns, limits, readable rows, and when it asks for a password.

``celery -A worker flower`` and ``geodes-tasks flower`` both call :func:`configure` before Flower
reads its own options, so environment (``FLOWER_*``), conf file and command line still win.
"""

from __future__ import annotations

import ast
import os
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geodes_tasks import errors
from geodes_tasks.errors import ConfigError
from geodes_tasks.model.formatting import human_bytes, shortened
from geodes_tasks.settings.urls import is_loopback

COLUMNS = "kwargs,state,result,received,runtime,worker,uuid"
"""What, how it stands, its numbers or its reason, since when, who; the id opens the details."""
MAX_TASKS = 20_000
"""Flower keeps its rows in memory, some 7 kB each: its own 100,000 would be 0.7 GB."""
USER = "geodes"
AUTH_FILE = "FLOWER_BASIC_AUTH_FILE"
"""Names a file with USER:PASSWORD, one a line: an environment is easier to read than a file."""
OPEN_API = "FLOWER_UNAUTHENTICATED_API"
NAME_WIDTH = 28
"""So much of a file's name is in the list; both ends of it, for they tell files apart."""
_WAIT = re.compile(r" \(waits (\d+) s\)\Z")
# The list has little room, and the whole text is on the page of the task.
# The whole word each time, so that a text of many addresses takes linear time.
_ADDRESS = re.compile(r"'?https?://[^\s']+(?:', | )?")


def configure() -> None:
    """Choose Flower's defaults; what the user sets in any of its own ways wins."""
    from flower.options import options

    options.tasks_columns = COLUMNS
    options.max_tasks = MAX_TASKS
    options.natural_time = True
    options.format_task = readable
    # Its own default is every address of the machine.
    options.address = "127.0.0.1"
    # Nobody has said yet; `protect` decides when it knows who may come.
    options.read_only = None
    options.add_parse_callback(_Guard(options))


class _Guard:
    """Calls :func:`protect` once the conf file has been read: it may name a password."""

    def __init__(self, options: Any) -> None:
        self.options, self.readings = options, 0

    def __call__(self) -> None:
        # Flower reads its command line, then the conf file, then its command line again.
        self.readings += 1
        if self.readings > 1 or not Path(self.options.conf).is_file():
            protect(self.options)


def protect(options: Any) -> None:
    """Have Flower ask for a password unless only this machine can reach it.

    Without a password it shows everything and changes nothing; with one, its buttons work.
    """
    if not options.basic_auth and (file := os.environ.get(AUTH_FILE)):
        options.basic_auth = credentials(Path(file))
    private = bool(options.unix_socket) or is_loopback(options.address)
    if not (private or options.basic_auth or options.auth):
        options.basic_auth = [f"{USER}:{_new_password(options.address)}"]
    asks = bool(options.basic_auth or options.auth)
    if not asks:
        # Its pages are open then anyway; this opens the same facts to programs.
        os.environ.setdefault(OPEN_API, "true")
    if options.read_only is None:
        options.read_only = not asks


def credentials(file: Path) -> list[str]:
    """Read who may come.

    Raises:
        ConfigError: the file cannot be read, or has nobody in it; Flower must not start open.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ConfigError(AUTH_FILE, f"{file}: {error.strerror}") from None
    if not (known := [line for line in lines if re.fullmatch(r"[^:]+:.+", line)]):
        raise ConfigError(AUTH_FILE, f"{file} has no line USER:PASSWORD")
    return known


def _new_password(address: str) -> str:
    """Make a password and tell it to whoever started Flower; it is kept nowhere."""
    password = secrets.token_urlsafe(12)
    sys.stderr.write(
        f"Flower listens on {address or 'every address of this machine'}, so it asks for a "
        f"password: user {USER}, password {password}. "
        "Name your own with --basic_auth=USER:PASSWORD or FLOWER_BASIC_AUTH.\n"
    )
    return password


# --- rows ----------------------------------------------------------------------------------------


def readable(task: Any) -> Any:
    """Write one row for people; Flower hands over a copy and shows what comes back."""
    task.kwargs = what(task.kwargs)
    if task.state == "RETRY":
        task.result = waiting(task.exception, task.retried)
    elif task.state == "FAILURE":
        task.result = _without_address(problem(task.exception or ""))
    elif task.state == "SUCCESS":
        task.result = ending(task.result)
    return task


def what(kwargs: str | None) -> str | None:
    """Write the arguments as ``FILE, SIZE, ITEM``; give them back as they are when they differ."""
    said = _literal(kwargs)
    if not said.get("file"):
        return kwargs
    file, item = str(said["file"]), str(said.get("item"))
    whole = [] if len(file) <= NAME_WIDTH else [file]
    return ", ".join([shortened(file, NAME_WIDTH), str(said.get("size")), item, *whole])


def _without_address(text: str) -> str:
    """Remove the addresses that stand before a colon, or as the first of several values."""
    return _ADDRESS.sub(lambda found: "" if found[0].endswith((": ", "', ")) else found[0], text)


def problem(exception: str) -> str:
    """Write an error as a sentence; Celery tells it as ``Class(values)``."""
    name, _, values = exception.rstrip(")").partition("(")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.GeodesTasksError)):
        return exception
    try:
        said = ast.literal_eval(f"({values},)")
        return exception if ... in said else f"{name}: {kind(*said)}"
    except (ValueError, SyntaxError, TypeError):
        return exception


def waiting(exception: str | None, since: float | None) -> str | None:
    """Write why a download waits, with the time of day when it goes on."""
    match = _WAIT.search(exception or "")
    if exception is None or match is None or since is None:
        return _without_address(exception or "")
    due = datetime.fromtimestamp(since + int(match[1]), UTC)
    reason = _without_address(exception[: match.start()])
    return f"until {due:%H:%M:%S} UTC ({due:%d %b}), {reason}"


def ending(result: str | None) -> str | None:
    """Write how success came about."""
    said = _literal(result)
    if not said.get("outcome"):
        return result
    proven = "verified" if said.get("verified") else "unverified: the catalogue has no checksum"
    fetched = f"{human_bytes(said.get('bytes_transferred'))} from {said.get('source')}, "
    return f"{said['outcome']}, {fetched if said.get('source') else ''}{proven}"


def _literal(text: str | None) -> dict[str, Any]:
    """Read a dictionary as Python writes it; empty for anything else, cut-off text included."""
    try:
        value = ast.literal_eval(text or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
