"""Redis dies and starts again: the ledger is whole, and a worker warns where it is not."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.ledger import Claim, Ledger, Request
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.settings.secret import Secret
from tests.conftest import asset_of
from tests.integration.secured import SecuredServer, binary_of
from tests.servers import RedisServer
from worker import preflight

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.fault.scene import Scene

TOO_FEW_RIGHTS = "user default off resetpass resetkeys resetchannels -@all"
"""The line of release 0.1.0."""
LOST = "was emptied or replaced"


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SecuredServer]:
    """Start a server with the project's users; the test may kill it."""
    with SecuredServer(tmp_path / "secured", binary_of(request.param)) as running:
        yield running


def filled(server: SecuredServer, settings: Config) -> None:
    """Admit 40 downloads as ``client``; of these ``worker`` completes 3 and holds 1."""
    requests = [
        Request(asset_of(f"content {n}".encode(), f"{n}.zip"), f"/data/{n}.zip") for n in range(40)
    ]
    client = Ledger.of(server.settings("client", settings))
    client.connection.ping()
    client.admission.admit("b", "default", requests, lambda _: None)()
    client.connection.client.close()
    worker = Ledger.of(server.settings("worker", settings))
    worker.connection.ledger_id()
    worker.dispatch.recover("w@host", 8)
    for number, wakeup in enumerate(worker.dispatch.release()):
        claim = worker.leases.claim(wakeup.download_id, "w@host")
        assert isinstance(claim, Claim), claim
        if number < 3:
            size = claim.asset.size_bytes or 0
            result = DownloadResult(
                outcome=Outcome.DOWNLOADED, path=claim.path, size_bytes=size,
                checksum=claim.asset.checksum, verified=True, bytes_transferred=size,
                source="geodes", proof=Proof(size, 1, 1),
            )  # fmt: skip
            worker.leases.finish(claim, result)
    worker.connection.client.close()


def kept(server: SecuredServer, settings: Config) -> tuple[Any, ...]:
    """Return what the ledger holds: its batches, its counts, its records, its own id."""
    ledger = Ledger.of(server.settings("worker", settings))
    try:
        name = ledger.connection.key("ledger_id")
        batches = ledger.reading.batches()
        records = [record for batch in batches for record in ledger.reading.records(batch)]
        return (
            batches,
            {name: n for name, n in ledger.reading.totals().counters.items() if n},
            records,
            ledger.connection.client.get(name),
        )
    finally:
        ledger.connection.client.close()


def test_a_restart_keeps_the_ledger(server: SecuredServer, settings: Config) -> None:
    """Killed and started again, the server has every batch, count and record that it had."""
    filled(server, settings)
    before = kept(server, settings)

    server.restart(kill=True)

    assert [len(before[0]), len(before[2])] == [1, 40]
    counts = {name: n for name, n in before[1].items() if name.startswith(("state:", "out"))}
    assert counts == {"state:PENDING": 36, "state:STARTED": 1, "outcome:DOWNLOADED": 3}
    assert kept(server, settings) == before
    assert "NOPERM" not in server.text


def test_a_lost_ledger_comes_back_with_the_right_line(
    server: SecuredServer, settings: Config
) -> None:
    """What a restart dropped is still in the append-only file; the ledger's id goes with it."""
    acl = server.secrets / "acl" / "users.acl"
    right = acl.read_text()
    line = next(line for line in right.splitlines() if line.startswith("user default "))
    filled(server, settings)
    before = kept(server, settings)
    acl.write_text(right.replace(line, TOO_FEW_RIGHTS))
    server.restart(kill=True)
    dropped = kept(server, settings)

    acl.write_text(right)
    server.restart(kill=True)

    # The wheel's server does not drop it.
    assert dropped in (before, ([], {}, [], None))
    assert kept(server, settings) == before


# --- what a worker notices -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_warns_once_that_the_ledger_was_emptied(fragile: Scene) -> None:
    """The first start is silent; after a loss one start warns, with last time and remedy."""
    first = fragile.worker("first")
    first.stop()
    fragile.ledger.connection.client.flushall()

    second = fragile.worker("second")
    second.stop()
    third = fragile.worker("third")

    lines = [line for line in second.text.splitlines() if LOST in line]
    assert LOST not in first.text
    assert LOST not in third.text
    assert len(lines) == 1, second.text
    assert "WARNING" in lines[0]
    assert "last connected to the old one at 20" in lines[0]
    assert "Enqueue your items again" in lines[0]


def test_a_running_worker_warns_when_redis_comes_back_empty(
    fragile: Scene, own_redis: RedisServer
) -> None:
    """A restart that keeps the ledger is silent; one without the data is one warning."""
    one = fragile.worker("one")
    own_redis.restart(kill=True)
    one.wait_for("Connected to redis", times=2)
    kept_silent = LOST not in one.text

    own_redis.kill()
    shutil.rmtree(own_redis.folder / "appendonlydir")
    own_redis.start()

    one.wait_for(LOST)
    assert kept_silent
    assert one.text.count(LOST) == 1


def test_another_ledger_at_the_same_address(
    own_redis: RedisServer, settings: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server exchanged for one with its own ledger is noticed; no password is written."""
    with RedisServer(tmp_path / "other") as other:
        elsewhere = settings.replace(redis_url=Secret(other.url))
        preflight.report_lost_ledger(elsewhere)
    address = own_redis.url.replace("//", "//default:any-secret@")
    here = settings.replace(redis_url=Secret(address))
    preflight.report_lost_ledger(here)
    own_redis.kill()
    shutil.rmtree(own_redis.folder / "appendonlydir")
    shutil.copytree(tmp_path / "other" / "appendonlydir", own_redis.folder / "appendonlydir")
    own_redis.start()
    silent = caplog.text

    preflight.report_lost_ledger(here)

    assert silent == ""
    assert LOST in caplog.text
    written = "".join(p.name + p.read_text() for p in settings.state_dir.rglob("*") if p.is_file())
    assert "any-secret" not in caplog.text + written


def test_installations_in_one_redis_are_told_apart(
    settings: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """Another key prefix is another ledger: its first start is silent too."""
    preflight.report_lost_ledger(settings)
    preflight.report_lost_ledger(settings.replace(key_prefix="geodes:other:"))
    preflight.report_lost_ledger(settings)

    assert LOST not in caplog.text


def test_a_state_folder_that_cannot_be_written_stops_nothing(
    settings: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a place to keep the id, a worker starts, and says so at level INFO only."""
    (tmp_path / "file").write_text("")
    nowhere = settings.replace(state_dir=tmp_path / "file" / "state")
    caplog.set_level("INFO")

    preflight.report_lost_ledger(nowhere)

    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "a loss of the ledger cannot be noticed here" in caplog.text


def test_ids_of_ledgers_that_went_are_removed(settings: Config) -> None:
    """A job with another port each time leaves no file for ever; a damaged file is replaced."""
    preflight.report_lost_ledger(settings)
    (own,) = (settings.state_dir / "ledgers").iterdir()
    old, damaged = own.with_name("old"), own
    old.write_text("x")
    os.utime(old, (0, 0))
    damaged.write_bytes(b"\xff")

    preflight.report_lost_ledger(settings)

    assert list(own.parent.iterdir()) == [own]
    assert len(own.read_text().split()) == 2
