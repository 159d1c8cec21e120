"""Queueing 100,000 items: rate, memory of the client, memory of Redis, and the same again."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.settings import config
from tests.bench.harness import AT_LEAST, AT_MOST, ROOT, Bench, Series, last_json, scaled
from tests.bench.scene import Cluster, many, write_lines
from tests.servers import RedisServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

COUNT = scaled(100_000, 2000)
FEWER = COUNT // 10
PLAIN = scaled(20_000, 1000)
"""Of ``.delay()``, whose rate does not depend on the count."""
FASTER, AGAIN = 4.0, 2.0
BYTES = 3 * 1024
GROWTH_MIB = 16.0
"""What a client may need more for ten times as many items, and still be called flat."""


def test_enqueue(folder: Path, request: pytest.FixtureRequest) -> None:
    """A queue of any length is quick to make, small in Redis, and free to ask for again."""
    bench = Bench("enqueue", f"{COUNT:,} items queued, and queued again")
    items = write_lines(folder / "items.jsonl", many(COUNT))
    fewer = write_lines(folder / "fewer.jsonl", many(FEWER))
    plain_redis = RedisServer(folder / "plain").start()
    request.addfinalizer(plain_redis.close)
    told: list[dict[str, Any]] = []
    with Cluster(folder) as cluster:

        def first(path: Path) -> dict[str, Any]:
            cluster.ledger.connection.client.flushall()
            return enqueue(cluster, path)

        def new() -> float:
            small = first(fewer)["memory_mib"]
            answer = first(items)
            told.append(answer | {"fewer_mib": small, "bytes": cluster.used_bytes() / COUNT})
            told[-1]["messages"] = messages(cluster)
            return float(answer["seconds"])

        def again() -> float:
            seconds = float(enqueue(cluster, items)["seconds"])
            told[-1]["messages again"] = messages(cluster) - told[-1]["messages"]
            return seconds

        plain: list[float] = []

        def delay() -> float:
            seconds, mebibytes = plain_enqueue(plain_redis, items)
            plain.append(mebibytes)
            return seconds

        seen = bench.in_turn({"delay": delay, "enqueue": new, "again": again})
    bench.conditions = {
        "items": COUNT, "of .delay()": PLAIN, "messages sent": told[-1]["messages"],
        "messages at the second time": max(one["messages again"] for one in told),
        "client's memory for .delay(), MiB": round(max(plain)),
    }  # fmt: skip
    rate = seen["enqueue"].per(COUNT, "items/s")
    plain_rate = seen["delay"].per(PLAIN, "messages/s")
    bench.line("items queued a second", "(none)", rate)
    bench.line("queueing, times faster", ".delay() loop", rate.over(plain_rate), AT_LEAST, FASTER)
    bench.line(
        "Redis for an item, messages included", "(none)", of(told, "bytes", "bytes"), AT_MOST, BYTES
    )
    growth = [one["memory_mib"] - one["fewer_mib"] for one in told]
    bench.line(
        "client's memory for ten times the items", "a tenth of them",
        Series(tuple(growth), "MiB more"), AT_MOST, GROWTH_MIB,
    )  # fmt: skip
    faster = seen["enqueue"].over(seen["again"])
    bench.line("queueing the same again, times faster", "the first time", faster, AT_LEAST, AGAIN)
    new_messages = of(told, "messages again", "messages")
    bench.line("new messages at the second time", "(none)", new_messages, AT_MOST, 0)
    bench.finish()


def of(told: list[dict[str, Any]], name: str, unit: str) -> Series:
    """Take one of the things that were told each time."""
    return Series(tuple(float(one[name]) for one in told), unit)


def enqueue(cluster: Cluster, path: Path) -> dict[str, Any]:
    """Queue a file of items from a process of its own."""
    command = [sys.executable, "-m", "tests.bench.client", "enqueue", str(path), "/data/downloads"]
    environment = os.environ | config.environment(cluster.settings)
    answer: dict[str, Any] = last_json(command, env=environment, cwd=ROOT)
    return answer


def messages(cluster: Cluster) -> int:
    """Count the messages in the broker."""
    return int(cluster.ledger.connection.client.llen(cluster.ledger.connection.key("geodes")))


def plain_enqueue(redis: RedisServer, items: Path) -> tuple[float, float]:
    """Send messages with ``.delay()``; give seconds and the client's memory in MiB."""
    command = [sys.executable, "-m", "tests.bench.peers.plain_enqueue", str(items), str(PLAIN)]
    environment = os.environ | {"PLAIN_BROKER": redis.url}
    seconds, mebibytes = last_json(command, env=environment, cwd=ROOT)
    return float(seconds), float(mebibytes)
