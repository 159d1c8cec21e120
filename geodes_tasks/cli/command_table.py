"""The commands by group, and the help of the whole command line; no library is loaded."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping

UNCLASSIFIED, USAGE = 1, 2
"""Exit codes of an error without one of its own, and of a wrong use of the command line."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT (bash(1))."""
MOST_WIDTH = 100
"""Columns of the help at most."""

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Download": {
        "download": ("download", "Download items on this machine."),
        "enqueue": ("download", "Queue items for the workers of a cluster."),
    },
    "Search the catalogue": {
        "search": ("search", "Search for items; they go to standard output or to a file."),
        "collections": ("search", "List the collections of the portal."),
    },
    "Follow and check": {
        "status": ("status", "Show what is done, running and waiting, and why."),
        "batches": ("status", "List the batches, a line for each."),
        "watch": ("watch", "Watch batches until they are finished; keys steer them."),
        "report": ("report", "Write one record for each download."),
        "verify": ("verify", "Read files again and compare them with their checksums."),
    },
    "Steer": {
        "retry": ("steer", "Retry failed downloads."),
        "cancel": ("steer", "Cancel a batch or some of its downloads."),
        "pause": ("steer", "Pause an account, a batch or a source."),
        "resume": ("steer", "Resume what was paused."),
        "limit": ("steer", "Set the concurrency limit of an account by hand."),
        "forget": ("steer", "Remove batches and their records; files stay."),
    },
    "Set up and operate": {
        "doctor": ("doctor", "Check the set-up; no download is spent."),
        "config": ("config", "Show every setting and where it comes from: config show."),
        "worker": ("worker_flower", "Start a worker of a cluster."),
        "flower": ("worker_flower", "Start Flower, the web page of Celery."),
        "metrics": ("metrics", "Export metrics of the ledger to Prometheus."),
        "secrets": ("deployment", "Make the passwords of a deployment."),
        "deploy-files": ("deployment", "Write the files of a deployment."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
"""Group to its commands: name, module in this package, line in the help."""

COMPLETE_VARIABLE = "_GEODES_TASKS_COMPLETE"
"""Set by the completion script of a shell, which passes the words typed in other variables."""
OPTIONS = {
    "-v, --verbose": "Log more; -vv logs everything. Also after the command.",
    "-V, --version": "Print the version.",
    "-h, --help": "Print this text; after a command, its options and examples.",
}
FIRST_STEPS = """\
  geodes-tasks search -c PEPS_S2_L1C --tile T31TCJ --start 2025-04-01 -o items.json
  geodes-tasks download items.json -o DIR
"""
KEY = """\
The API key of the portal is read from GEODES_API_KEY, from a file named by GEODES_API_KEY_FILE, \
or from pygeodes-config.json in the current folder."""
EXIT_CODES = """\
Exit codes: 0 done; 1 unclassified; 2 usage or bad input; 3 some downloads failed for good; \
4 nothing to download; 5 only transient failures are left; 6 files are still on tape; \
7 stopped by key or quota; 130 interrupted."""


def completed_commands(variables: Mapping[str, str]) -> str | None:
    """Return what a shell asks for to complete a command; None for a later word or an option.

    Answered without typer, which takes four times as long to import as all this takes. The forms
    are those of typer's scripts (``typer/_completion_classes.py``).

    Args:
        variables: The environment, with the line that was typed.
    """
    line = variables.get("COMP_WORDS", variables.get("_TYPER_COMPLETE_ARGS", ""))
    words = re.split(r"\s", line)
    if len(words) != 2 or words[1].startswith("-"):
        return None
    commands = [(name, text) for of in COMMANDS.values() for name, (_, text) in of.items()]
    found = [(name, text) for name, text in commands if name.startswith(words[1])]
    match variables[COMPLETE_VARIABLE]:
        case "complete_bash":
            return "\n".join(name for name, _ in found)
        case "complete_fish":
            return "\n".join(f"{name}\t{text}" for name, text in found)
        case "complete_zsh" if found:
            # A colon parts the name from its description (_arguments in zshcompsys(1)).
            lines = (f'"{name}":"{text.replace(":", chr(92) * 2 + ":")}"' for name, text in found)
            return "_arguments '*: :((" + "\n".join(lines) + "))'"
    return None


def help_text() -> str:
    """Return the help of the whole command line."""
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH)
    lines = ["Usage: geodes-tasks [-v] COMMAND [ARGUMENT]...", ""]
    lines += ["Download items from GEODES: all of them, verified by checksum.", "", FIRST_STEPS]
    groups = {
        group: {name: text for name, (_, text) in of.items()} for group, of in COMMANDS.items()
    }
    for title, entries in (groups | {"Options": OPTIONS}).items():
        lines += [f"{title}:", *(f"  {name:14} {text}" for name, text in entries.items()), ""]
    lines += [textwrap.fill(KEY, width), "", textwrap.fill(EXIT_CODES, width)]
    return "\n".join(lines)
