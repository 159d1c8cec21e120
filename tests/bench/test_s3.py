"""Objects of the datalake, verified, beside programs that verify nothing; memory of a worker."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client.local_server import cores
from geodes_tasks.model.states import State
from geodes_tasks.settings.secret import Secret
from tests.bench import peers
from tests.bench.harness import AT_MOST, Bench, Meter, Series, last_json, scaled, timed
from tests.bench.link import can_be_slow, slow_loopback
from tests.bench.s3server import ACCESS, BUCKET, PROGRAMS, SECRET, S3FileServer, program
from tests.bench.scene import Cluster, PlainCelery
from tests.bench.test_big_file import afresh, fill
from tests.bench.test_memory import peak_mib
from tests.standin.bodies import FileBody, GiB, MiB
from tests.standin.items import build
from tests.standin.spec import ItemSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.scene import Item

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not S3FileServer.kinds(), reason="no S3 server is installed"),
]

LARGE = scaled(GiB // MiB, 64) * MiB
COUNT, SMALL = scaled(500, 50), MiB
THREADS = 16
EIGHT = scaled(256 * 8) // 8 * MiB
"""Bytes of each of eight objects that are fetched at once."""
OVER_PLAIN, OVER_LINK = 1.15, 1.02
"""Times the slower of md5sum and the fastest peer for one large object; over a slow link."""
OVER_FASTEST, OVER_PROVEN, OVER_CPU, OVER_WORKER = 1.2, 0.85, 1.1, 1.5
"""Times the fastest peer, the fastest peer and md5sum, the processor seconds of s5cmd and md5sum,
and the fastest peer where the objects go through a worker."""
LINK = "1gbit"
SELDOM_S = 0.2
TRANSFERS, MEMORY_MIB = 8, 400.0
PEERS = Path(peers.__file__).parent
Row = tuple[str, str, int]
WORKER = "geodes_tasks, a worker a core"
MESSAGES = "as many tasks of plain Celery that do nothing"
SECRETS: dict[str, Any] = {
    "aws_access_key_id": Secret(ACCESS),
    "aws_secret_access_key": Secret(SECRET),
}
PROCESSOR_WAYS = ("geodes_tasks", "s5cmd and md5sum")
"""What the processor seconds of eight at once are compared of; each takes minutes."""


def test_s3(folder: Path) -> None:
    """Ranges, hashing in order and proof cost next to nothing beside the bytes themselves."""
    measure("s3", "on loopback", S3FileServer.kinds()[0], folder)


@pytest.mark.skipif(
    not (can_be_slow() and "rclone serve s3" in S3FileServer.kinds()),
    reason="needs root, ip and tc, and rclone",
)
def test_s3_link(folder: Path) -> None:
    """Where the network is the limit, not the processors that the server takes its share of."""
    # Not SeaweedFS, whose parts talk to each other over the same link.
    with slow_loopback(LINK):
        measure("s3_link", "over a link of 1 Gbit/s", "rclone serve s3", folder)


def measure(name: str, where: str, kind: str, folder: Path) -> None:
    """Compare with one kind of server; over a link only what it is the limit of, a large object."""
    is_link = name == "s3_link"
    what = f"{LARGE // MiB} MiB" + ("" if is_link else f" and {COUNT} of 1 MiB")
    bench = Bench(name, f"{what} from S3, verified, {where}")
    bench.conditions = {"server": kind, "large": LARGE}
    if not is_link:
        bench.conditions |= {"small": [COUNT, SMALL], "eight": EIGHT}
    bench.missing = [
        f"{name} is not installed" for name in ("s5cmd", "rclone") if not program(name)
    ]
    place = folder / PROGRAMS[kind]
    (place / "out").mkdir(parents=True)
    with S3FileServer(place / "server", kind) as server:
        compare(bench, place, server, "large", 1, LARGE, OVER_LINK if is_link else OVER_PLAIN)
        if not is_link:
            compare(bench, place, server, "small", COUNT, SMALL)
            compare(bench, place, server, "eight", 8, EIGHT)
    shutil.rmtree(place)
    bench.finish()


def compare(
    bench: Bench,
    folder: Path,
    server: S3FileServer,
    what: str,
    count: int,
    size: int,
    over_plain: float = OVER_PLAIN,
) -> None:
    """Fetch the same from a server in every way."""
    rows = stored(folder, server, what, count, size)
    runs = ways(folder, server, what, rows, min(count, THREADS))
    runs["md5sum"] = functools.partial(timed, md5sums(folder / what))
    if "s5cmd" in runs:
        runs["s5cmd and md5sum"] = functools.partial(one_and_other, runs["s5cmd"], folder)
    if what == "eight":
        runs = {name: run for name, run in runs.items() if name in PROCESSOR_WAYS}
    with contextlib.ExitStack() as stack:
        if what == "small":
            cluster = stack.enter_context(
                Cluster(folder, s3_endpoint_url=server.url, max_concurrent=THREADS, **SECRETS)
            )
            for number in range(cores()):  # as docs/cluster.md advises for small files
                cluster.worker(THREADS // cores(), name=f"core-{number}")
            items = [stored_item(server, row, folder / what, n) for n, row in enumerate(rows)]
            runs[WORKER] = functools.partial(through_worker, cluster, items, folder / "out")
            plain = PlainCelery(folder / "plain", "threads", THREADS)
            stack.callback(plain.stop)
            names = [str(row[0]) for row in rows]
            runs[MESSAGES] = functools.partial(spent, plain, names)
        meter = Meter(server.pid)
        runs = {name: meter.around(name, run) for name, run in runs.items()}
        seen = bench.in_turn(named(f"{server.kind}, {what}", afresh_in(folder / "out", runs)))
    note(bench, server.kind, what, seen, meter, over_plain)


def md5sums(folder: Path) -> list[str]:
    """Give the command that hashes all files below a folder, two at once."""
    return ["sh", "-c", 'find "$0" -type f -print0 | xargs -0 -n 64 -P 2 md5sum', str(folder)]


def one_and_other(fetch: Callable[[], float], folder: Path) -> float:
    """Fetch without proof, then prove: what those do who want both."""
    return fetch() + timed(md5sums(folder / "out"))


def spent(plain: PlainCelery, names: list[str]) -> float:
    """Give the processor seconds of a message for each, of worker and Redis."""
    before = plain.processor_s
    plain.seconds(names, "plain.nothing")
    return plain.processor_s - before


def note(
    bench: Bench, kind: str, what: str, seen: dict[str, Series], meter: Meter, over_plain: float
) -> None:
    """Note the ratios."""
    series = {name.rpartition(": ")[2]: one for name, one in seen.items()}
    names = "the fastest of s5cmd, rclone, boto3"
    work = {"large": "one large object", "small": "small objects", "eight": "eight at once"}[what]
    row = f"{work}, {kind}"
    if what == "eight":
        if PROCESSOR_WAYS[1] in series:
            gib = 8 * EIGHT / GiB
            mine, theirs = (meter.without_server(name, "s/GiB", gib) for name in PROCESSOR_WAYS)
            row = f"{row}: processor seconds a GiB"
            bench.series[f"{row}, geodes_tasks"] = mine
            bench.series[f"{row}, s5cmd and md5sum"] = theirs
            bench.line(row, "s5cmd, and then md5sum", mine.over(theirs), AT_MOST, OVER_CPU)
        return
    ours, best = series["geodes_tasks"], fastest(series)
    if what == "large":
        against, reach = f"the slower of md5sum and {names}", over_plain
        best = best.slower(series["md5sum"])
    else:
        against, reach = f"{names}, which verify nothing", OVER_FASTEST
    bench.line(row, against, ours.over(best), AT_MOST, reach)
    # Nobody who verifies is faster than processors that do nothing else but this.
    least = meter.least("s5cmd and md5sum") if "s5cmd and md5sum" in series else None
    busy = f"{row}: all processors at work on s5cmd, its server and md5sum"
    if WORKER in series:
        through = series[WORKER].over(best)
        bench.line(f"{row}, through a worker a core", against, through, AT_MOST, OVER_WORKER)
        if least:
            messages = Series(tuple(one / cores() for one in series[MESSAGES].values))
            bench.line(f"{busy}, and {MESSAGES}", names, least.plus(messages).over(best))
    if least:
        both = ours.over(series["s5cmd and md5sum"])
        limit = (AT_MOST, OVER_PROVEN) if what == "small" else ()
        bench.line(row, "s5cmd, and then md5sum", both, *limit)
        slowest = f"the slower of md5sum and {names}" if what == "large" else names
        bench.line(busy, slowest, least.over(best))


def stored(folder: Path, server: S3FileServer, what: str, count: int, size: int) -> list[Row]:
    """Store objects of one size."""
    (folder / what).mkdir()
    rows = []
    for number in range(count):
        source = folder / what / f"{number:04d}.bin"
        fill(source, size)
        server.put(f"{what}/{source.name}", source)
        rows.append((f"s3://{BUCKET}/{what}/{source.name}", md5_of(source), size))
    return rows


def stored_item(server: S3FileServer, row: Row, folder: Path, number: int) -> Item:
    """Make the item of a stored object."""
    key = row[0].partition(f"//{BUCKET}/")[2]
    body = FileBody(folder / key.rpartition("/")[2])
    spec = ItemSpec(body=body, quicklook=False, endpoint_url=f"{server.url}/{BUCKET}/{key}")
    return build(spec, "http://127.0.0.1:9", number)[0]


def through_worker(cluster: Cluster, items: list[Item], out: Path) -> float:
    """Give the seconds from the first claim to the last record of a worker that runs."""
    batch = cluster.enqueue(items, out)
    while batch.status().unfinished:
        time.sleep(SELDOM_S)  # the records tell the time; each look takes some from the workers
    records = batch.results()
    assert all(one.state is State.SUCCESS and one.bytes_transferred for one in records), records[0]
    began = min(datetime.fromisoformat(str(one.started_at)) for one in records)
    ended = max(datetime.fromisoformat(str(one.finished_at)) for one in records)
    return (ended - began).total_seconds()


def md5_of(path: Path) -> str:
    """Give the digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def ways(
    folder: Path, server: S3FileServer, prefix: str, rows: list[Row], threads: int
) -> dict[str, Callable[[], float]]:
    """Give every way to fetch all objects below a prefix into an empty folder."""
    spec, out = folder / f"{prefix}.json", folder / "out"
    spec.write_text(json.dumps(rows))
    env = server.environment
    common = [str(spec), str(out), str(threads)]
    remote = f":s3,provider=Other,env_auth=true,endpoint='{server.url}':{BUCKET}/{prefix}"
    found = f"s3://{BUCKET}/{prefix}/*"
    s5cmd = [program("s5cmd"), "--endpoint-url", server.url, "cp", found, f"{out}/"]
    rclone = [program("rclone"), "copy", "--config", "/dev/null", remote, str(out)]
    known: dict[str, Callable[[], float]] = {
        "geodes_tasks": lambda: script("ours.py", [*common, "s3"], env),
        "boto3": lambda: script("s3_boto3.py", [*common, server.url], env),
    }
    if program("s5cmd"):
        known["s5cmd"] = lambda: timed([str(word) for word in s5cmd], env=env)
    if program("rclone"):
        known["rclone"] = lambda: timed([str(word) for word in rclone], env=env)
    return known


