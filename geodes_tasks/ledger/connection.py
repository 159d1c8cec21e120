"""The connection to Redis and the scripts: the one place where commands are sent."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from geodes_tasks.errors import (
    GeodesTasksError,
    LedgerForbiddenError,
    LedgerSchemaError,
    UnknownBatchError,
)
from geodes_tasks.ledger.former_schema import take_over
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.ledger.redis_errors import Commands, ledger_error
from geodes_tasks.ledger.script_loader import script_text
from geodes_tasks.model.formatting import nearest
from geodes_tasks.settings.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.commands.core import Script

SCHEMA = "2"
"""Raised when unfinished records of an older version can no longer be worked on."""

FORMER_SCHEMA = "1"
"""Of version 0.1.0: its finished records read the same."""

END_S = 15.0
"""Seconds in which a private server has to take the command to end."""

WAIT_MS = 1000
"""Milliseconds that an enqueue waits for a replica of Redis to confirm."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a server that loads its file and takes no commands yet."""

    percent: float
    left_s: float
    """Seconds that the server expects to need."""


class Connection:
    """Send commands and scripts to the Redis of a ledger. Many threads may share one."""

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
        self._scripts: dict[str, Script] = {}
        self._idle: defaultdict[int, list[Any]] = defaultdict(list)
        """Connections that wait for the next script, by process."""

    def key(self, *parts: str) -> str:
        """Return the name of a key."""
        return self.prefix + ":".join(parts)

    def run(self, script: str, *args: Any) -> Any:
        """Run one script.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return self.send(script, *args)()

    def send(self, script: str, *args: Any) -> Callable[[], Any]:
        """Send a script that may run twice; return a function that waits for its answer.

        That function runs the script again where the connection broke. Where it is not called, the
        connection is lost.

        Raises:
            LedgerUnavailableError: Redis does not answer; also raised by the function.
        """
        with self.commands():
            known, connection = self._script(script), self._connection()
            try:
                connection.send_command("EVALSHA", known.sha, 1, self.prefix, *args)
            except redis.ConnectionError:
                pass  # so does the read, below
            except BaseException:
                # Where it was sent: its answer must not pass for that of the next script.
                connection.disconnect()
                self._idle[os.getpid()].append(connection)
                raise

        def answer() -> Any:
            with self.commands():
                try:
                    return connection.read_response()
                except (redis.ConnectionError, redis.exceptions.NoScriptError):
                    # Loads the script where it is missing, and connects anew, with pauses.
                    return known(keys=[self.prefix], args=list(args))
                except redis.ResponseError:
                    raise
                except BaseException:
                    connection.disconnect()
                    raise
                finally:
                    # Closed, it opens itself with the next command.
                    self._idle[os.getpid()].append(connection)

        return answer

    def _connection(self) -> Any:
        """Return an idle connection of this process, else a new one.

        It is not given back to its pool: that, and the client above it, take 90 calls a command.
        """
        # A forked child inherits the sockets of its parent and must not write to them.
        with contextlib.suppress(IndexError):
            return self._idle[os.getpid()].pop()
        return self.client.connection_pool.get_connection()

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            # With the first use: a command runs a few of them, and assembling all takes 50 ms.
            self._scripts[name] = self.client.register_script(script_text(name))
        return self._scripts[name]

    def commands(self) -> Commands:
        """Return a context of the client that raises its errors as those of the ledger."""
        return Commands(self.client, self.url)

    def failure(self, error: BaseException | None) -> GeodesTasksError | None:
        """Return the ledger's error for one of the client or the broker; None for any other."""
        return ledger_error(error, self.url)

    def unknown_batch(self, name: str) -> UnknownBatchError:
        """Return the error for a batch that is not there, with the names most like it."""
        with self.commands():
            return UnknownBatchError(
                name, nearest(name, self.client.zrange(self.key("batches"), 0, -1))
            )

    def is_run_over(self) -> bool:
        """Return whether a private server has no run now; a shared one has workers in its place."""
        with self.commands() as redis:
            return bool(redis.get(self.key("run")) == "off")

    def server_time(self) -> float:
        """Return the time of Redis, the only clock that all workers share, in seconds.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self.commands():
            seconds, microseconds = self.client.time()
        return float(seconds) + float(microseconds) / 1e6

    def ping(self) -> None:
        """Check that Redis answers and has records that this version reads.

        Raises:
            LedgerUnavailableError: Redis does not answer.
            LedgerSchemaError: unfinished downloads of another schema are there.
        """
        if (schema := self.schema()) == SCHEMA:
            return
        taken_over = False
        if schema == FORMER_SCHEMA:
            # A user who may only read sees it refused, until one who may write takes it over.
            with contextlib.suppress(LedgerForbiddenError), self.commands() as client:
                taken_over = take_over(client, self.key, SCHEMA)
        if not taken_over:
            raise LedgerSchemaError(masked(self.url), schema, SCHEMA)

    def schema(self) -> str:
        """Return the schema of the records; an empty ledger gets that of this version.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self.commands():
            return str(self.client.get(self.key("schema")) or self._begin())

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
        key = self.key("ledger_id")

        def make(pipeline: Any) -> None:
            known = pipeline.get(key)
            pipeline.multi()
            if not known:
                # Two writes, so that the append-only file has them as one transaction, like the
                # scripts: a server that drops the records at its restart drops the id with them,
                # where a single write would survive.
                pipeline.set(key, "")
                pipeline.set(key, uuid.uuid4().hex)
            pipeline.get(key)

        with self.commands() as client:
            return str(client.transaction(make, key)[-1])

    def replicas_confirm(self) -> bool | None:
        """Wait up to ``WAIT_MS`` for a replica to have all that was written so far.

        Returns:
            Whether one confirmed it; None without Sentinels, where no replica takes over.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        if not self.url.startswith("sentinel:"):
            return None
        with self.commands() as client:
            # WAIT counts from the last write of its own connection; replication is one stream, so
            # a write of nothing new stands for all before it (https://redis.io/commands/wait).
            pipeline = client.pipeline(transaction=False)
            pipeline.set(self.key("schema"), SCHEMA, xx=True)
            pipeline.wait(1, WAIT_MS)
            return bool(pipeline.execute()[-1])

    def check_writes(self) -> None:
        """Write nothing new, to see that the server takes changes.

        Raises:
            LedgerStuckError: it takes none, for its disk or its memory is full.
        """
        with self.commands() as client:
            # Not the schema: it may be that of another version.
            client.zadd(self.key("workers"), {"": 0}, xx=True)

    def end_server(self) -> None:
        """Stop a private server after it has written its data; do nothing where there is none.

        A command ends it at once; it would check for a signal ten times a second only.
        """
        # The answer is a broken connection, which would be tried again and again.
        self.client.set_retry(Retry(NoBackoff(), 0))
        pool = self.client.connection_pool
        pool.connection_kwargs["socket_timeout"] = END_S
        pool.disconnect(inuse_connections=False)
        with contextlib.suppress(redis.RedisError, OSError):
            self.client.shutdown()

    def _begin(self) -> str:
        # A user who may only read finds an empty ledger, in which no record is of another schema.
        with contextlib.suppress(redis.exceptions.NoPermissionError):
            self.client.set(self.key("schema"), SCHEMA, nx=True)
            return str(self.client.get(self.key("schema")))
        return SCHEMA


class Part:
    """Send the commands and scripts of one subject over the shared connection."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection; sends nothing."""
        self._connection, self._key = connection, connection.key
