"""Remedies in the words of the reader: options and commands at a shell, calls in Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_NAME = r"('[^']*'|[\w.-]*\w)"
_CALLS = {
    r"run: geodes-tasks resume \(on one machine: the same command again\)": "make the call again",
    r"\brun the (same )?command again": r"make the \1call again",
    r"\bRun the (same )?command again": r"Make the \1call again",
    rf"geodes-tasks retry {_NAME} --class (\w+)": r"batch(\1).retry(classes=['\2'])",
    rf"geodes-tasks retry {_NAME}": r"batch(\1).retry()",
    r"geodes-tasks retry\b": "batch.retry()",
    rf"geodes-tasks cancel {_NAME}": r"batch(\1).cancel()",
    rf"geodes-tasks resume --batch {_NAME}": r"batch(\1).resume()",
    r"geodes-tasks search -c (\w+) --start (\w+) --end (\w+)": (
        r"geodes.search_items(collections=['\1'], start='\2', end='\3')"
    ),
    r"geodes-tasks collections": "geodes.search_collections()",
    r"geodes-tasks batches": "geodes_tasks.batches()",
    r"geodes-tasks enqueue --account NAME": "enqueue(items, account='NAME')",
    r"put it in GEODES_API_KEY": "pass it in Config(api_key=...) or put it in GEODES_API_KEY",
    r"Type: export ": "Set ",
    r"Name one: -o (.+)": r"Open it with Batch(name, folder='\1')",
}
"""Commands to the calls that do the same, in this order."""
_HANDLE = re.compile(rf"\bbatch\({_NAME}\)")
_OPTION = re.compile(r"(?<![\w-])(?:--([a-z][a-z-]+)|-o)\b(?: ('[^']*'|auto\b|s3\b))?")
_LISTS = {"include", "exclude", "members"}
"""Arguments that take several globs."""
_COMMAND_ONLY = (
    re.compile(r" ?\([^()]*geodes-tasks [a-z][^()]*\)"),
    re.compile(r"; [^;.]*geodes-tasks [a-z][^;.]*(?=[;.])"),
    re.compile(r"(?:(?<=\. )|^)[^.]*geodes-tasks [a-z][^.]*(?:\. ?|$)"),
)
"""An aside, a clause, a sentence with a command that no call replaces: the smallest goes."""

_STEERING = r"\bgeodes-tasks (?:retry|resume|cancel|forget|batches)\b"
_EITHER = "run: geodes-tasks resume (on one machine: the same command again)"
_FOLDER = re.compile(rf"({_STEERING}) -o (?:'[^']*'(?:\"'\"'[^']*')*|\S*[^\s.,;)`])")

_is_at_shell = False


def write_for_shell() -> None:
    """Name options and commands in this process from now on: a command line or a worker."""
    global _is_at_shell
    _is_at_shell = True


def for_reader(text: str) -> str:
    """Return a remedy, which is written for a shell, in the words of its reader."""
    return text if _is_at_shell else in_python(text)


def in_folder(text: str, folder: Path | None) -> str:
    """Return a remedy whose commands steer the private ledger of a folder; None is a cluster's.

    Without the folder a command steers the cluster of the settings, where there is one.

    Example:
        >>> in_folder("then: geodes-tasks retry april", Path("/data"))
        'then: geodes-tasks retry -o /data april'
    """
    if folder is None:
        return text
    text = text.replace(_EITHER, "run the same command again")
    # Idempotent: a command that names its folder keeps it.
    command = rf"{_STEERING}(?!.* (?:-o|--output-dir)\b)"
    return re.sub(command, lambda found: f"{found[0]} -o {shlex.quote(str(folder))}", text)


def in_python(text: str) -> str:
    """Return a remedy with arguments and calls in place of options and commands.

    Example:
        >>> in_python("Use --include '*.zip', then: geodes-tasks retry april")
        "Use include=['*.zip'], then: geodes_tasks.batch('april').retry()"
    """
    # A batch is found in whatever ledger has it.
    text = _FOLDER.sub(r"\1", text)
    for command, call in _CALLS.items():
        text = re.sub(command, call, text)
    text = _HANDLE.sub(_handle, text)
    for part in _COMMAND_ONLY:
        text = part.sub("", text)
    return _OPTION.sub(_argument, text).strip()


def _handle(found: re.Match[str]) -> str:
    """Return the handle of a named batch; ``BATCH`` stands for the one that the reader has."""
    name = found[1].strip("'")
    return "batch" if name == "BATCH" else f"geodes_tasks.batch({name!r})"


def _argument(found: re.Match[str]) -> str:
    """Return an option as a keyword argument."""
    name = (found[1] or "output-dir").replace("-", "_").replace("output_dir", "download_dir")
    if found[2] is None:
        return name
    value = f"'{found[2].strip(chr(39))}'"
    return f"{name}=[{value}]" if name in _LISTS else f"{name}={value}"
