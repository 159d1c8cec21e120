"""Programs as users of pygeodes publish them, run with only the package's name changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.standin import KiB, StandIn, read

L2A, OSO, LAI = "THEIA_REFLECTANCE_SENTINEL2_L2A", "THEIA_OSO_RASTER_L3B", "POSTEL_VEGETATION_LAI"
pytest.importorskip("geopandas")

EACH_ITEM_THEN_UNZIP = """
import re, zipfile
from pathlib import Path
from pygeodes import Config, Geodes

geodes = Geodes()
geodes.set_conf(Config.from_file("config.json"))
items, table = geodes.search_items(
    bbox=[-13, 34, 40, 71], collections=["THEIA_OSO_RASTER_L3B"], get_all=True
)
for item in items:
    item.download_archive()
for archive in sorted(Path(geodes.conf.download_dir).glob("*.zip")):
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if re.match(r"^DATA/OCS_[0-9]{4}_LZW.tif", member.filename):
                print(opened.extract(member, path="maps"))
"""
AREA_AND_QUEUE = """
import geopandas
from shapely.geometry import box, mapping
from pygeodes import Config, Geodes
from pygeodes.utils.datetime_utils import complete_datetime_from_str
from pygeodes.utils.profile import DownloadQueue, Profile

boxes = [box(1, 42.8, 1.05, 42.9), box(1.05, 42.8, 1.1, 42.9)]
areas = geopandas.GeoDataFrame(geometry=boxes, crs=4326)
geodes = Geodes(conf=Config.from_file("config.json"))
items, table = geodes.search_items(
    query={
        "dataset": {"in": ["THEIA_REFLECTANCE_SENTINEL2_L2A"]},
        "start_datetime": {"gte": complete_datetime_from_str("2020-01-01")},
        "end_datetime": {"lte": complete_datetime_from_str("2020-01-31")},
    },
    intersects=mapping(areas.geometry.union_all()),
    quiet=True,
)
Profile.reset()
queue = DownloadQueue(table["item"].values)
queue.run()
queue.check_integrity()
print(len(items), len(Profile.load().recent_downloads("today")))
"""
CATALOGUE_TO_CSV = """
import pandas
from pygeodes import Geodes
from pygeodes.utils.formatting import format_collections, format_items

geodes = Geodes()
collections, table = geodes.search_collections("reflectance sentinel2")
print([one.id for one in collections if one.summaries.other.get("total_items")])
print(sorted(format_collections(table, columns_to_add={"summaries.total_items"}).columns))
items, table = geodes.search_items(
    query={"eo:cloud_cover": {"lte": 50}}, collections=[collections[0].id], get_all=True, quiet=True
)
rows = format_items(table, {"identifier", "start_datetime", "eo:cloud_cover"})
rows["size"] = [item.filesize for item in rows["item"]]
rows = rows[rows["eo:cloud_cover"] < 30].sort_values("start_datetime")
rows.drop(columns=["item", "geometry"]).to_csv("found.csv", index=False)
print(len(pandas.read_csv("found.csv")), rows["item"].iloc[0].find("platform"))
"""
BEST_SCENE = """
import os, zipfile
from datetime import datetime
from pathlib import Path
from pygeodes import Config, Geodes
from pygeodes.utils.formatting import format_items

searching = Geodes()
items, table = searching.search_items(
    query={
        "start_datetime": {"gte": "2020-01-01T00:00:00Z"},
        "end_datetime": {"lte": "2020-01-31T23:59:59Z"},
        "eo:cloud_cover": {"lte": 20},
    },
    bbox=[1.0, 42.8, 1.1, 42.9],
    collections=["THEIA_REFLECTANCE_SENTINEL2_L2A"],
)
table = format_items(table, columns_to_add={"eo:cloud_cover", "start_datetime", "grid:code"})
scenes = []
for _, row in table.iterrows():
    taken = datetime.fromisoformat(row.get("start_datetime", "").replace("Z", "+00:00"))
    scenes.append((row.get("eo:cloud_cover", None), taken, row["id"], row["item"]))
best = min(scenes, key=lambda one: one[:2])
folder = Path("scenes")
geodes = Geodes(conf=Config(api_key=os.environ["KEY"], download_dir=str(folder)))
geodes.download_item_archive(best[3])
newest = max(folder.glob("*.zip"), key=lambda path: path.stat().st_mtime)
with zipfile.ZipFile(newest) as opened:
    opened.extractall(folder / newest.stem)
print(best[0], len(list(folder.glob("**/*FRE_B4.tif"))))
"""
CHECK_LIST = """
import csv, os
from pygeodes import Config, Geodes

