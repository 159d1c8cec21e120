"""The connection to Redis and the scripts: the one place where commands are sent."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from geodes_tasks.errors import (
    GeodesTasksError,
    LedgerForbiddenError,
    LedgerSchemaError,
    LedgerStuckError,
    LedgerUnavailableError,
    UnknownBatchError,
)
from geodes_tasks.model.formatting import nearest
from geodes_tasks.model.states import ALLOWED_MOVES
from geodes_tasks.settings.urls import masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.commands.core import Script

    from geodes_tasks.settings.config import Settings

Client = redis.Redis
"""The client of the Redis protocol; other modules import none."""
SCHEMA = "2"
"""Raised when unfinished records of an older version can no longer be worked on."""

FORMER_SCHEMA = "1"
"""Of version 0.1.0: its finished records read the same."""

END_S = 15.0
"""Seconds in which a private server has to take the command to end."""

_SCRIPTS = resources.files(__package__) / "scripts"
_SHARED = ("common", "account", "ready")
"""Put in front of every other script, in this order."""


def client_url(url: str) -> str:
    """Turn the broker's spelling of a Unix socket into redis-py's."""
    return (
        "unix://" + url.removeprefix("redis+socket://") if url.startswith("redis+socket") else url
    )


class _Unlooked:
    """A connection that is not looked at before each command.

    It costs three system calls, as much as the command itself. One that broke meanwhile is found
    out by the command, which is tried again.
    """

    def can_read(self, timeout: float = 0.0) -> bool:
        looked: bool = super().can_read(timeout) if timeout else False  # type: ignore[misc]
        return looked


def connect(settings: Settings) -> redis.Redis:
    """Make a client of the ledger's Redis; opens no connection yet."""
    url = client_url(settings.redis_url.get_secret_value())
    # The kernel reports the end of a local server at once. A timeout would only break off an answer
    # that takes long.
    is_local = url.startswith("unix:")
    patience = {} if is_local else {"socket_timeout": 15, "socket_keepalive": True}
    client: redis.Redis = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        **patience,
        # redis-py's own default of ten retries takes seconds to notice a dead server.
        # Only a refused or broken connection is tried again: a server that does not answer has
        # cost one timeout by then.
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2, (redis.ConnectionError,)),
    )
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Unlooked, kind), {})
    return client


def _prelude() -> str:
    """Give the table of moves as Lua and the functions that all scripts share."""
    moves = ", ".join(sorted(f"['{old or ''}>{new}'] = true" for old, new in ALLOWED_MOVES))
    shared = "".join((_SCRIPTS / f"{name}.lua").read_text() for name in _SHARED)
    return f"local ALLOWED = {{ {moves} }}\n{shared}"


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a server that loads its file and takes no commands yet."""

    percent: float
    left_s: float
    """Seconds that the server expects to need."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do at once, as the caller's settings have it."""

    concurrent: int = 4
    """Downloads under way in the whole fleet."""
    quota_count: int = 0
    """Requests to the portal in any window; 0 is no quota."""
    quota_seconds: float = 0.0
    lease_seconds: float = 60.0
    max_attempts: int = 8
    window: int = 256
    """Messages on their way at once, at least; the rest stays in the ledger until its turn."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Take the limits from the settings."""
        quota = settings.quota
        return cls(
            concurrent=settings.max_concurrent,
            quota_count=quota.count if quota else 0,
            quota_seconds=quota.seconds if quota else 0.0,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
        )

    @property
    def counted_seconds(self) -> float:
        """How long a request counts: it is counted here a little before the portal counts it."""
        return self.quota_seconds + min(self.quota_seconds / 20, 2.0)

    def args(self) -> tuple[int, int, int, float]:
        """Give them in the order that the scripts read."""
        return self.window, self.concurrent, self.quota_count, self.counted_seconds


