"""Repair of keys: rubbish of other programs is removed, times of a wrong clock are corrected."""

from __future__ import annotations

from geodes_tasks.ledger.connection import Connection
from geodes_tasks.ledger.dead_workers import FAR_S
from geodes_tasks.ledger.figures import as_number

KEYS = {
    "accounts": "set", "batches": "zset", "due": "zset", "workers": "zset", "forgotten": "set",
    "sources": "hash", "totals": "hash", "paths": "hash", "holds": "hash", "litter": "zset",
    "slots": "string", "slots_of": "hash", "limits": "string", "fence": "string",
    "hooks": "string", "schema": "string", "since:turn": "zset", "looked": "string",
    "settles": "string", "directories": "hash", "recoverer": "string", "ledger_id": "string",
    "open": "set", "over": "hash", "kept": "zset", "run": "string", "earlier": "set",
    "left_over": "hash", "wanted": "set",
    # Of the broker: kombu writes its bindings when a worker or a sender connects.
    "geodes": "list",
    **dict.fromkeys(
        map("_kombu.binding.{}".format,
            ("geodes", "celeryev", "celery.pidbox", "reply.celery.pidbox")), "set",
    ),
}  # fmt: skip
"""Keys that programs read without a script, with their types."""
PARTS = {
    "": "hash", ":leases": "zset", ":sent": "zset", ":spent": "zset", ":tape": "zset",
    ":poll": "hash", ":changes": "list", ":ring": "zset",
}  # fmt: skip
"""Parts of the key of an account, with their types."""
MOST_REJOINED, MOST_CORRECTED = 1000, 10_000
"""Batches that enter the rings anew, times of one sorted set that are corrected, at most."""
_OF_ACCOUNT = "paused_until", "probed", "lowered", "quota_asked"
_OF_SOURCE = "until", "avoid", "worked", "offered"


def remove_rubbish(connection: Connection, worker: str = "") -> None:
    """Remove keys of another type than ours, and build anew what can be built anew.

    Args:
        connection: To the ledger.
        worker: Name of one whose record is looked at too.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    key, mend = connection.key, connection.key("mend")
    later = f"({connection.server_time() + FAR_S}"
    with connection.commands() as redis:
        own = {key("worker", worker): "hash"}
        _remove_other_types(connection, {key(name): kind for name, kind in KEYS.items()} | own)
        accounts = [key("account", account) for account in redis.smembers(key("accounts"))]
        parts = {one + part: kind for one in accounts for part, kind in PARTS.items()}
        _remove_other_types(connection, parts)
        for account in accounts:
            redis.zremrangebyscore(f"{account}:spent", later, "+inf")
            for name in (f"{account}:leases", f"{account}:sent"):
                for identifier in redis.zrangebyscore(name, later, "+inf", 0, MOST_CORRECTED):
                    redis.zadd(name, {identifier: 0}, xx=True)
        if redis.delete(mend):
            for batch in redis.zrevrange(key("batches"), 0, MOST_REJOINED - 1):
                connection.run("rejoin_rings", batch)


def _remove_other_types(connection: Connection, kinds: dict[str, str]) -> None:
    with connection.commands() as redis:
        pipeline = redis.pipeline(transaction=False)
        for name in kinds:
            pipeline.type(name)
        found = zip(kinds.items(), pipeline.execute(), strict=True)
        if rubbish := [name for (name, kind), there in found if there not in {kind, "none"}]:
            redis.delete(*rubbish)
            redis.set(connection.key("mend"), 1)


def follow_clock(connection: Connection, back_s: float) -> None:
    """Correct the times written before the clock of Redis was set back by some seconds.

    Leases, waits, outages and signs of life would last for that much longer.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    now, key = connection.server_time(), connection.key
    scores, fields = {key("due"): now, key("workers"): now}, dict[str, tuple[str, ...]]()
    with connection.commands() as redis:
        for account in redis.smembers(key("accounts")):
            name = key("account", account)
            # What was renewed since ends within a lease from now; scripts round to milliseconds.
            scores[f"{name}:leases"] = now + connection.limits.lease_seconds + 0.001
            scores |= {f"{name}:sent": now, f"{name}:spent": now}
            fields |= {name: _OF_ACCOUNT, f"{name}:poll": ("next", "till")}
        sources = redis.hgetall(key("sources"))
        fields[key("sources")] = tuple(
            name for name in sources if name.partition(":")[0] in _OF_SOURCE
        )
        for name, latest in scores.items():
            late = redis.zrangebyscore(
                name, f"({latest}", "+inf", 0, MOST_CORRECTED, withscores=True
            )
            if late:
                corrected = {one: score - back_s for one, score in late}
                redis.zadd(name, corrected, xx=True, lt=True)
        for name, names in fields.items():
            for field, text in zip(names, redis.hmget(name, names) if names else (), strict=True):
                if (then := as_number(text)) > now:
                    redis.hset(name, field, then - back_s)
