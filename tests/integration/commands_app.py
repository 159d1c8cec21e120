"""The command line with the commands of modules that ``cli`` may not register yet."""

from __future__ import annotations

import sys

import typer
from typer.models import CommandInfo

from geodes_tasks import cli, cli_doctor, cli_metrics, cli_report, cli_verify, cli_watch

MODULES = (cli_doctor, cli_metrics, cli_report, cli_verify, cli_watch)


def named(command: CommandInfo) -> str:
    """Give the name under which a command is typed."""
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


def main() -> None:
    """Run the command line; ours take the place of commands with the same name."""
    whole = typer.Typer(no_args_is_help=True)
    for module in MODULES:
        module.register(whole)
    ours = {named(one) for one in whole.registered_commands}
    kept = [one for one in cli.app.registered_commands if named(one) not in ours]
    cli.app.registered_commands = [*kept, *whole.registered_commands]
    sys.argv[0] = "geodes-tasks"
    cli.main()


if __name__ == "__main__":
    main()