geodes = Geodes(Config.from_file("config.json"))
items = geodes.search_items(
    query={"grid:code": {"eq": "T31TCH"}}, return_df=False, quiet=True,
    collections=["THEIA_REFLECTANCE_SENTINEL2_L2A"],
    sortBy=[{"field": "start_datetime", "direction": "asc"}],
)
item = sorted(items, key=lambda one: one.data_asset.filesize)[0]
names = [name for name in geodes.list_item_files(item) if name.endswith("FRE_B4.tif")]
geodes.download_item_files(item, filenames=names)
geodes.download_item_files(item, pattern=r".*FRE_B8\\.tif")
with open("list.csv", "w", newline="") as file:
    rows = csv.writer(file)
    for one in items:
        path = os.path.join(geodes.conf.download_dir, one.data_asset.title)
        state = geodes.check_item_availability(one).get("data")
        done = os.path.exists(path) and os.path.getsize(path) == one.filesize
        rows.writerow([one.id, one.data_asset_checksum, state, "done" if done else "pending"])
print(len(names), open("list.csv").read().count("available,pending"))
"""
A_CONFIGURATION_FROM_ANOTHER = """
from datetime import datetime
from pygeodes import Config, Geodes
from pygeodes.geodes import Item
from pygeodes.utils.datetime_utils import complete_datetime_from_str, datetime_to_str

known = Config.from_file("config.json").to_dict()
known.update(download_dir="elsewhere")
geodes = Geodes(conf=Config(**known))

def scenes(first, last, tile) -> list[Item]:
    if isinstance(first, datetime):
        first = datetime_to_str(first)
    query = {
        "start_datetime": {"gte": complete_datetime_from_str(first)},
        "end_datetime": {"lte": complete_datetime_from_str(last)},
        "grid:code": {"eq": tile},
    }
    return geodes.search_items(
        query=query, collections=["THEIA_REFLECTANCE_SENTINEL2_L2A"], return_df=False, get_all=True
    )

found = scenes(datetime(2020, 1, 1), "2020-01-20", "T31TCH")
geodes.download_item_archives(found)
print(len(found), scenes("1999-01-01", "1999-01-20", "T31TCH"))
"""
ONE_NAME_FOR_ALL = """
from pygeodes import Config, Geodes
from pygeodes.utils.datetime_utils import complete_datetime_from_str

geodes = Geodes(Config.from_file("config.json"))
for day in ("2020-01-05T10:59", "2020-01-15T10:59", "2020-01-25T10:59"):
    items, table = geodes.search_items(
        query={
            "product:type": {"eq": "REFLECTANCE_L2A"},
            "spaceborne:tile": {"eq": "T31TCH"},
            "start_datetime": {"lte": complete_datetime_from_str(day[:8] + "28T00:00")},
            "end_datetime": {"gte": complete_datetime_from_str(day)},
        },
        sortBy=[{"field": "start_datetime", "direction": "asc"}],
    )
    for item in items[:1]:
        geodes.download_item_archive(item, outfile="my_item.zip")
"""
ITEMS_AS_FILES = """
import json, os
from pygeodes import Config, Geodes
from pygeodes.utils.stac import Item

geodes = Geodes(Config.from_file("config.json"))
items, _ = geodes.search_items(
    query={"grid:code": {"in": ["T31TCH"]}}, get_all=True, quiet=True,
    collections=["THEIA_REFLECTANCE_SENTINEL2_L2A"],
)
os.makedirs("manifest", exist_ok=True)
for number, item in enumerate(items):
    with open(f"manifest/{number:05d}.json", "w") as file:
        json.dump(item.to_dict(), file)
    print(str(item.get_datetime())[:10], int(item.filesize) > 0)
for name in sorted(os.listdir("manifest")):
    with open(f"manifest/{name}") as file:
        again = Item.from_dict(json.load(file))
    geodes.download_item_archive(again)
    path = os.path.join(geodes.conf.download_dir, again.data_asset.title)
    print(again in items, os.path.exists(path))
"""
OTHER_THAN_ZIP = """
from pathlib import Path
from pygeodes import Config, Geodes
from pygeodes.utils.formatting import format_items
from pygeodes.utils.query import get_requestable_args

geodes = Geodes(conf=Config.from_file("config.json"))
assert any(one.startswith("platform ") for one in get_requestable_args()["attributes"])
items, table = geodes.search_items(
    query={"platform": {"eq": "AVHRR"}}, collections=["POSTEL_VEGETATION_LAI"], get_all=True
)
print(sorted(format_items(table, columns_to_add={"mission"})["mission"]))
for _ in range(2):
    for item in items:
        target = Path(geodes.conf.download_dir, item.properties["identifier"] + ".h5.gz")
        if item.properties["mission"] != "GEOV2-GCM" or target.is_file():
            continue
        geodes.download_item_archive(item)
        print(target.name, target.stat().st_size == item.filesize)
"""
PREVIEWS = """
from IPython.display import Image
from pygeodes import Geodes

geodes = Geodes()
items = geodes.search_items(query={"dataset": {"eq": "PEPS_S2_L1C"}}, return_df=False, quiet=True)
for item in items:
    item.show_quicklook()
    print(len(item.get_quicklook_content_in_base64()) > 1000, item.quicklook_asset.filesize)
