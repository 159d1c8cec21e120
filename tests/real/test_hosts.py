"""Three hosts, one Redis, one folder: hosts that are cut off, far away, or have no folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from geodes_tasks.client.batch import Batch
from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.settings.config import Config
from tests.real.hosts import HostWorker, LateRelay, Network, OpenRedis, running
from tests.servers import ServerError, wait_until
from tests.standin import StandIn
from tests.tools import need

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
MiB = 1 << 20
KEY = "hosts-key"


@pytest.fixture
def network() -> Iterator[Network]:
    """Make a network of three hosts for one test."""
    made = Network(3)
    made.make()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def portal(network: Network) -> Iterator[StandIn]:
    """Start a portal that speaks TLS on the network: plain http is for loopback only."""
    address = network.address
    with StandIn(host=address, public_host=address, tls=True, api_key=KEY) as standin:
        yield standin


@pytest.fixture
def site(
    network: Network, portal: StandIn, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Config]:
    """Start Redis on the network; return the settings that all hosts share."""
    folder = tmp_path / "shared"
    folder.mkdir()
    with OpenRedis(tmp_path_factory.mktemp("redis"), network) as redis:
        yield Config(
            api_key=KEY,
            redis_url=redis.url,
            portal_url=portal.url,
            ca_bundle=portal.ca_file,
            download_dir=str(folder),
            quota="off",
            max_concurrent=6,
            lease_seconds=3.0,
            stall_seconds=5.0,
            grace_seconds=1.0,
            backoff_seconds=0.5,
            state_dir=tmp_path / "state",
        )


def workers_on(
    network: Network, site: Config, folder: Path, **special: dict[str, str]
) -> list[HostWorker]:
    """Return a worker for each host; ``special`` has more variables for some, by ``host1``..."""
    return [
        HostWorker(site, folder, host, env=special.get(f"host{number}", {}))
        for number, host in enumerate(network.hosts, start=1)
    ]


def settled(batch: Batch, workers: list[HostWorker], timeout_s: float) -> list[DownloadRecord]:
    """Wait until a batch is over, and return its records."""
    try:
        wait_until(lambda: not batch.status().unfinished, timeout_s, batch.id)
    except ServerError as error:
        # As it is now, not as it was when the wait began.
        logs = "".join(f"--- {one.name}\n{one.text[-2500:]}\n" for one in workers)
        error.add_note(f"{batch.status().to_dict()}\n{logs}")
        raise
    return batch.results()


def check_files(records: list[DownloadRecord], folder: Path) -> None:
    """Check that each file has the bytes of its checksum, and that nothing else is left."""
    assert {one.state for one in records} == {State.SUCCESS}
    for one in records:
        content = Path(str(one.path)).read_bytes()
        assert str(one.checksum) == f"md5:{hashlib.md5(content).hexdigest()}"
    left = [path for path in folder.rglob("*") if ".geodes-tasks" in path.parts and path.is_file()]
    assert left == []


def test_a_host_is_cut_off_while_it_transfers(
    network: Network, portal: StandIn, site: Config, tmp_path: Path
) -> None:
    """Its files are taken over after a lease; when it is back it harms nothing and works again."""
    portal.settings.rate = MiB
    items = [portal.add_item(2 * MiB) for _ in range(24)]
    workers = workers_on(network, site, tmp_path)
    folder = Path(site.download_dir)
    with running(workers):
        batch = enqueue(items, conf=site)
        ledger = Ledger.of(site)
        last = network.hosts[-1]
        wait_until(
            lambda: any(last in one.worker for one in ledger.reading.running()),
            60,
            f"a transfer on {last}",
        )
        network.cut(last)
        cut_at = time.monotonic()
        # Longer than a lease, so that others have taken its files by then.
        wait_until(lambda: "taken over" in str(histories(batch)) or over(batch), 60, "a take-over")
        time.sleep(max(0.0, 6.0 - (time.monotonic() - cut_at)))
        network.join(last)
        records = settled(batch, workers, 120)

        again = enqueue([portal.add_item(MiB) for _ in range(12)], conf=site)
        settled(again, workers, 60)
        wait_until(lambda: last in str(names_of_workers(ledger)), 60, "the host is back")

    check_files(records, folder)
    requests = len(portal.downloads()) - 12
    print(f"{requests} requests for {len(items)} files; {portal_bytes(portal) / MiB:.1f} MiB sent")
    # The files that the host was cut off from, two slots, cost a request more each.
    assert requests <= len(items) + 4


def histories(batch: Batch) -> list[object]:
    """Return the history of each download of a batch."""
    return [one.history for one in batch.results()]


def over(batch: Batch) -> bool:
    """Return whether nothing of a batch is unfinished."""
    return not batch.status().unfinished


def names_of_workers(ledger: Ledger) -> list[str]:
    """Return the workers that live, as the ledger has them."""
    return [str(one) for one in ledger.dispatch.workers()]


def portal_bytes(portal: StandIn) -> int:
    """Return the bytes of files that the portal sent."""
    return sum(one.bytes_sent for one in portal.downloads())


def test_a_bad_network_and_clocks_apart(
    network: Network, portal: StandIn, site: Config, tmp_path: Path
) -> None:
    """Lost packets, a distant Redis, clocks five minutes apart: nothing lost, nothing twice."""
    faketime = need("faketime", "faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert faketime
    network.lose(network.hosts[0], 0.05)
    port = int(re.findall(r":(\d+)/", str(site.redis_url))[0])
    relay = LateRelay(network.address, (network.address, port), 0.1)

    def clock(offset: str) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip

    late = {"GEODES_TASKS_REDIS_URL": f"redis://{network.address}:{relay.port}/0"}
    special = {"host2": late | clock("-5m"), "host3": clock("+5m")}
    items = [portal.add_item(MiB) for _ in range(30)]
    workers = workers_on(network, site, tmp_path, **special)
    try:
        with running(workers):
            batch = enqueue(items, conf=site)
            records = settled(batch, workers, 180)
    finally:
        relay.close()

    check_files(records, Path(site.download_dir))
    assert {one.attempts for one in records} <= {1, 2}
    requests = len(portal.downloads())
    print(f"{requests} requests for {len(items)} files; {portal_bytes(portal) / MiB:.1f} MiB sent")
    assert requests <= len(items) + 2
    # All times are of one clock, that of Redis, whatever the hosts believe.
    ends = [datetime.fromisoformat(str(one.finished_at)).timestamp() for one in records]
    assert max(abs(end - time.time()) for end in ends) < 200


def test_a_host_without_the_folder(
    network: Network, portal: StandIn, site: Config, tmp_path: Path
) -> None:
    """A host that cannot write takes no work and says so; the others do it all."""
    folder = Path(site.download_dir)
    # Slow enough that each host takes some of them.
    portal.settings.rate = MiB // 4
    items = [portal.add_item(MiB // 2) for _ in range(16)]
    workers = workers_on(network, site, tmp_path)
    workers[-1] = HostWorker(
        site, tmp_path, network.hosts[-1], env={}, before=f"mount -t tmpfs -o ro tmpfs {folder}"
    )
    with running(workers):
        batch = enqueue(items, conf=site)
        records = settled(batch, workers, 120)
        logs = workers[-1].text

    check_files(records, folder)
    assert {one.attempts for one in records} == {1}
    assert "Read-only file system" in logs
    assert not [one for one in records if one.state is not State.SUCCESS]
