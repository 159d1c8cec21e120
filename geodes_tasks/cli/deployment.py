"""The commands ``secrets`` and ``deploy-files``: what a deployment is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodes_tasks.cli.options import stderr
from geodes_tasks.client import deployment


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(secrets)
    app.command("deploy-files")(deploy_files)


def secrets(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    prefix: Annotated[
        list[str] | None,
        typer.Option(help="GEODES_TASKS_KEY_PREFIX of an installation [default: geodes:]"),
    ] = None,
) -> None:
    """Make passwords for Redis, Flower and Grafana, and the ACL file of Redis.

    Passwords that exist are kept. Start Redis with --aclfile DIR/acl/users.acl; workers use
    GEODES_TASKS_REDIS_PASSWORD_FILE=DIR/worker/password, clients DIR/client/password.
    """
    deployment.make_secrets(folder, prefix or ("geodes:",))
    stderr.print(f"secrets in {folder}", soft_wrap=True, highlight=False)


def deploy_files(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Write the files for Slurm, Kubernetes, Compose, systemd, Prometheus and Grafana into DIR."""
    for path in deployment.copy_deploy_files(folder):
        print(path)  # noqa: T201 - data goes to stdout
    stderr.print(f"begin with {folder / 'deploy' / 'README.md'}", soft_wrap=True, highlight=False)
