"""Where each setting comes from, and its value as it may be shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geodes_tasks.settings.config import Config, load, text_of
from geodes_tasks.settings.files import read_file, read_usual, variables
from geodes_tasks.settings.secret import Secret
from geodes_tasks.settings.urls import masked


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is now."""

    name: str
    """Its field in :class:`Config`, which is its name in ``config.toml``."""
    value: str | None
    """Its value as text; secrets as stars; None when it is not set."""
    origin: str
    """``default``, the name of a variable, or the path of a file."""


def settings_in_force(config: Path | None = None) -> Iterator[Setting]:
    """Yield every setting with its value and origin.

    Args:
        config: A file that wins over the environment and the usual files.

    Raises:
        ConfigError: a value cannot be used.
    """
    known, settings = Config.fields, load(config)
    named = read_file(config, known) if config else {}
    # Read a second time: what is refused was logged by the first.
    weaker = list(reversed(list(read_usual(known, known))))
    present = variables()
    for name in known:
        found = [str(config)] if name in named else []
        found += [each for each in Config.fields[name].variables if each in present]
        found += [str(path) for path, values in weaker if name in values]
        # No command uses the default address: without one it works on this machine, or refuses.
        value = _shown(name, getattr(settings, name)) if found or name != "redis_url" else None
        yield Setting(name, value, [*found, "default"][0])


def _shown(name: str, value: object) -> str | None:
    shown = text_of(name, value)
    if name == "redis_url":
        return masked(shown)
    if isinstance(value, Secret):
        return "***"
    # The path of a webhook is the secret of most services.
    if name.startswith("on_") and shown.startswith(("http://", "https://")):
        return "/".join([*shown.split("/")[:3], "***"])
    return shown or None