def script(name: str, arguments: list[str], env: dict[str, str]) -> float:
    """Run a Python way in a process of its own; it takes its own time, without its imports."""
    return float(last_json([sys.executable, str(PEERS / name), *arguments], env=env))


def afresh_in(out: Path, runs: dict[str, Callable[[], float]]) -> dict[str, Callable[[], float]]:
    """Have each run begin with an empty folder."""
    return {name: functools.partial(afresh, run, out) for name, run in runs.items()}


def named(what: str, runs: dict[str, Callable[[], float]]) -> dict[str, Callable[[], float]]:
    """Put what is fetched before the names."""
    return {f"{what}: {name}": run for name, run in runs.items()}


def fastest(series: dict[str, Series]) -> Series:
    """Give the fastest peer, by its median."""
    names = ("s5cmd", "rclone", "boto3")
    return min((series[name] for name in names if name in series), key=lambda one: one.median)


def test_s3_memory(folder: Path) -> None:
    """Eight large transfers side by side in one worker, ranges and all."""
    bench = Bench(
        "s3_memory", f"memory of a worker, {TRANSFERS} S3 transfers of {LARGE // MiB} MiB"
    )
    with S3FileServer(folder / "server") as server:
        bench.conditions = {"server": server.kind, "bytes": LARGE, "transfers": TRANSFERS}
        source = folder / "large.bin"
        fill(source, LARGE)
        server.put("large.bin", source)
        row = (f"s3://{BUCKET}/large.bin", "", LARGE)
        items = [stored_item(server, row, folder, number) for number in range(TRANSFERS)]
        with Cluster(folder, s3_endpoint_url=server.url, **SECRETS) as cluster:
            worker = cluster.worker(TRANSFERS)
            cluster.seconds(items)
            most = peak_mib(worker)
    figure = Series((most,), "MiB")
    bench.series["peak"] = figure
    bench.line(
        f"{TRANSFERS} transfers of {LARGE // MiB} MiB", "(none)", figure, AT_MOST, MEMORY_MIB
    )
    bench.finish()
