"""Checks of a server: one set, for a worker's start and for ``doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from geodes_tasks.errors import LedgerForbiddenError
from geodes_tasks.ledger.connection import Connection
from geodes_tasks.model.formatting import human_bytes

DEFAULT_USER = "user default off resetpass allkeys allchannels +@all"
"""Line of the ACL file that closes `default` and leaves it the rights to replay the append-only
file; with fewer, writes of scripts are dropped (redis/redis#14541, valkey-io/valkey#3983)."""
UNUSED = {"-@admin", "-@dangerous"}
"""Categories with no command that the ledger writes with: `default` may be without them."""
FULL_SHARE = 0.8
"""The share of ``maxmemory`` in use from which a warning is due."""


class Level(StrEnum):
    """How bad the finding of a check is."""

    OK = "ok"
    WARNING = "warning"
    """Downloads work, with a risk or without some comfort."""
    PROBLEM = "problem"
    """Downloads will not work, or their records will be lost."""


@dataclass(frozen=True, slots=True)
class Check:
    """The finding of one check."""

    name: str
    level: Level
    text: str
    mend: str = ""
    """What to do about it; empty when nothing is to be done."""

    def __str__(self) -> str:
        """Return one line for a log."""
        return ". ".join(filter(None, (f"{self.name}: {self.text}", self.mend)))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def server_checks(connection: Connection) -> Iterator[Check]:
    """Yield what the configuration of the server means for the ledger.

    A command that this user may not send, or that a managed Redis lacks, skips its check and never
    raises.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    facts = _reply(connection, connection.client.info)
    if facts is None:
        yield Check(
            "redis persistence", Level.WARNING, "this user may not read INFO: not checked",
            "Allow the command INFO to this Redis user.",
        )  # fmt: skip
    else:
        yield from _role(facts)
        yield _persistence(facts)
        yield from _memory(facts)


def run_id(connection: Connection) -> str:
    """Return the id of the server's process: two servers at one address have two.

    Raises:
        LedgerUnavailableError: Redis does not answer.
        LedgerForbiddenError: this user may not read INFO.
    """
    with connection.commands() as redis:
        return str(redis.info("server")["run_id"])


def _role(facts: Mapping[str, Any]) -> Iterator[Check]:
    """Check that the server takes scripts over many keys, and writes them to its disk."""
    if int(facts.get("cluster_enabled", 0)):
        # A script's keys must be in one hash slot there; those of a ledger are in many.
        mend = "Use a Redis with `cluster-enabled no`; Sentinel is supported for failover."
        yield Check("redis cluster", Level.PROBLEM, "Redis runs in cluster mode", mend)
    if facts.get("role") == "slave":
        text = f"this is a read-only replica of {facts.get('master_host')}"
        yield Check(
            "redis role", Level.PROBLEM, text, "Name the primary in GEODES_TASKS_REDIS_URL."
        )
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        text = f"Redis could not write its file ({', '.join(failed)})"
        mend = "Free space on the disk of Redis, and check the rights of its folder."
        yield Check("redis disk", Level.PROBLEM, text, mend)


def _persistence(facts: Mapping[str, Any]) -> Check:
    """Check that a crash of the server loses no records."""
    name = "redis persistence"
    if int(facts.get("aof_enabled", 0)):
        return Check(name, Level.OK, "append-only file")
    # Snapshots alone are minutes apart (redis.conf: `save 3600 1 300 100 60 10000`).
    text = "no append-only file: a crash loses the queue since the last snapshot"
    return Check(name, Level.WARNING, text, "Set `appendonly yes` in redis.conf.")


def _memory(facts: Mapping[str, Any]) -> Iterator[Check]:
    """Check that the server neither removes records nor soon refuses new ones."""
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        # Each record is needed until its batch is forgotten: there is no cache among the keys.
        text = f"{policy}: Redis may throw records away when its memory is full"
        yield Check("redis eviction", Level.PROBLEM, text, "Set `maxmemory-policy noeviction`.")
    else:
        yield Check("redis eviction", Level.OK, "noeviction")
    used, most = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    # A maxmemory of 0 is no limit, the default on 64-bit systems (redis.conf).
    if most and used >= FULL_SHARE * most:
        level, when = (Level.PROBLEM, "now") if used >= most else (Level.WARNING, "soon")
        text = f"{human_bytes(used)} of maxmemory {human_bytes(most)} are used: writes fail {when}"
        mend = "Raise `maxmemory`, or remove finished batches: geodes-tasks forget BATCH"
        yield Check("redis memory", level, text, mend)


def default_user_check(connection: Connection) -> Check:
    """Check the rights of the user as which the server replays its append-only file.

    Not part of a worker's start: its user may not send ACL GETUSER, and each refusal is an entry in
    the server's ACL LOG.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    name = "redis restart"
    user = _reply(connection, lambda: connection.client.acl_getuser("default"))
    if user is None:
        text = f"not allowed to look (ACL GETUSER default): its line must be `{DEFAULT_USER}`"
        return Check(name, Level.OK, text)
    if (
        user["categories"][:1] == ["+@all"]
        and UNUSED.issuperset(user["categories"][1:])
        and {"~*", f"~{connection.prefix}*"} & set(user["keys"])
    ):
        return Check(name, Level.OK, "the user `default` may replay the append-only file")
    text = "the user `default` lacks rights: most servers then lose the ledger at a restart"
    mend = f"Put this line into the ACL file, then restart Redis: {DEFAULT_USER}"
    return Check(name, Level.PROBLEM, text, mend)


def _reply(
    connection: Connection, command: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return the reply to a command; None where this user may not send it or Redis lacks it."""
    try:
        with connection.commands():
            return command()
    except LedgerForbiddenError:
        return None
    except Exception as error:
        # "unknown command", from a managed Redis that renames ACL. The client's own class is
        # imported by the connection alone.
        if type(error).__name__ == "ResponseError":
            return None
        raise
