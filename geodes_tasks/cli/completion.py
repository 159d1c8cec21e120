"""The command ``completion``: what a shell needs to complete commands, batches and formats."""

from __future__ import annotations

from typing import Annotated, Literal

import typer.completion

from geodes_tasks.cli.command_table import COMPLETE_VARIABLE
from geodes_tasks.cli.output import write_data


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.")],
) -> None:
    """Print the completion script of a shell: commands, options, batches and formats.

    Example: eval "$(geodes-tasks completion bash)" as a line of ~/.bashrc
    """
    script = typer.completion.get_completion_script(  # type: ignore[attr-defined] # re-exported
        prog_name="geodes-tasks", complete_var=COMPLETE_VARIABLE, shell=shell
    )
    write_data(script)
