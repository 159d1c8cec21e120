"""Thousands of small files through one worker: what ledger, lease, progress and proof cost."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import peers
from tests.bench.fileserver import FileServer
from tests.bench.harness import (
    AT_LEAST,
    AT_MOST,
    ROOT,
    ROUNDS,
    Bench,
    Series,
    last_json,
    scaled,
    timed,
)
from tests.bench.scene import KEY, Cluster, PlainCelery, href_of, publish
from tests.former import former_version
from tests.servers import RedisServer
from tests.standin.bodies import KiB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.scene import Item
    from tests.servers import WorkerProcess

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

COUNT, SIZE, SLOTS = scaled(2000, 100), 64 * KiB, 16
FEW = scaled(500, 50)
OVERHEAD, FASTER, ONE_COMMAND, PROCESSOR = 1.5, 20.0, 1.0, 0.55
PEERS = Path(peers.__file__).parent


def test_small_files(folder: Path, request: pytest.FixtureRequest) -> None:
    """All that we promise of a file costs at most half of a bare task that only fetches it."""
    bench = Bench("small_files", f"{COUNT} files of {SIZE // KiB} KiB through one worker")
    www = folder / "www"
    www.mkdir()
    with (
        FileServer(www) as server,
        Cluster(folder, server.url, max_concurrent=SLOTS) as cluster,
    ):
        items = publish(www, server.url, COUNT, SIZE)
        worker = cluster.worker(SLOTS)
        threads = PlainCelery(folder / "threads", "threads", SLOTS)
        request.addfinalizer(threads.stop)
        prefork = PlainCelery(folder / "prefork", "prefork", os.cpu_count() or 2)
        request.addfinalizer(prefork.stop)
        hrefs = [href_of(one) for one in items]
        trips = round_trips(cluster, items, folder)
        bench.conditions = {
            "server": server.called, "files": COUNT, "bytes of each": SIZE, "slots": SLOTS,
            "requests to Redis for a file": trips,
        }  # fmt: skip
        seen = bench.in_turn(
            {
                "plain Celery, threads": lambda: threads.seconds(hrefs),
                "geodes_tasks": lambda: ours(cluster, items, folder),
                "plain Celery, prefork": lambda: prefork.seconds(hrefs),
            }
        )
        # Half of them, once: it slows down as its list of downloads grows, and would take minutes.
        half = items[: COUNT // 2]
        theirs = pygeodes(server.url, half, folder)
        bench.series[f"pygeodes, {len(half)} files"] = Series((theirs,))
        bench.conditions["connections of the worker to Redis"] = connections(cluster, worker)
    mine = seen["geodes_tasks"]
    work = f"{COUNT} small files, time"
    bench.line("small files a second", "(none)", mine.per(COUNT, "files/s"))
    threaded, forked = seen["plain Celery, threads"], seen["plain Celery, prefork"]
    bench.line(work, "a plain task with as many threads", mine.over(threaded), AT_MOST, OVERHEAD)
    bench.line(work, "a plain task on prefork, a process a core", mine.over(forked))
    faster = Series(tuple(2 * theirs / seconds for seconds in mine.values), "times")
    against = "pygeodes, twice its time for half of them"
    bench.line("small files, times faster", against, faster, AT_LEAST, FASTER)
    bench.finish()


def test_processor_time(folder: Path) -> None:
    """A small file takes about half of the processor time that it took 0.1.0."""
    bench = Bench("small_files_former", "processor time of a small file, against version 0.1.0")
    www = folder / "www"
    www.mkdir()
    (folder / "former").mkdir()
    paths = {"0.1.0": former_version(folder / "former"), "now": str(ROOT)}
    used: dict[str, list[float]] = {name: [] for name in paths}
    with FileServer(www) as server:
        items = publish(www, server.url, FEW, SIZE)
        for number in range(ROUNDS):
            for name, path in paths.items():
                used[name].append(cost_with(path, folder / f"{number} {name}", server.url, items))
            bench.busy.append(os.getloadavg()[0])
    bench.conditions = {"files": FEW, "bytes of each": SIZE, "slots": SLOTS}
    for name, values in used.items():
        seconds = Series(tuple(1000 * value for value in values), "ms a file")
        bench.series[f"processor time, {name}"] = seconds
    now, before = (Series(tuple(used[name])) for name in ("now", "0.1.0"))
    bench.line("processor time of a small file", "0.1.0", now.over(before), AT_MOST, PROCESSOR)
    bench.finish()


def cost_with(path: str, folder: Path, url: str, items: list[Item]) -> float:
    """Measure a worker of the package at this path, with a Redis of its own; seconds a file."""
    folder.mkdir()
    with RedisServer(folder / "redis") as redis:
        variables = {
            "GEODES_TASKS_REDIS_URL": redis.url,
            "GEODES_TASKS_PORTAL_URL": url,
            "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:9",
            "GEODES_API_KEY": KEY,
            "GEODES_TASKS_DOWNLOAD_DIR": str(folder),
            "GEODES_TASKS_DOWNLOAD_ROOTS": str(folder),
            "GEODES_TASKS_QUOTA": "off",
            "GEODES_TASKS_MAX_CONCURRENT": str(SLOTS),
        }
        spec = {"variables": variables, "items": items, "folder": str(folder), "slots": SLOTS}
        (folder / "spec.json").write_text(json.dumps(spec | {"rounds": 2}))
        script = str(Path(__file__).with_name("small_files_worker.py"))
        command = [sys.executable, script, str(folder / "spec.json")]
        found: list[float] = last_json(command, env=os.environ | {"PYTHONPATH": path}, cwd=folder)
    return min(found)


def test_one_command(folder: Path) -> None:
    """A command that brings its own server and workers is as fast as bare tasks without proof."""
    bench = Bench(
        "one_command", f"{COUNT} files of {SIZE // KiB} KiB by one command, start included"
    )
    www = folder / "www"
    www.mkdir()
    with FileServer(www) as server:
        items = publish(www, server.url, COUNT, SIZE)
        hrefs = [href_of(one) for one in items]
        (folder / "items.json").write_text(json.dumps(items))
        bench.conditions = {"server": server.called, "files": COUNT, "bytes of each": SIZE}
        seen = bench.in_turn(
            {
                "geodes_tasks": lambda: command(server.url, folder),
                "plain Celery, prefork": lambda: started(hrefs, folder),
            }
        )
    work = f"{COUNT} small files by one command"
    ratio = seen["geodes_tasks"].over(seen["plain Celery, prefork"])
    bench.line(
        work, "starting Celery on prefork, and a plain task each", ratio, AT_MOST, ONE_COMMAND
    )
    bench.finish()


def command(url: str, folder: Path) -> float:
    """Download all by one command, to a folder that is empty and unknown."""
    home = folder / f"command-{time.monotonic_ns()}"
    environment = os.environ | {
        "GEODES_TASKS_PORTAL_URL": url,
        "GEODES_API_KEY": KEY,
        "GEODES_TASKS_QUOTA": "off",
        "GEODES_TASKS_STATE_DIR": str(home / "state"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    download = [sys.executable, "-m", "geodes_tasks", "download", str(folder / "items.json")]
    seconds = timed([*download, "-o", str(home / "files")], env=environment)
    # Not removed before the end: ext4 steps over each inode that was removed in the last minute
    # when it makes a file, which took a fifth of the next run.
    assert sum(1 for path in (home / "files").rglob("*.zip") if path.is_file()) == COUNT
    return seconds


def started(hrefs: Sequence[str], folder: Path) -> float:
    """Start Redis and plain Celery, a process a core, and have it fetch all."""
    began = time.perf_counter()
    plain = PlainCelery(folder / f"plain-{time.monotonic_ns()}", "prefork", os.cpu_count() or 2)
    try:
        plain.seconds(hrefs)
        return time.perf_counter() - began
    finally:
        plain.stop()


def connections(cluster: Cluster, worker: WorkerProcess) -> int:
    """Count a worker's connections to Redis, after all its slots were busy, by stopping it."""

    def connected() -> int:
        return int(cluster.ledger.connection.client.info("clients")["connected_clients"])

    held = connected()
    worker.stop()
    return held - connected()


