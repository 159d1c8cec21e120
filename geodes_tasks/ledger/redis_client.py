"""The client of the Redis protocol: how it connects, and to which server."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from geodes_tasks.ledger.redis_errors import is_of_replica
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.redis_address import SentinelAddress, sentinel_address

Client = redis.Redis
"""The client of the Redis protocol; other modules import none."""


LEAVE_S = 1.0
"""Seconds between two tries whether the address leads to another server: redis-py begins a WATCH
again without end."""


def client_url(url: str) -> str:
    """Return a URL as redis-py spells it: the broker spells that of a Unix socket otherwise."""
    return (
        "unix://" + url.removeprefix("redis+socket://") if url.startswith("redis+socket") else url
    )


class _LedgerConnection:
    """Send each command without a check of the socket before it; leave a server that is a replica.

    The check costs three system calls, as much as the command itself. A connection that broke
    meanwhile fails with the command, which is tried again.
    """

    _left_at = -LEAVE_S

    def can_read(self, timeout: float = 0.0) -> bool:
        readable: bool = super().can_read(timeout) if timeout else False  # type: ignore[misc]
        return readable

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.ResponseError as error:
            if not is_of_replica(error) or time.monotonic() - self._left_at < LEAVE_S:
                raise
            self._left_at = time.monotonic()
            # A primary that becomes a replica keeps its connections open, and refuses writes. A new
            # connection to the same address, of a proxy, leads to the new primary.
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(str(error)) from error


def connect(settings: Config) -> redis.Redis:
    """Return a client of the ledger's Redis; it opens no connection yet."""
    address = str(settings.redis_url)
    url = client_url(address)
    # The kernel reports the end of a local server at once. A timeout would only break off an answer
    # that takes long.
    is_local = url.startswith("unix:")
    patience = {} if is_local else {"socket_timeout": 15, "socket_keepalive": True}
    options: dict[str, Any] = {
        "decode_responses": True,
        # Bytes that are no UTF-8, from another program in the same Redis, become U+FFFD: an
        # exception would cost the whole answer, with all good records in it.
        "encoding_errors": "replace",
        "socket_connect_timeout": 5,
        **patience,
        # redis-py's own default of ten retries takes seconds to notice a dead server.
        # Only a refused or broken connection is tried again: a server that does not answer has
        # cost one timeout by then.
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2, (redis.ConnectionError,)),
    }
    if (sentinel := sentinel_address(address)) is None:
        client: redis.Redis = redis.Redis.from_url(url, **options)
    else:
        client = _primary_of(sentinel, options)
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_LedgerConnection, kind), {})
    return client


def _primary_of(address: SentinelAddress, options: dict[str, Any]) -> redis.Redis:
    """Return a client of the primary: each new connection asks a Sentinel where it is now."""
    # redis-py asks a Sentinel for each new connection, and again after READONLY from a server that
    # is no primary any more (redis/sentinel.py), so a failover needs no restart of this process.
    # A Sentinel that does not answer is not tried again, ten times by redis-py's own default: the
    # next one is. redis-py has no types for these two.
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=address.sentinel_options | {"retry": Retry(NoBackoff(), 0)}
    )
    client: redis.Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
        address.master_name,
        db=address.database,
        username=address.username,
        password=address.password,
        ssl=address.is_tls,
        **address.tls_options,
        **options,
    )
    return client
