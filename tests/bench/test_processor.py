"""Seconds of the processors for a GiB, eight files at once, beside curl and then md5sum."""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import peers
from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_MOST, Bench, Meter, scaled, timed
from tests.bench.scene import KEY
from tests.bench.test_big_file import afresh, fill
from tests.bench.test_s3 import md5_of, md5sums, script
from tests.standin.bodies import GiB, MiB
from tests.standin.tls import make_certificate

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

FILES, SIZE = 8, scaled(128, 8) * MiB
OVER_PEER = {"http": 1.0, "https": 1.1}
"""Times the processor seconds of curl and md5sum."""


@pytest.mark.parametrize("scheme", OVER_PEER)
def test_processor(folder: Path, scheme: str) -> None:
    """The proof that runs beside the transfer costs no more than one behind it."""
    bench = Bench(f"processor_{scheme}", f"processor seconds a GiB over {scheme}, {FILES} at once")
    www, out = folder / "www", folder / "out"
    www.mkdir()
    out.mkdir()
    names = [f"{number}.bin" for number in range(FILES)]
    for name in names:
        fill(www / name, SIZE)
    certificate = make_certificate(folder) if scheme == "https" else None
    with FileServer(www, certificate=certificate) as server:
        bench.conditions = {"server": server.called, "files": FILES, "bytes of each": SIZE}
        if not peers.command("curl", "curl"):
            pytest.skip("curl is not installed")
        rows = [(f"{server.url}/{name}", md5_of(www / name), SIZE) for name in names]
        runs = ways(rows, server, folder, out)
        meter = Meter(server.pid)
        for name, run in runs.items():
            runs[name] = meter.around(name, functools.partial(afresh, run, out))
        bench.in_turn(runs)
    mine, theirs = (meter.without_server(name, "s", FILES * SIZE / GiB) for name in runs)
    bench.series |= {f"{name}, a GiB": one for name, one in zip(runs, (mine, theirs), strict=True)}
    against = "curl, and then md5sum"
    bench.line(bench.title, against, mine.over(theirs), AT_MOST, OVER_PEER[scheme])
    bench.finish()


def ways(
    rows: list[tuple[str, str, int]], server: FileServer, folder: Path, out: Path
) -> dict[str, Callable[[], float]]:
    """Give both ways to fetch and prove all files."""
    spec = folder / "spec.json"
    spec.write_text(json.dumps(rows))
    environment = os.environ | {"GEODES_TASKS_PORTAL_URL": server.url, "GEODES_API_KEY": KEY}
    trust = []
    if server.certificate:
        environment |= {"GEODES_TASKS_CA_BUNDLE": str(server.certificate)}
        trust = ["--cacert", str(server.certificate)]
    curl = shlex.join(["curl", "--silent", "--fail", "--remote-name", *trust])
    hrefs = shlex.join(href for href, _, _ in rows)
    fetch = f"cd {shlex.quote(str(out))} && printf '%s\\n' {hrefs} | xargs -n 1 -P {FILES} {curl}"

    def theirs() -> float:
        return timed(["sh", "-c", fetch]) + timed(md5sums(out))

    ours = [str(spec), str(out), str(FILES), "geodes"]
    return {
        "geodes_tasks": lambda: script("ours.py", ours, environment),
        "curl and md5sum": theirs,
    }
