"""Log lines of printable text: names and errors come from items, servers and users of Redis."""

from __future__ import annotations

import logging

from geodes_tasks.model.formatting import escaped

OWN = ("geodes_tasks", "worker")
"""Packages that write one line for each event; others write tracebacks into their messages."""
_formatter = logging.Formatter()


def escape_codes(logger: logging.Logger, **_: object) -> None:
    """Let no handler of a logger pass codes on; also a receiver of ``after_setup_logger``."""
    for handler in logger.handlers:
        handler.addFilter(_escape)


def _escape(record: logging.LogRecord) -> bool:
    # A line end in a name would forge a line (CWE-117).
    lines = "" if record.name.partition(".")[0] in OWN else "\n\t"
    if not (message := record.getMessage()).isprintable():
        record.msg, record.args = escaped(message, lines), None
    if record.exc_info and record.exc_text is None:
        # Formatter.format uses this text in place of its own.
        record.exc_text = escaped(_formatter.formatException(record.exc_info), "\n\t")
    return True
