"""Dead workers: their leases end, so that other workers continue, and their records go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodes_tasks.ledger.connection import Connection
from geodes_tasks.ledger.error_texts import info_json
from geodes_tasks.ledger.figures import as_count, as_number
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import Reason, State

WORKER_SECONDS = 30.0
"""Seconds of silence after which a worker no longer counts as alive."""
SPARED_S = 10.0
"""Seconds for which leases are spared after Redis was away, at most; a later time is rubbish."""
FAR_S = 86400.0
"""Seconds from which on a time in the future is rubbish: no clock of the fleet writes one."""
_FIELDS = (
    "state",
    "account",
    "batches",
    "token",
    "cancel",
    "attempts",
    "deaths",
    "counted",
    "done",
    "source",
    "worker",
)
_LOST = "WorkerLostError: its worker died or went silent"


def end_dead_leases(connection: Connection) -> int:
    """End the leases that ran out: the next attempt may begin, unless all attempts are used up.

    Returns:
        The number of attempts that ended.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    ended, now, key = 0, connection.server_time(), connection.key
    with connection.commands() as redis:
        if now < as_number(redis.get(key("settles"))) <= now + SPARED_S:
            return 0
        for account in redis.smembers(key("accounts")):
            leases = key("account", account, "leases")
            dead = redis.zrangebyscore(leases, "-inf", now)
            pipeline = redis.pipeline(transaction=False)
            for identifier in dead:
                pipeline.hmget(key("download", identifier), _FIELDS)
            # An entry may be an error of the server: the key holds another type.
            rows = zip(dead, pipeline.execute(raise_on_error=False), strict=True)
            for identifier, row in rows:
                known = row if isinstance(row, list) else [None] * len(_FIELDS)
                if known[0] == State.STARTED and all(known[1:4]):
                    ended += _end_attempt(connection, identifier, known[3:], now)
                else:
                    connection.run("end_damaged_download", identifier, known[3] or "")
                    _remove_lease(connection, leases, identifier)
    return ended


def _end_attempt(
    connection: Connection, identifier: str, fields: Sequence[str | None], now: float
) -> bool:
    """End the attempt of a dead worker. Return whether it had not renewed its lease meanwhile."""
    token, cancel, *counts, source, worker = fields
    attempts, deaths, counted, done = map(as_count, counts)
    entry = {"at": f"{now:.3f}", "worker": worker or "", "source": source or ""}
    report: dict[str, object] = {
        "dead": True,
        "deaths": deaths + 1,
        "bytes": counted,
        "source": source or "",
        "entry": jsontext.compact(entry | {"bytes": done, "error": _LOST}),
    }
    if cancel is None and attempts >= connection.limits.max_attempts:
        poison = ErrorInfo(
            "WorkerLostError",
            f"{deaths + 1} of {attempts} attempts ended as their worker died or went silent",
            "Look at the logs of the workers in its history, then: geodes-tasks retry BATCH",
        )
        report["error"] = info_json(poison)
    else:
        report |= {"reason": Reason.WORKER_LOST, "delay": 0, "counted": True}
    text, limits = jsontext.compact(report), connection.limits.args()
    return bool(connection.run("end_attempt", identifier, token or "", text, *limits)[0] == "ok")


def _remove_lease(connection: Connection, leases: str, identifier: str) -> None:
    """Remove the lease of a download that is not running, unless a worker claims it meanwhile."""
    record = connection.key("download", identifier)

    def remove(pipeline: Any) -> None:
        state = pipeline.hget(record, "state")
        pipeline.multi()
        if state != State.STARTED:
            pipeline.zrem(leases, identifier)

    with connection.commands() as redis:
        redis.transaction(remove, record)


def remove_dead_workers(connection: Connection) -> None:
    """Remove the records of workers that were not seen for a while, and sum the slots anew.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    now, key = connection.server_time(), connection.key
    workers = key("workers")
    with connection.commands() as redis:
        redis.zremrangebyscore(workers, f"({now + FAR_S}", "+inf")
        for worker in redis.zrangebyscore(workers, "-inf", now - WORKER_SECONDS):
            pipeline = redis.pipeline()
            pipeline.delete(key("worker", worker))
            pipeline.hdel(key("slots_of"), worker)
            pipeline.zrem(workers, worker)
            pipeline.execute()
    sum_slots(connection)


def sum_slots(connection: Connection) -> None:
    """Sum the slots of all workers: when one has other slots than before, and at each recovery."""
    with connection.commands() as redis:
        # A worker that registers between the two is in the sum of the next turn.
        slots = redis.hvals(connection.key("slots_of"))
        redis.set(connection.key("slots"), sum(map(as_count, slots)))
