"""pygeodes' own test suite against this package, with nothing but the imports changed.

The suite is pygeodes' (https://github.com/CNES/pyGeodes, tag v0.1.7) and is not kept here:
``PYGEODES_SUITE`` names the folder ``tests`` of a checkout; its notebooks are beside that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.integration.s3_server import BUCKET, S3Server
from tests.standin import KiB, StandIn, read

SUITE = os.environ.get("PYGEODES_SUITE", "")
ROOT = Path(__file__).parents[2]
KEY = "standin-key-0123456789"
THEIA = "THEIA_REFLECTANCE_SENTINEL2_L2A"
TAKEN = r"geodes|utils\.(?:config|datetime_utils|exceptions|formatting|profile|stac)"
"""Modules of pygeodes that are import paths here; its tests of all others test pygeodes itself."""
SAME_CLASS = r"assertEqual\(type\((\w+)\), pd\.GeoDataFrame\)"
"""The one comparison that is rewritten: a table here is of a class derived from GeoDataFrame."""
CONFTEST = """
import os
import pygeodes.utils.consts as consts
consts.GEODES_DEFAULT_URL = os.environ["GEODES_TASKS_PORTAL_URL"] + "/"
"""
pytestmark = pytest.mark.skipif(not SUITE, reason="PYGEODES_SUITE names no suite of pygeodes")


def different() -> dict[str, str]:
    """Return the tests that tests/fault/CASES.md names as different, with the reasons."""
    page = (ROOT / "tests" / "fault" / "CASES.md").read_text()
    rows = re.findall(r"^\| (`test_\w+::[^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    return {
        name: reason for names, reason in rows for name in re.findall(r"`(test_\w+::\w+)`", names)
    }


def swapped(folder: Path) -> None:
    """Copy the suite into a folder, its imports changed as a user changes them."""
    tests = folder / "tests"
    shutil.copytree(SUITE, tests)
    for path in tests.rglob("*.py"):
        if path.name == "test_decorators.py":
            continue  # the decorators are pygeodes' own, and raise pygeodes' own exceptions
        text = re.sub(rf"\bpygeodes\.({TAKEN})\b", r"geodes_tasks.\1", path.read_text())
        path.write_text(re.sub(SAME_CLASS, r"assertIsInstance(\1, pd.GeoDataFrame)", text))
    for name in ("download_dir", "s3_download_dir", "folder"):
        (tests / "test_env" / name).mkdir(exist_ok=True)
    for name in ("query.json", "other-config-file.json"):
        (tests / "test_env" / name).write_text("{}")
    (tests / "valid-api-key.json").write_text(json.dumps({"api_key": KEY}))
    (tests / "conftest.py").write_text(CONFTEST)


def test_the_suite_of_pygeodes_passes(tmp_path: Path) -> None:
    """Every test passes but those that CASES.md names, each with its reason."""
    swapped(tmp_path)
    with StandIn(KEY, range="good", search_rate=None) as standin:
        for orbit in range(117, 122):
            for number in range(5):
                members = {f"{number}/{name}.tiff": os.urandom(KiB) for name in "abc"}
                properties = {"sat:relative_orbit": orbit}
                standin.add_item(
                    collection="PEPS_S1_L1", members=members, properties=properties,
                    start_datetime=f"2025-04-0{number + 1}T17:57:41.024Z",
                )  # fmt: skip
        environment = os.environ | {
            "GEODES_TASKS_PORTAL_URL": standin.url, "GEODES_TASKS_QUOTA": "off",
            "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1", "MPLBACKEND": "agg",
            "XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{ROOT}",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
             "--rootdir", str(tmp_path), "--junitxml", str(tmp_path / "report.xml"), "tests"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    names = {f"{case.get('classname', '').split('.')[-2]}::{case.get('name')}" for case in cases}
    failed = {
        f"{case.get('classname', '').split('.')[-2]}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    assert len(cases) == 53
    assert failed - different().keys() == set(), done.stdout
    # A row of CASES.md that names no test of the suite would excuse nothing.
    assert different().keys() - names == set()


RUN = """
import json, sys
absent = []
for cell in json.load(open(sys.argv[1]))["cells"]:
    text = "".join(cell["source"]).replace("%%time", "").replace("pygeodes", "geodes_tasks")
    if cell["cell_type"] == "code":
        try:
            exec(compile(text, cell.get("id", "cell"), "exec"))
            print("ran")
        except (ModuleNotFoundError, ImportError) as error:
            # folium, matplotlib, rasterio and CNES's assumerole need not be installed.
            absent.append(error)
            assert "geodes_tasks" not in str(error), text
        except NameError as error:
            assert absent, text
"""
NOTEBOOKS = Path(SUITE).parent / "docs" / "source"
FOUND = [
    ("PEPS_S2_L1C", "2025-12-01", "T52SCE", (122.0, 30.5, 122.2, 30.7), 2.0),
    ("PEPS_S2_L1C", "2025-12-02", "T31TCK", (1.0, 43.0, 2.0, 44.0), 29.5),
    (THEIA, "2020-01-06", "T31TCH", (0.9, 42.7, 1.2, 43.0), 30.0),
]
"""Collection, day, tile, box and cloud cover of items that the notebooks search for."""
CREDENTIALS = {
    "aws_access_key_id": "ASIAEXAMPLE", "aws_secret_access_key": "secret", "aws_session_token": "t",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "user_guide/quickstart",
        "examples/dataframes-example",
        "examples/search-and-download",
        "examples/search_roi",
        "examples/s3_example",
        "examples/s3_download",
        "examples/s3_subset",
    ],
)
def test_the_notebooks_of_pygeodes_run(tmp_path: Path, name: str) -> None:
    """Every cell runs, but those that need a package which is not installed."""
    pytest.importorskip("geopandas")
    if not (NOTEBOOKS / f"{name}.ipynb").is_file():
        pytest.skip("the notebooks are not beside the suite")
    config = {"api_key": KEY} if "s3" not in name else CREDENTIALS
    (tmp_path / "config.json").write_text(json.dumps(config | {"download_dir": "files"}))
    (tmp_path / "pygeodes-config.json").write_text("{}")
    with StandIn(KEY, search_rate=None) as standin, S3Server() as s3:
        for number, (collection, when, tile, bbox, cloud) in enumerate(FOUND):
            item = standin.add_item(
                collection=collection, size=KiB, tile=tile, bbox=bbox, cloud_cover=cloud,
                endpoint_url=f"https://s3.datalake.cnes.fr/{BUCKET}/{number}.zip",
                start_datetime=f"{when}T10:59:07Z",
                properties={"sat:relative_orbit": 4, "continent_code": ["AF"]},
            )  # fmt: skip
            s3.put(f"{number}.zip", read(standin.body(item)))
        environment = os.environ | {
            "GEODES_TASKS_PORTAL_URL": standin.url, "GEODES_TASKS_QUOTA": "off",
            "GEODES_TASKS_S3_ENDPOINT_URL": s3.url, "MPLBACKEND": "agg",
            "XDG_RUNTIME_DIR": str(tmp_path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(NOTEBOOKS / f"{name}.ipynb")],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    if "ran" not in done.stdout.splitlines():
        pytest.skip("no cell runs without folium")