# What Redis says of itself, as it says it: the client has a class for some of it only, and the
# code in front is gone for those. Source: https://github.com/redis/redis, src/server.c.
_STUCK = (
    "used memory > 'maxmemory'",
    "read only replica",
    "MISCONF",  # it cannot write its disk, so it takes no changes
    "MASTERDOWN",
    "NOREPLICAS",
)
_BUSY = "BUSY "
"""The answer while a script runs, whatever the server calls itself: Redis, Valkey."""
_FORBIDDEN = ("executing the script can't run this command", "ACL failure in script")
"""Of a script that does what its caller may not; Redis, and Valkey."""


class Sent:
    """A script on its way: Redis runs it, whoever sent it does something else."""

    def __init__(self, store: Connection, script: str, args: Sequence[Any]) -> None:
        """Send it; the arguments are those of :meth:`Connection.send`."""
        self._store, self._run = store, partial(store.run, script, *args)
        self._pool = store.client.connection_pool
        self._connection: Any = None
        # On a connection that breaks it is said again in the ordinary way, which is patient.
        with store.commands(), contextlib.suppress(redis.ConnectionError):
            self._connection = self._pool.get_connection()
            try:
                self._connection.send_command("EVALSHA", store.sha(script), 1, store.prefix, *args)
            except BaseException:
                self.close()
                raise

    def answer(self) -> Any:
        """Wait for the answer.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        if (connection := self._connection) is None:
            return self._run()
        broken = redis.ConnectionError, redis.exceptions.NoScriptError
        try:
            with self._store.commands(), contextlib.suppress(*broken):
                return connection.read_response()
        finally:
            self._connection = None
            self._pool.release(connection)
        return self._run()

    def close(self) -> None:
        """Let go of an answer that is not waited for; its connection is of no use any more."""
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


class Connection:
    """Redis with the ledger's scripts and key names. Safe to use from many threads."""

    def __init__(
        self,
        client: redis.Redis,
        limits: Limits | None = None,
        *,
        prefix: str = "geodes:",
        url: str = "redis://",
    ) -> None:
        """Take a client with ``decode_responses``; sends nothing."""
        # Its stubs cannot tell that answers are decoded: every str would be `bytes | str`.
        self.client: Any = client
        self.limits = limits or Limits()
        self.prefix, self.url = prefix, url

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        prelude = _prelude()
        names = [entry.name for entry in _SCRIPTS.iterdir() if entry.name.endswith(".lua")]
        return {
            name.removesuffix(".lua"): self.client.register_script(
                prelude + (_SCRIPTS / name).read_text()
            )
            for name in names
            if name.removesuffix(".lua") not in _SHARED
        }

    def key(self, *parts: str) -> str:
        """Name a key."""
        return self.prefix + ":".join(parts)

    def sha(self, script: str) -> str:
        """Give the name under which Redis knows a script that it has run before."""
        return str(self._scripts[script].sha)

    def send(self, script: str, *args: Any) -> Sent:
        """Have Redis run one script, and do not wait. Only for what may be said twice.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return Sent(self, script, args)

    def run(self, script: str, *args: Any, client: Any = None) -> Any:
        """Run one script, on a pipeline when one is given.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        known = self._scripts[script]
        with self.commands():
            if client is None:
                with contextlib.suppress(redis.exceptions.NoScriptError):
                    # As the script would do itself, without the half of the way that is not needed.
                    sha = self.sha(script)
                    return self.client.execute_command("EVALSHA", sha, 1, self.prefix, *args)
            return known(keys=[self.prefix], args=list(args), client=client)

    @contextlib.contextmanager
    def commands(self) -> Iterator[Any]:
        """Yield the client; turn its errors of connection and of rights into ours."""
        try:
            yield self.client
        except redis.RedisError as error:
            known = self.failure(error)
            if known is None:
                raise
            raise known from error

    def failure(self, error: BaseException | None) -> GeodesTasksError | None:
        """Give our error for one of the client, also of the broker's; None for any other."""
        match error:
            case redis.ConnectionError() | redis.TimeoutError():
                return LedgerUnavailableError(masked(self.url), _reason(error))
            case redis.exceptions.NoPermissionError():
                return LedgerForbiddenError(masked(self.url), _reason(error))
            case redis.exceptions.NoScriptError():
                # Another server is at this address since the script was sent.
                return LedgerStuckError(masked(self.url), _reason(error))
            case redis.ResponseError() if any(word in str(error) for word in _FORBIDDEN):
                return LedgerForbiddenError(masked(self.url), _reason(error))
            case redis.ResponseError() if _is_stuck(str(error)):
                return LedgerStuckError(masked(self.url), _reason(error))
        return None

    def unknown_batch(self, name: str) -> UnknownBatchError:
        """Return the error for a batch that is not there, with the names most like it."""
        with self.commands():
            return UnknownBatchError(
                name, nearest(name, self.client.zrange(self.key("batches"), 0, -1))
            )

    def server_time(self) -> float:
        """Give the time of Redis, the only clock that all workers share, in seconds.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self.commands():
            seconds, microseconds = self.client.time()
        return float(seconds) + float(microseconds) / 1e6

    def ping(self) -> None:
        """Make sure that Redis answers and holds records that this version reads.

        Raises:
            LedgerUnavailableError: Redis does not answer.
            LedgerSchemaError: unfinished downloads of another schema are there.
        """
        if (schema := self.schema()) != SCHEMA and self._taken_over(schema) != SCHEMA:
            raise LedgerSchemaError(masked(self.url), schema, SCHEMA)

    def schema(self) -> str:
        """Return the schema of the records; an empty ledger gets that of this version.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self.commands():
            return str(self.client.get(self.key("schema")) or self._begin())

    def _taken_over(self, schema: str) -> str:
        """Return the schema after the ledger was taken over where nothing in it is unfinished."""
        if schema != FORMER_SCHEMA:
            return schema
        with contextlib.suppress(LedgerForbiddenError):
            return str(self.run("take_over", schema, SCHEMA))
        return schema

    def loading(self) -> Loading | None:
        """Return how far the server is with loading its file; None when it takes commands.

        Raises:
            LedgerUnavailableError: no server answers.
        """
        with self.commands():
            facts = self.client.info("persistence")
        if not facts.get("loading"):
            return None
        percent, left_s = (
            float(facts.get(f"loading_{name}", 0)) for name in ("loaded_perc", "eta_seconds")
        )
        return Loading(percent, max(left_s, 0.0))

    def ledger_id(self) -> str:
        """Return the id of this ledger; the first call for an empty ledger makes it.

        It changes when Redis lost its records, or another Redis answers at the address.

        Raises:
            LedgerUnavailableError: Redis does not answer.
            LedgerForbiddenError: this user may not write to the ledger.
        """
        return str(self.run("ledger_id", uuid.uuid4().hex))

    def end_server(self) -> None:
        """Have a private server write what it has and end; nothing happens where there is none.

        Told by a command it ends at once; a signal it would look at now and then.
        """
        # The answer is a broken connection, which would be tried again and again.
        self.client.set_retry(Retry(NoBackoff(), 0))
        pool = self.client.connection_pool
        pool.connection_kwargs["socket_timeout"] = END_S
        pool.disconnect(inuse_connections=False)
        with contextlib.suppress(redis.RedisError, OSError):
            self.client.shutdown()

    def _begin(self) -> str:
        # Whoever may only read finds an empty ledger, in which no record is of another schema.
        with contextlib.suppress(redis.exceptions.NoPermissionError):
            self.client.set(self.key("schema"), SCHEMA, nx=True)
            return str(self.client.get(self.key("schema")))
        return SCHEMA


def _is_stuck(said: str) -> bool:
    # In a pipeline the client puts the command in front.
    is_busy = said.startswith(_BUSY) or f"caused error: {_BUSY}" in said
    return is_busy or any(word in said for word in _STUCK)


class Part:
    """One subject of the ledger: its commands and scripts, sent over the shared connection."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection; sends nothing."""
        self._connection = connection


def _reason(error: Exception) -> str:
    # Where in which script it was says nothing to whoever reads it.
    said = str(error).partition(" script: ")[0]
    return said.splitlines()[0] if said else type(error).__name__
