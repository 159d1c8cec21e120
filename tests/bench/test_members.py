"""Two bands of many products: from S3 and the portal, beside whole archives and pygeodes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.settings import config
from tests.bench import peers
from tests.bench.harness import AT_LEAST, AT_MOST, Bench, Series, last_json, scaled, timed
from tests.bench.products import S3Bodies, names_and_sizes, products
from tests.standin import RangeBehaviour, StandIn
from tests.standin.bodies import KiB

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

COUNT, SIZE = scaled(200, 20), 50_000_000
RATE = 20_000_000
"""Bytes a second of each connection, to S3 and to the portal."""
ROUNDS = 1
"""A turn takes minutes, and the bytes are the same in each."""
PATTERNS = ("*_B04_10m.jp2", "*_B08_10m.jp2")
REGEX = r".*_B0[48]_10m\.jp2"
DIRECTORY_BYTES = 32 * KiB
"""Bytes of an archive's end that hold its directory, at most."""
OVER_MEMBERS = 1.05
"""Times the bytes of members and directories that are fetched where ranges are served."""
PEERS = Path(peers.__file__).parent
KEY = "bench-key-0123456789"
S3_ONLY, PORTAL = ("--source", "s3"), ("--source", "geodes")


def test_members(folder: Path) -> None:
    """Where ranges are served little more than the members is fetched; else each archive once."""
    bodies = products(COUNT, SIZE)
    wanted = [
        size
        for name, size in names_and_sizes(SIZE).items()
        if name.endswith(("B04_10m.jp2", "B08_10m.jp2"))
    ]
    needed = COUNT * (sum(wanted) + DIRECTORY_BYTES)
    bench = Bench("members", f"2 bands of each of {COUNT} products of 50 MB")
    bench.conditions = {
        "members of a product": len(names_and_sizes(SIZE)),
        "bytes of a product": bodies[0].size, "bytes of its two bands": sum(wanted),
        "servers": "an S3 server and a portal in one process of Python, 20 MB/s a connection",
    }  # fmt: skip
    objects = {f"{number}.zip": body for number, body in enumerate(bodies)}
    with StandIn(KEY) as portal, S3Bodies(objects, RATE) as s3:
        for number, body in enumerate(bodies):
            name = f"S2A_MSIL2A_20250401T105031_N0511_R051_T{number:05}_20250401T150112"
            address = f"{s3.url}/bucket/{number}.zip"
            portal.add_item(identifier=name, body=body, endpoint_url=address)
        portal.settings.rate = RATE
        items = folder / "items.json"
        items.write_text(json.dumps(portal.items))
        settings = config.load(
            portal_url=portal.url, api_key=KEY, quota="off", s3_endpoint_url=s3.url,
            aws_access_key_id="key-id", aws_secret_access_key="secret", state_dir=folder / "state",
        )  # fmt: skip
        env = os.environ | config.environment(settings) | {"HOME": str(folder)}
        del env["GEODES_TASKS_REDIS_URL"]
        fetched: dict[str, list[int]] = {}

        def counted(name: str, run: Callable[[Path], float], ranges: RangeBehaviour) -> float:
            portal.settings.range = ranges
            portal.reset_log()
            # A folder, and so a ledger, of its own: one that is known has directories already.
            before, place = s3.sent_bytes, folder / name.replace(" ", "-")
            seconds = run(place)
            sent = sum(one.bytes_sent for one in portal.requests) + s3.sent_bytes - before
            fetched.setdefault(name, []).append(sent)
            shutil.rmtree(place)
            return seconds

        def ours(*options: str) -> Callable[[Path], float]:
            command = [sys.executable, "-m", "geodes_tasks", "download", str(items), *options]
            return lambda place: timed(
                [*command, "-o", str(place)], env=env, stderr=subprocess.DEVNULL
            )

        def pygeodes(place: Path) -> float:
            script = PEERS / "pygeodes_members.py"
            words = [sys.executable, str(script), portal.url, KEY, str(items), str(place), REGEX]
            return float(last_json(words, cwd=folder))

        sets = [word for pattern in PATTERNS for word in ("--members", pattern)]
        good, none = RangeBehaviour.GOOD, RangeBehaviour.ERROR_500
        runs = {
            "members, S3": (ours(*sets, *S3_ONLY), good),
            "members, portal with ranges": (ours(*sets, *PORTAL, "--portal-ranges"), good),
            "members, portal without ranges": (ours(*sets, *PORTAL), none),
            "whole archives, S3": (ours(*S3_ONLY), good),
            "whole archives, portal": (ours(*PORTAL), good),
            "pygeodes, portal with ranges": (pygeodes, good),
        }
        seconds = bench.in_turn(
            {name: functools.partial(counted, name, *run) for name, run in runs.items()}, ROUNDS
        )
    megabytes = {
        name: Series(tuple(one / 1e6 for one in sent), "MB") for name, sent in fetched.items()
    }
    bench.series |= {f"{name}, bytes": one for name, one in megabytes.items()}
    for name in ("members, S3", "members, portal with ranges"):
        share = Series(tuple(one / needed for one in fetched[name]), "times")
        bench.line(f"bytes of {name}", "the members and directories", share, AT_MOST, OVER_MEMBERS)
    archives = COUNT * bodies[0].size
    share = Series(
        tuple(one / archives for one in fetched["members, portal without ranges"]), "times"
    )
    bench.line(
        "bytes of members, portal without ranges", "the archives", share, AT_MOST, OVER_MEMBERS
    )
    for name, whole in (
        ("members, S3", "whole archives, S3"),
        ("members, portal with ranges", "whole archives, portal"),
    ):
        bench.line(
            f"{name}, times faster", whole, seconds[whole].over(seconds[name]), AT_LEAST, 1.0
        )
    peer = "pygeodes, portal with ranges"
    faster = seconds[peer].over(seconds["members, portal with ranges"])
    bench.line(
        "members, portal with ranges, times faster",
        "pygeodes, a connection a member",
        faster,
        AT_LEAST,
        1.0,
    )
    bench.finish()
