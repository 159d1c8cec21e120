"""The command line ``geodes-tasks``."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys

from geodes_tasks.cli.command_table import (
    COMPLETE_VARIABLE,
    INTERRUPTED,
    UNCLASSIFIED,
    USAGE,
    completed_commands,
    help_text,
)
from geodes_tasks.model.version import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    code = INTERRUPTED
    _open_closed_streams()
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        code = _code_of(error)
    # An impatient Ctrl-C while Python ends its threads would print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run the command of the arguments and return its exit code."""
    # typer and rich take 0.1 s to import, the libraries of the commands 1 s: neither text waits.
    if arguments in (["-h"], ["--help"]) or not (arguments or COMPLETE_VARIABLE in os.environ):
        print(help_text())  # noqa: T201 - data goes to stdout
        return 0 if arguments else USAGE
    if arguments in (["-V"], ["--version"]):
        print(f"geodes-tasks {__version__}")  # noqa: T201
        return 0
    if COMPLETE_VARIABLE in os.environ and (text := completed_commands(os.environ)) is not None:
        # With `is-args`, fish wants to know by the exit code alone whether there are any.
        is_question = os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args"
        print("" if is_question else text)  # noqa: T201
        return int(is_question and not text)
    # Nothing is garbage while the libraries are loaded, nor at the end: both cost 0.05 s.
    gc.disable()
    _use_utf8()
    from geodes_tasks.cli.command_group import run

    return run()


def _open_closed_streams() -> None:
    """Open the standard streams that are closed (``>&-``): no file of ours gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - until the end


def _code_of(error: OSError) -> int:
    """Write an error of the system in one line, and return the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        # Python flushes once more at its end (docs.python.org/3/library/signal.html, "SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        where = error.filename or "standard output or a file"
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        logging.getLogger(__name__).debug("the error in full:", exc_info=error)
    return UNCLASSIFIED


def _use_utf8() -> None:
    """Begin again in UTF-8 mode where file names would be in another encoding (C, ISO-8859-1).

    Names of items, folders and the ledger are Unicode, and so is what the workers write
    (https://docs.python.org/3/library/os.html#python-utf-8-mode).
    """
    if sys.getfilesystemencoding() != "utf-8":
        words = [sys.executable, "-P", "-X", "utf8", "-m", "geodes_tasks", *sys.argv[1:]]
        os.execve(sys.executable, words, os.environ | {"PYTHONUTF8": "1"})  # noqa: S606 - itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # PYTHONIOENCODING=ascii: a name is shown escaped, and the command continues.
            stream.reconfigure(errors="backslashreplace")