def round_trips(cluster: Cluster, items: list[Item], folder: Path) -> dict[str, float]:
    """Count what one file asks of Redis: scripts of the ledger, and what Celery does beside.

    An EXEC ends a transaction of the broker's and is one round trip, as a script is.
    """
    cluster.ledger.connection.client.config_resetstat()
    ours(cluster, items, folder)
    found = cluster.ledger.connection.client.info("commandstats")
    names = {"evalsha": "scripts", "exec": "transactions", "brpop": "waits", "publish": "events"}
    return {
        what: round(int(found.get(f"cmdstat_{name}", {"calls": 0})["calls"]) / len(items), 2)
        for name, what in names.items()
    }


def ours(cluster: Cluster, items: list[Item], folder: Path) -> float:
    """Download all, to a folder that is empty and unknown."""
    target = folder / f"files-{time.monotonic_ns()}"
    seconds = cluster.seconds(items, target)
    assert sum(1 for path in target.rglob("*.zip") if path.is_file()) == len(items)
    return seconds  # the files stay, as in `command`


def pygeodes(url: str, items: list[Item], folder: Path) -> float:
    """Download items with pygeodes' queue."""
    home = folder / f"pygeodes-{time.monotonic_ns()}"
    home.mkdir()
    (home / "items.json").write_text(json.dumps(items))
    command = [sys.executable, str(PEERS / "pygeodes_queue.py"), url, KEY]
    command += [str(home / "items.json"), str(home / "files"), "1"]
    (seconds,) = last_json(command, env=os.environ | {"HOME": str(home)}, cwd=home)
    shutil.rmtree(home)
    return float(seconds)
