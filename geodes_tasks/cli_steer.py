"""The commands that steer: ``retry``, ``cancel``, ``pause``, ``resume``. Each is safe twice."""

from __future__ import annotations

from typing import Annotated

import typer

from geodes_tasks import config
from geodes_tasks.cli_words import BatchName, batch_of, say
from geodes_tasks.steering import Steering

Account = Annotated[str, typer.Argument(help="The account.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (retry, cancel, pause, resume):
        app.command()(command)


def retry(
    batch_name: BatchName = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--class", help="Only failures of this error class.")
    ] = None,
) -> None:
    """Ask again for what failed."""
    begun = Steering(config.load()).retry(batch_of(batch_name).id, kinds or ())
    say(f"{begun} downloads begin anew")


def cancel(batch_name: BatchName = None) -> None:
    """Cancel a batch: what has not started never will, what runs stops."""
    cancelled = Steering(config.load()).cancel(batch_of(batch_name).id)
    say(f"{cancelled} downloads are cancelled")


def pause(account: Account = "default") -> None:
    """Hold an account: what runs ends by itself, nothing new starts."""
    began = Steering(config.load()).pause(account)
    say(f"{account}: {'paused' if began else 'was paused already'}")


def resume(account: Account = "default") -> None:
    """Let a paused account go on, for example after its key was replaced."""
    was = Steering(config.load()).resume(account)
    say(f"{account}: {'goes on' if was else 'was not paused'}")
