"""The command line with the commands of modules that ``cli`` may not register yet."""

from __future__ import annotations

import sys

import typer

from geodes_tasks import cli, cli_watch

MODULES = (cli_watch,)


def main() -> None:
    """Run the command line; ours take the place of commands with the same name."""
    whole = typer.Typer(no_args_is_help=True)
    for module in MODULES:
        module.register(whole)
    ours = {str(one.name or one.callback.__name__) for one in whole.registered_commands}
    cli.app.registered_commands = [
        one
        for one in cli.app.registered_commands
        if (one.name or (one.callback.__name__ if one.callback else "")) not in ours
    ] + whole.registered_commands
    sys.argv[0] = "geodes-tasks"
    cli.main()


if __name__ == "__main__":
    main()
