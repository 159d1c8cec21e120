"""The commands ``secrets`` and ``deploy-files``: passwords and files of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.client import deployment

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", show_default=False, help="Folder to write to.")
]


def secrets(
    folder: Folder,
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
    write_line(f"secrets in {folder}")


def deploy_files(folder: Folder) -> None:
    """Write the files for Slurm, Kubernetes, Compose, systemd, Prometheus and Grafana into DIR."""
    for path in deployment.copy_deploy_files(folder):
        write_data(str(path))
    write_line(f"begin with {folder / 'deploy' / 'README.md'}")
