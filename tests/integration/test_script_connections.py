"""Scripts keep their connections: one for each thread that sends, in each process of its own."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from geodes_tasks.errors import LedgerStuckError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.settings import config
from tests.conftest import asset_of, require_server
from tests.integration.door import Door
from tests.servers import RedisServer


def connected(ledger: Ledger) -> int:
    """Count the connections of all clients of a server but the one that asks."""
    other = Ledger.of(config.load(redis_url=ledger.connection.url)).connection.client
    count = int(other.info("clients")["connected_clients"]) - 1
    other.close()
    return count


def admit(ledger: Ledger, batch: str, number: int) -> int:
    """Admit some downloads by one script; give the number of its answers."""
    assets = [asset_of(f"{batch} {n}".encode(), f"{batch}-{n}.zip") for n in range(number)]
    asked = [Request(asset, f"/data/{asset.title}") for asset in assets]
    return len(ledger.admission.admit(batch, "acc", asked, lambda _: None)())


def test_one_connection_serves_one_script_after_another(ledger: Ledger) -> None:
    """Also after a script has failed, whose connection is as good as before."""
    admit(ledger, "first", 1)
    before = connected(ledger)

    for number in range(1, 6):
        with pytest.raises(redis.ResponseError):
            ledger.connection.run("admit_downloads", "no", "such", "arguments")
        assert admit(ledger, f"b{number}", number) == number

    assert connected(ledger) == before


def test_threads_do_not_share_one(ledger: Ledger) -> None:
    """What runs at the same time gets its own answers."""
    numbers = [1 + n % 7 for n in range(100)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: admit(ledger, f"b{n}", numbers[n]), range(100)))

    assert answers == numbers


def test_a_forked_child_has_its_own(ledger: Ledger) -> None:
    """Two processes that write to one socket would mix their commands."""
    admit(ledger, "first", 1)

    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            is_idle = bool(ledger.connection._idle[os.getpid()])
            if not is_idle and admit(ledger, "of the child", 3) == 3:
                os._exit(0)
        os._exit(1)
    answers = [admit(ledger, f"b{n}", n) for n in range(1, 30)]

    assert answers == list(range(1, 30))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("where", ["send_command", "read_response"])
def test_an_interrupted_script_leaves_no_answer_behind(ledger: Ledger, where: str) -> None:
    """Ctrl-C may come between a command and its answer: the next script gets its own."""
    admit(ledger, "first", 1)
    (connection,) = ledger.connection._idle[os.getpid()]
    real = getattr(connection, where)

    def interrupted(*args: Any) -> None:
        if where == "send_command":
            real(*args)
        raise KeyboardInterrupt

    setattr(connection, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        admit(ledger, "interrupted", 5)
    setattr(connection, where, real)

    assert [admit(ledger, f"b{n}", n) for n in range(1, 5)] == [1, 2, 3, 4]
    assert ledger.connection._idle[os.getpid()] == [connection]


def test_an_outage_does_not_pile_up_connections(tmp_path: Path) -> None:
    """Whoever asks again and again while Redis is away opens one, not one each time."""
    require_server()
    with RedisServer(tmp_path) as server:
        ledger = Ledger.of(config.load(redis_url=server.url))
        admit(ledger, "first", 1)
        server.stop()
        for _ in range(3):
            with pytest.raises(LedgerUnavailableError):
                admit(ledger, "away", 1)
        assert len(ledger.connection._idle[os.getpid()]) <= 1
        server.start()

        assert admit(ledger, "back", 2) == 2


@pytest.mark.parametrize("serves_stale", ["yes", "no"])
def test_a_primary_that_became_a_replica_is_left(tmp_path: Path, serves_stale: str) -> None:
    """It keeps its connections open; behind its address, a proxy's, is another server by then."""
    require_server()
    with (
        RedisServer(tmp_path / "old") as old,
        RedisServer(tmp_path / "new") as new,
        Door(old.port) as door,
    ):
        door.open()
        ledger = Ledger.of(config.load(redis_url=f"redis://{door.host}/0"))
        admit(ledger, "first", 1)
        ledger.dispatch.register("w@h", 4)
        door.target = new.port
        with redis.Redis.from_url(old.url) as client:
            client.config_set("replica-serve-stale-data", serves_stale)
            client.replicaof("127.0.0.1", "1")

        ledger.dispatch.register("w@h", 4)

        assert ledger.account.resume("acc") is False
        assert admit(ledger, "second", 2) == 2
        assert ledger.reading.batches() == ["second"]
        # A replica that is named as the primary is no server that is away.
        with pytest.raises(LedgerStuckError, match=r"read only replica|MASTER is down"):
            admit(Ledger.of(config.load(redis_url=old.url)), "third", 1)
        # A transaction that watches a key is begun again by the client, not without end.
        with pytest.raises(LedgerStuckError, match=r"read only replica|MASTER is down"):
            Ledger.of(config.load(redis_url=old.url)).connection.ledger_id()
