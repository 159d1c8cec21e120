"""500 small items: pygeodes and DownloadQueue, from the same server in the same run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin import KiB, StandIn

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

KEY = "bench-key-0123456789"
COUNT, SIZE = 500, 64 * KiB
FIRST, SECOND = 10.0, 20.0
"""How many times faster a first and a second run have to be."""

PYGEODES = """
import json, sys, time
from pygeodes import Config, Geodes
from pygeodes.utils.profile import DownloadQueue, Profile
from pygeodes.utils.stac import Item
url, key, folder = sys.argv[1:]
import os; os.makedirs(folder)
Profile.reset()
Geodes(conf=Config(api_key=key, download_dir=folder, use_async_requests=False), base_url=url)
items = [Item.from_dict(one) for one in json.load(open("items.json"))]
seconds = []
for _ in range(2):
    begun = time.monotonic()
    DownloadQueue(items, download_dir=folder).run()
    seconds.append(time.monotonic() - begun)
Profile.reset()
print(json.dumps(seconds))
"""

OURS = """
import json, sys, time
from geodes_tasks.downloadqueue import DownloadQueue
from geodes_tasks.geodes import Geodes
from geodes_tasks.item import Item
from geodes_tasks.userconfig import Config
url, key, folder = sys.argv[1:]
conf = Config(api_key=key, portal_url=url, quota="off", s3_endpoint_url="http://127.0.0.1:1")
Geodes(conf)
items = [Item.from_dict(one) for one in json.load(open("items.json"))]
seconds = []
for _ in range(2):
    begun = time.monotonic()
    queue = DownloadQueue(items, download_dir=folder)
    status = queue.run()
    seconds.append(time.monotonic() - begun)
    assert status.states["SUCCESS"] == len(items), status
print(json.dumps(seconds))
"""


@pytest.fixture(scope="module")
def portal() -> Iterator[StandIn]:
    """Start a portal with the items."""
    with StandIn(KEY) as standin:
        for _ in range(COUNT):
            standin.add_item(size=SIZE)
        yield standin


def seconds_of(script: str, portal: StandIn, folder: Path) -> list[float]:
    """Run a script in a process of its own; gives how long its two runs took."""
    (folder / "items.json").write_text(json.dumps(portal.items))
    done = subprocess.run(
        [sys.executable, "-c", script, portal.url, KEY, str(folder / "files")],
        cwd=folder,
        env=os.environ | {"GEODES_TASKS_STATE_DIR": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def test_a_queue_beside_pygeodes(portal: StandIn, tmp_path: Path) -> None:
    """Both download the same; the ratios are what the page promises."""
    theirs, ours = (tmp_path / "theirs", tmp_path / "ours")
    theirs.mkdir()
    ours.mkdir()

    slow = seconds_of(PYGEODES, portal, theirs)
    fast = seconds_of(OURS, portal, ours)

    ratios = {"first": slow[0] / fast[0], "second": slow[1] / fast[1]}
    figures = {
        "items": COUNT, "size_bytes": SIZE, "pygeodes_s": slow, "geodes_tasks_s": fast,
        "ratios": ratios, "cpus": os.cpu_count(), "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(figures))
    assert ratios["first"] >= FIRST
    assert ratios["second"] >= SECOND
