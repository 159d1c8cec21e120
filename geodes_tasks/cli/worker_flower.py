"""The commands ``worker`` and ``flower``: those of Celery, with the application named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import config
from geodes_tasks.settings.cluster import require_cluster

_START = """
import sys
from contextlib import nullcontext
import worker
from celery.utils import imports
imports.cwd_in_path = nullcontext
from celery.__main__ import main
sys.argv[0] = "celery"
try:
    main()
except OSError as error:
    if "flower" not in sys.argv:
        raise
    print(f"error: {error}. Correct --port, --address or --db.", file=sys.stderr)
    sys.exit(2)
"""
"""Python that starts Celery with the installed `worker`, and runs no module of the folder.

Celery puts the working directory first on ``sys.path`` while it imports a task
(celery.utils.imports.cwd_in_path), and so does ``python -m``.
"""
_CONF = "flowerconfig.py"
"""File that Flower runs where no ``--conf`` names another one."""


def worker(context: typer.Context) -> None:
    """Start a worker for the cluster of GEODES_TASKS_REDIS_URL.

    Options go to Celery, and `celery worker --help` lists them:
    -c 4 (transfers of this worker), -n NAME@%h, -l INFO, --pidfile FILE.
    """
    # Celery imports the pool before the check of worker.preflight: a traceback where it is missing.
    named = {word.rpartition("=")[2].removeprefix("-P") for word in context.args}
    if pools := named & {"gevent", "eventlet"}:
        raise ConfigError("--pool", f"{pools.pop()} loses downloads", "Use threads or prefork.")
    _execute_celery("worker", context.args)


def flower(context: typer.Context) -> None:
    """Start Flower for the cluster of GEODES_TASKS_REDIS_URL.

    Options go to Flower: --port=5555, --address, --basic-auth=USER:PASSWORD, --url-prefix.
    """
    named = [word.lstrip("-").partition("=")[0] for word in context.args]
    if "conf" in named or "FLOWER_CONF" in os.environ:
        _execute_celery("flower", context.args)
    if Path(_CONF).exists():  # a Python file, and the folder may be a stranger's
        typer.echo(f"{_CONF} is not read: to read it add --conf={_CONF}", err=True)
    _execute_celery("flower", [f"--conf={os.devnull}", *context.args])


def _execute_celery(command: str, arguments: list[str]) -> NoReturn:
    """Replace this process by Celery's.

    Raises:
        ConfigError: the settings name no Redis, or one of them cannot be used.
    """
    # Celery prints a traceback for wrong settings; here they become one line and exit code 2.
    require_cluster(config.load(), command)
    # -P keeps the working directory off sys.path (Python 3.11, cmdline.html#cmdoption-P).
    # Celery's banner is 20 lines for a person; the log of a service needs none. With --quiet
    # Flower would not log its address.
    is_service = command == "worker" and not sys.stderr.isatty()
    quiet = ["--quiet"] if is_service else []
    words = [sys.executable, "-P", "-c", _START, "-A", "worker", *quiet, command, *arguments]
    os.execv(sys.executable, words)  # noqa: S606 - no shell
