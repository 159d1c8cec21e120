"""The Redis of a cluster in the settings, and the error where a command needs one."""

from __future__ import annotations

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Config


def has_cluster(conf: Config) -> bool:
    """Return whether the settings name a Redis: its workers download then."""
    return "redis_url" in conf.given


def require_cluster(conf: Config, command: str) -> None:
    """Check that the settings name a Redis, for a command that needs workers elsewhere.

    Raises:
        ConfigError: they do not.
    """
    if not has_cluster(conf):
        raise ConfigError(
            "GEODES_TASKS_REDIS_URL",
            f"`{command}` needs the Redis of a cluster, and none is configured",
            "Type: export GEODES_TASKS_REDIS_URL=redis://HOST:6379/0. On one machine "
            "`geodes-tasks download` needs none.",
        )
