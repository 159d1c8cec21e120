"""One file of 1 GiB, verified, through a worker, beside what people would use instead."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import peers
from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_LEAST, AT_MOST, Bench, last_json, scaled, timed
from tests.bench.scene import KEY, Cluster, href_of, item
from tests.standin.bodies import FileBody, GiB, MiB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.harness import Series
    from tests.bench.scene import Item

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

SIZE = scaled(GiB // MiB, 64) * MiB
OVER_PLAIN = 1.10
"""Of the slower of curl and md5sum."""
FASTER = {"pygeodes": 2.5, "eodag and md5sum": 1.8, "aria2c --checksum": 1.8}
"""How many times faster than each."""
PEERS = Path(peers.__file__).parent


def test_big_file(folder: Path) -> None:
    """Lease, proof and record cost next to nothing beside the bytes themselves."""
    bench = Bench("big_file", f"{SIZE // MiB} MiB over HTTP, verified, through a worker")
    source, out, www = folder / "big.bin", folder / "out", folder / "www"
    fill(source, SIZE)
    out.mkdir()
    www.mkdir()
    with FileServer(www) as server, Cluster(folder, server.url, download_dir=out) as cluster:
        one = item(0, server.url, FileBody(source))
        served = www / href_of(one).removeprefix(f"{server.url}/")
        served.parent.mkdir(parents=True)
        os.link(source, served)
        cluster.worker()
        bench.conditions = {"server": server.called, "bytes": SIZE, "worker slots": 16}
        seen = bench.in_turn(runs(bench, one, server.url, source, out, cluster))
    compare(bench, seen)
    bench.finish()


def fill(path: Path, size: int) -> None:
    """Write a file that repeats nowhere."""
    with path.open("wb") as stream:
        for _ in range(size // MiB):
            stream.write(os.urandom(MiB))


def runs(
    bench: Bench, one: Item, url: str, source: Path, out: Path, cluster: Cluster
) -> dict[str, Callable[[], float]]:
    """Give what runs in turn; each begins without the file."""
    href, item_file = href_of(one), out.parent / "item.json"
    item_file.write_text(json.dumps(one))
    target = out / "peer.bin"
    aria = [
        "aria2c", "--quiet", "--allow-overwrite", "--file-allocation=none", "--check-integrity",
        f"--checksum=md5={href.rsplit('/', 1)[1]}", f"--dir={out}", "--out=peer.bin", href,
    ]  # fmt: skip
    script = functools.partial(peer_script, out=out)
    known: dict[str, Callable[[], float]] = {
        "md5sum": lambda: timed(["md5sum", str(source)]),
        "curl": lambda: timed(["curl", "--silent", "--fail", "--output", str(target), href]),
        "geodes_tasks": lambda: cluster.seconds(one),
        "aria2c --checksum": lambda: timed(aria),
        "pygeodes": lambda: script("pygeodes_one.py", url, KEY, str(item_file), str(out)),
        "eodag": lambda: script("eodag_one.py", href, KEY, str(out)),
        # eodag proves nothing, so the same work is eodag and then a look at the bytes.
        "eodag and md5sum": lambda: (
            script("eodag_one.py", href, KEY, str(out)) + timed(["md5sum", str(largest(out))])
        ),
    }
    absent = {
        "curl": not peers.command("curl", "curl"),
        "aria2c --checksum": not peers.command("aria2c", "aria2"),
        "pygeodes": not peers.library("pygeodes"),
        "eodag": not peers.library("eodag"),
        "eodag and md5sum": not peers.library("eodag"),
    }
    bench.missing = [f"{name} is not installed" for name in known if absent.get(name)]
    return {
        name: functools.partial(afresh, run, out)
        for name, run in known.items()
        if not absent.get(name)
    }


def largest(folder: Path) -> Path:
    """Find the file that a peer has put somewhere below a folder."""
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def afresh(run: Callable[[], float], out: Path) -> float:
    """Run with an empty folder, and with nothing left to write of the run before."""
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    os.sync()
    return run()


def peer_script(name: str, *arguments: str, out: Path) -> float:
    """Run a Python peer in a process of its own; it takes its own time, without its imports."""
    command = [sys.executable, str(PEERS / name), *arguments]
    return float(last_json(command, env=os.environ | {"HOME": str(out)}, cwd=out))


def compare(bench: Bench, seen: dict[str, Series]) -> None:
    """Note the ratios."""
    ours = seen["geodes_tasks"]
    plain = seen["md5sum"]
    if "curl" in seen:
        plain = plain.slower(seen["curl"])
    work = f"{SIZE // MiB} MiB through a worker"
    bench.line(work, "the slower of curl and md5sum", ours.over(plain), AT_MOST, OVER_PLAIN)
    for name, least in {**FASTER, "eodag": None}.items():
        if name in seen:
            bench.line(f"{work}, times faster", name, seen[name].over(ours), AT_LEAST, least)
