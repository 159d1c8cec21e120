"""The errors of Redis and of its client, as those of the ledger."""

from __future__ import annotations

from typing import Any

import redis
from redis.sentinel import MasterNotFoundError

from geodes_tasks.errors import (
    GeodesTasksError,
    LedgerForbiddenError,
    LedgerStuckError,
    LedgerUnavailableError,
)
from geodes_tasks.settings.urls import masked

# Errors of a server that cannot work, in its own words: the client has a class for some of them
# only, and has removed the code in front of those.
# Source: https://github.com/redis/redis, src/server.c.
_REPLICA = ("read only replica", "Link with MASTER is down")
_STUCK = (
    *_REPLICA,
    "used memory > 'maxmemory'",
    "MISCONF",  # it cannot write its disk, so it takes no changes
    "NOREPLICAS",
    "WRONGTYPE",  # another program wrote this key; recovery of a worker removes it
)
_CLUSTER = (
    redis.exceptions.ClusterDownError,
    redis.exceptions.MovedError,
    redis.exceptions.ClusterCrossSlotError,
)
_BUSY = "BUSY "
"""Begins the answer while a script runs: of Redis and of Valkey."""
_FORBIDDEN = ("executing the script can't run this command", "ACL failure in script")
"""Errors of a script that runs a command which its caller may not run; of Redis and of Valkey."""


class Commands:
    """Context of a client that raises its errors of connection and of rights as the ledger's."""

    # A class and not a generator: it is entered several times for each download.
    __slots__ = ("_client", "_url")

    def __init__(self, client: Any, url: str) -> None:
        """Take the client, and its address for messages."""
        self._client, self._url = client, url

    def __enter__(self) -> Any:
        """Return the client."""
        return self._client

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise the error of the ledger for one of the client."""
        if error is not None and (known := ledger_error(error, self._url)) is not None:
            raise known from error


def ledger_error(error: BaseException | None, url: str) -> GeodesTasksError | None:
    """Return the ledger's error for one of the client or the broker; None for any other."""
    match error:
        case redis.RedisError() if is_of_replica(error):
            return LedgerStuckError(masked(url), _reason(error))
        case redis.AuthenticationError():
            problem = f"user or password is missing or wrong ({_reason(error)})"
            return LedgerForbiddenError(masked(url), problem)
        case redis.ConnectionError() | redis.TimeoutError():
            return LedgerUnavailableError(masked(url), _reason(error))
        case redis.InvalidResponse():
            return LedgerUnavailableError(masked(url), "what answers there is no Redis")
        case redis.ResponseError() if _is_of_cluster(error):
            problem = "it runs in cluster mode; use a Redis with `cluster-enabled no`"
            return LedgerStuckError(masked(url), problem)
        case redis.exceptions.NoPermissionError():
            return LedgerForbiddenError(masked(url), _reason(error))
        case redis.exceptions.NoScriptError():
            # Another server is at this address since the script was sent.
            return LedgerStuckError(masked(url), _reason(error))
        case redis.ResponseError() if any(word in str(error) for word in _FORBIDDEN):
            return LedgerForbiddenError(masked(url), _reason(error))
        case redis.ResponseError() if _is_stuck(str(error)):
            return LedgerStuckError(masked(url), _reason(error))
    return None


def is_of_replica(error: redis.RedisError) -> bool:
    """Return whether a server answered that it is a replica, and not the primary."""
    return any(word in str(error) for word in _REPLICA)


def _is_of_cluster(error: redis.ResponseError) -> bool:
    return isinstance(error, _CLUSTER) or "in a cluster node" in str(error)


def _is_stuck(message: str) -> bool:
    # In a pipeline the client puts the command in front.
    is_busy = message.startswith(_BUSY) or f"caused error: {_BUSY}" in message
    return is_busy or any(word in message for word in _STUCK)


def _reason(error: Exception) -> str:
    # The line in a script, and the command in a pipeline, mean nothing to a user.
    message = str(error).partition(" script: ")[0].rpartition(" of pipeline caused error: ")[2]
    if isinstance(error, MasterNotFoundError):
        # redis-py lists its clients with 900 characters each, and leaves out what each failed with.
        message, _, failed = message.partition(" : ")
        refusals = failed.count(" - ")
        message += (
            f"; {refusals} Sentinels did not answer, or refused ssl= or sentinel_password="
            if refusals
            else "; is that the master_name in the Sentinels' settings?"
        )
    return message.splitlines()[0] if message else type(error).__name__
