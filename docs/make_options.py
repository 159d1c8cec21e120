"""Write docs/options.md from the command line itself: each command with its options.

python docs/make_options.py [FILE]           writes it
python docs/make_options.py --check [FILE]   only checks that it is up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_page

from geodes_tasks.cli.command_group import loaded
from geodes_tasks.cli.command_table import COMMANDS

PAGE = Path(__file__).with_name("options.md")
OPENING = """\
# Options of each command

<!-- Made by `python docs/make_options.py`. Change geodes_tasks/cli, not this page. -->

`geodes-tasks COMMAND --help` prints the same, with examples. What the commands have in common, and
the exit codes: [Commands](commands.md).
"""
BESIDE_ALL = {"--help", "--verbose"}
"""Options of every command."""


def page() -> str:
    """Return the whole page."""
    return "\n".join([OPENING, *(line for group in COMMANDS for line in _group(group))])


def _group(title: str) -> Iterator[str]:
    yield from (f"## {title}", "")
    for name, (_, text) in COMMANDS[title].items():
        yield from (f"### {name}", "", text, "")
        command = loaded(name)
        if subcommands := getattr(command, "commands", {}):
            for below, one in subcommands.items():
                yield from _options(f"{name} {below}", one)
        else:
            yield from _options(name, command)


def _options(name: str, command: Any) -> Iterator[str]:
    """Yield the usage line and the table of one command."""
    # Typer's own context: a metavar may depend on it.
    context = type(command).context_class(command, info_name=f"geodes-tasks {name}")
    words = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"geodes-tasks {name} {words}", "```", "")
    rows = [one for one in command.params if not BESIDE_ALL & set(one.opts)]
    if not rows:
        return
    yield from ("| argument or option | what it does |", "|---|---|")
    for one in rows:
        names, text = one.get_help_record(context) or (one.make_metavar(context), "")
        yield f"| `{_cell(names)}` | {_cell(text).replace('<', '&lt;')} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(made_page.main(lambda target: {target: page()}, PAGE, sys.argv[1:]))