"""
MAPS_AND_FILES = """
import json
import geopandas
from pygeodes import Geodes
from pygeodes.utils.formatting import export_dataframe, load_dataframe

geodes = Geodes()
items, table = geodes.search_items(query={"grid:code": {"eq": "T31TCH"}}, get_all=True, quiet=True)
export_dataframe(table, "exported.json")
table.to_file("written.geojson")
open("text.json", "w").write(table.to_json())
for name in ("exported.json", "written.geojson", "text.json"):
    again = load_dataframe(name)
    are_items = set(again["item"]) == set(items)
    print(isinstance(again, geopandas.GeoDataFrame), are_items, table.equals(again))
print(len(json.loads(json.dumps(table.__geo_interface__))["features"]))
"""
PROGRAMS = {
    "each item, then unzip": (EACH_ITEM_THEN_UNZIP, ["maps/DATA/OCS_2023_LZW.tif"] * 2),
    "an area and a queue": (AREA_AND_QUEUE, ["3 3"]),
    "a catalogue to CSV": (
        CATALOGUE_TO_CSV,
        [
            str([L2A]),
            "['collection', 'description', 'summaries.total_items', 'title']",
            "2 SENTINEL2B",
        ],
    ),
    "the best scene": (BEST_SCENE, ["5.0 1"]),
    "a check list": (CHECK_LIST, ["1 3"]),
    "a configuration from another": (A_CONFIGURATION_FROM_ANOTHER, ["2 []"]),
    "one name for all": (ONE_NAME_FOR_ALL, []),
    "items as files": (ITEMS_AS_FILES, ["2025-04-03 True"] * 3 + ["True True"] * 3),
    "other than zip": (OTHER_THAN_ZIP, ["['GEOV2-GCM', 'GEOV2-OTHER']", "LAI_0.h5.gz True"]),
    "previews": (PREVIEWS, ["True 18432"]),
    "maps and files": (MAPS_AND_FILES, ["True True True"] * 3 + ["3"]),
}  # fmt: skip
"""Name of a program to its text and the lines that it prints, those about progress apart."""
FILES = {
    "an area and a queue": 3,
    "the best scene": 1,
    "a configuration from another": 2,
    "one name for all": 3,
    "items as files": 3,
}
"""Name of a program to the number of verified archives that it leaves."""


@pytest.fixture
def portal() -> Iterator[StandIn]:
    """Start a portal with a few items of four collections, archives that can be unzipped."""
    with StandIn(KEY, range="good", search_rate=None) as standin:
        for number in range(3):
            folder = f"SENTINEL2B_20200{number}"
            names = [f"{folder}/{folder}_FRE_B{band}.tif" for band in (2, 3, 4, 8)]
            standin.add_item(
                collection=L2A, members={one: os.urandom((number + 1) * KiB) for one in names},
                start_datetime=f"2020-01-{number * 10 + 6:02d}T10:59:07.758Z", tile="T31TCH",
                bbox=(0.9, 42.7, 1.2, 43.0), cloud_cover=25.0 - 10 * number if number else 90.0,
            )  # fmt: skip
        for year in (2022, 2023):
            members = {"DATA/OCS_2023_LZW.tif": b"map", f"README_{year}.txt": b"read"}
            standin.add_item(collection=OSO, members=members)
        for number, mission in enumerate(("GEOV2-GCM", "GEOV2-OTHER")):
            properties = {"mission": mission, "platform": "AVHRR"}
            standin.add_item(
                collection=LAI, size=5 * KiB, identifier=f"LAI_{number}", properties=properties,
                title=f"LAI_{number}.h5.gz", content_type="application/x-hdf5",
            )  # fmt: skip
        standin.add_item(size=4 * KiB)
        yield standin


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_a_user_runs(portal: StandIn, tmp_path: Path, name: str) -> None:
    """Search, tables, downloads, members, files: each shape does what it did with pygeodes."""
    text, expected = PROGRAMS[name]
    (tmp_path / "config.json").write_text(json.dumps({"api_key": KEY, "download_dir": "files"}))
    (tmp_path / "program.py").write_text(text.replace("pygeodes", "geodes_tasks"))
    environment = os.environ | {
        "GEODES_TASKS_PORTAL_URL": portal.url, "GEODES_TASKS_QUOTA": "off", "KEY": KEY,
        "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1", "XDG_RUNTIME_DIR": str(tmp_path),
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if not line.startswith("<IPython")]
    assert shown == expected
    archives = [path for path in tmp_path.rglob("*.zip") if path.parent.name != "maps"]
    if name in FILES:
        wanted = {read(portal.body(item)) for item in portal.items if item["collection"] == L2A}
        assert len(archives) == FILES[name]
        assert {path.read_bytes() for path in archives} <= wanted
