"""Real items of the portal, served with small bodies: downloaded, and handed on by eodag."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks import enqueue
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.portal_items import FILES, as_eodag_3, real_items
from tests.standin import StandIn

KEY = "standin-key-0123456789"
pytestmark = pytest.mark.skipif(not FILES, reason="the folder of real items is not at hand")


@pytest.fixture
def portal() -> Iterator[StandIn]:
    """Start a portal with every real item."""
    with StandIn(KEY, search_rate=None) as standin:
        for item in real_items():
            standin.add_real(item)
        yield standin


def run(portal: StandIn, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program as a user of that portal would."""
    settings = config.load(
        portal_url=portal.url, api_key=KEY, quota="off", backoff_seconds=0.05, max_concurrent=16,
        s3_endpoint_url="http://127.0.0.1:1", state_dir=home / "state",
    )  # fmt: skip
    named = config.environment(settings)
    del named["GEODES_TASKS_REDIS_URL"]
    kept = {"HOME": str(home), "EODAG_CFG_DIR": str(home), "PATH": "/usr/bin:/bin"}
    # eodag would fetch its list of collections from the web.
    kept |= {"EODAG_EXT_COLLECTIONS_CFG_FILE": "", "EODAG_EXT_COLLECTIONS_CFG_URI": ""}
    return subprocess.run(
        [sys.executable, *words],
        env=named | kept | {"XDG_RUNTIME_DIR": str(home)},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def archive_name(item: dict[str, Any]) -> str:
    """Return the name of an item's archive in the datalake."""
    properties = item["properties"]
    found = properties.get("endpoint_url") or properties["accessService:endpointURL"]
    return str(found).rpartition("/")[2]


def downloaded(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.parent == folder}


def test_every_real_item_is_downloaded(portal: StandIn, tmp_path: Path) -> None:
    """96 items of three generations: each archive under its name, proven; a rerun fetches none."""
    lines = "\n".join(map(json.dumps, portal.items))
    (tmp_path / "items.jsonl").write_text(lines)
    words = ("-m", "geodes_tasks", "download", "items.jsonl", "-o", "files", "--json")

    first = run(portal, tmp_path, *words)
    again = run(portal, tmp_path, *words)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert downloaded(tmp_path / "files") == {archive_name(item) for item in portal.items}
    assert len(downloaded(tmp_path / "files")) == 96
    assert json.loads(again.stdout)["outcomes"]["ALREADY_PRESENT"] == 96
    assert len(portal.downloads()) == 96


@pytest.mark.slow
def test_what_eodag_3_wrote_is_downloaded(portal: StandIn, tmp_path: Path) -> None:
    """A search that eodag 3 serialised is a SOURCE: the portal's names, sizes and checksums."""
    known = [item for item in portal.items if "identifier" in item["properties"]]
    found = {"type": "FeatureCollection", "features": [as_eodag_3(item) for item in known]}
    (tmp_path / "search.geojson").write_text(json.dumps(found))

    done = run(portal, tmp_path, "-m", "geodes_tasks", "download", "search.geojson", "-o", "files")

    assert done.returncode == 0, done.stderr
    assert downloaded(tmp_path / "files") == {archive_name(item) for item in known}


EODAG = """
import json, sys
from eodag import EODataAccessGateway
from geodes_tasks.utils.profile import DownloadQueue
url, folder = sys.argv[1:]
dag = EODataAccessGateway()
dag.update_providers_config(f'''
geodes:
  search:
    api_endpoint: {url}/api/stac/search
    discover_collections:
      fetch_url: {url}/api/stac/collections
''')
names = json.load(open("collections.json"))
found = {}
for name in names:
    results = dag.search(provider="geodes", collection=name, raise_errors=True, limit=80)
    dag.serialize(results, f"{name}.geojson")
    found[name] = len(results)
    queue = DownloadQueue(results, folder)
    queue.run()
    assert queue.check_integrity() == []
print(json.dumps(found))
"""


@pytest.mark.slow
def test_what_eodag_finds_is_downloaded_and_enqueued(
    portal: StandIn, tmp_path: Path, settings: Config
) -> None:
    """A search of eodag goes to a queue, its files to the command line and to ``enqueue``."""
    pytest.importorskip("eodag")
    known = [item for item in portal.items if "identifier" in item["properties"]]
    portal.portal.catalogue.clear()
    for item in known:
        portal.add_real(item)
    (tmp_path / "collections.json").write_text(json.dumps(sorted({i["collection"] for i in known})))

    done = run(portal, tmp_path, "-c", EODAG, portal.url, str(tmp_path / "files"))

    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout.splitlines()[-1]).values()) == len(known)
    assert downloaded(tmp_path / "files") == {archive_name(item) for item in known}
    files = sorted(path.name for path in tmp_path.glob("*.geojson"))
    plan = run(portal, tmp_path, "-m", "geodes_tasks", "download", *files, "-o", "files", "--json")
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["outcomes"]["ALREADY_PRESENT"] == len(known)
    batch = enqueue([str(tmp_path / name) for name in files], conf=settings)
    assert {Path(record.path).name for record in batch.results()} == {
        archive_name(item) for item in known
    }
