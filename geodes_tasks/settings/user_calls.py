"""Settings that name a command or a function of the user: run it, return its answer."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from importlib import import_module
from typing import Any

from geodes_tasks.errors import ConfigError

COMMAND_SECONDS = 60.0
"""Seconds that a command may take, at most."""
FUNCTIONS: dict[str, Callable[[], Any]] = {}
"""Functions by their names, ``module:function``: those given to a configuration, or imported."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


def answer(setting: str, named: str) -> Any:
    """Return the result of a function, ``module:function``, or the output of a command.

    Args:
        setting: Name of the setting, for errors.
        named: Its value.

    Raises:
        ConfigError: it cannot be run, fails, or takes over 60 s; nothing that it printed or raised
            is quoted, as that might be a secret.
    """
    return _result(setting, named) if _FUNCTION.match(named) else _output(setting, named)


def _result(setting: str, name: str) -> Any:
    if name not in FUNCTIONS:
        module, _, attribute = name.partition(":")
        try:
            FUNCTIONS[name] = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(setting, f"{name} cannot be imported here ({error})") from error
    try:
        return FUNCTIONS[name]()
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        # Not chained, and named by its class only.
        raise ConfigError(setting, f"the function failed ({type(error).__name__})") from None


def _output(setting: str, command: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(setting, f"the command cannot be run ({error})") from error
    except subprocess.TimeoutExpired:
        # Not chained: the error holds what was printed so far.
        problem = f"the command did not end within {COMMAND_SECONDS:g} s"
        raise ConfigError(setting, problem) from None
    if done.returncode:
        raise ConfigError(setting, f"the command ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace")
