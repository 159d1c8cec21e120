"""The STAC report: valid, with local hrefs, sizes, checksums and the way back to the catalogue."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.extensions.file import FileExtension

from geodes_tasks.ledger import Ledger
from geodes_tasks.model.footprint import BOXED, footprint, packed, unpacked
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.reports import Format, lines
from tests.standin import StandIn
from tests.unit.ledger.test_ledger import BATCH, ask, proven, request_of
from tests.unit.monitoring.reports.test_reports import GOOD


@pytest.fixture(scope="module")
def catalogue() -> list[dict[str, Any]]:
    """Give items as the portal writes them."""
    with StandIn() as standin:
        return [standin.add_item(1000 + number) for number in range(3)]


def record_of(item: dict[str, Any], path: Path, **fields: Any) -> DownloadRecord:
    """Give the record of a file that was downloaded from an item."""
    path.write_bytes(b"x" * 10)
    known: dict[str, Any] = {
        "item_id": item["id"],
        "collection": item["collection"],
        "asset_key": path.name,
        "state": State.SUCCESS,
        "path": str(path),
        "size_bytes": 10,
        "checksum": f"md5:{hashlib.md5(b'x' * 10).hexdigest()}",
    }
    return replace(GOOD, **known | fields)


def written(records: list[DownloadRecord], items: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the report and read it."""
    kept = {item["id"]: footprint(item) for item in items}
    found: dict[str, Any] = json.loads(
        "\n".join(lines(records, Format.STAC, footprint_of=kept.get))
    )
    return found


def validated(collection: dict[str, Any]) -> list[pystac.Item]:
    """Read the items with pystac, and have it check each against the schema of STAC."""
    items = [pystac.Item.from_dict(feature) for feature in collection["features"]]
    for item in items:
        core = pystac.Item.from_dict(item.to_dict(include_self_link=False))
        # Schemas of extensions are not on this machine; that of STAC itself comes with pystac.
        core.stac_extensions = []
        core.validate()
    return items


def test_report_is_valid_stac(catalogue: list[dict[str, Any]], tmp_path: Path) -> None:
    """Every item is read by pystac and found valid; one item a line stands between two lines."""
    records = [record_of(item, tmp_path / f"{n}.zip") for n, item in enumerate(catalogue)]

    items = validated(written(records, catalogue))

    assert [item.id for item in items] == [item["id"] for item in catalogue]
    assert items[0].bbox == catalogue[0]["bbox"]
    assert items[0].geometry == catalogue[0]["geometry"]
    assert items[0].properties["eo:cloud_cover"] == 12.5


def test_assets_are_the_files_on_this_disk(catalogue: list[dict[str, Any]], tmp_path: Path) -> None:
    """Each asset's href can be opened, and its size and multihash are those of the bytes."""
    (item,) = validated(written([record_of(catalogue[0], tmp_path / "a.zip")], catalogue))

    (asset,) = item.assets.values()
    facts = FileExtension.ext(asset)
    content = Path(asset.href).read_bytes()
    assert facts.size == len(content)
    assert facts.checksum == "d50110" + hashlib.md5(content).hexdigest()
    assert asset.media_type == "application/zip"


def test_way_back_to_the_catalogue(catalogue: list[dict[str, Any]], tmp_path: Path) -> None:
    """The item names its origin with ``derived_from``, and its collection with a link."""
    (item,) = validated(written([record_of(catalogue[0], tmp_path / "a.zip")], catalogue))

    origin = next(link["href"] for link in catalogue[0]["links"] if link["rel"] == "self")
    assert [link.href for link in item.get_links("derived_from")] == [origin]
    assert item.collection_id == catalogue[0]["collection"]
    assert len(item.get_links("collection")) == 1


def test_files_of_one_item_are_one_item(catalogue: list[dict[str, Any]], tmp_path: Path) -> None:
    """Two files of an item are two assets; what failed or waits is none."""
    records = [record_of(catalogue[0], tmp_path / name) for name in ("a.zip", "b.xml", "c.zip")]
    records[2] = replace(records[2], state=State.FAILURE)

    (item,) = validated(written(records, catalogue))

    assert set(item.assets) == {"a.zip", "b.xml"}


def test_what_nobody_kept_is_named_not_made_up(
    catalogue: list[dict[str, Any]], tmp_path: Path
) -> None:
    """An item whose place and time are not known is left out and told; nothing is invented."""
    record, missing = record_of(catalogue[0], tmp_path / "a.zip"), list[str]()

    text = "\n".join(lines([record], Format.STAC, left_out=missing))

    assert json.loads(text) == {"type": "FeatureCollection", "features": []}
    assert missing == [catalogue[0]["id"]]


# --- what is kept --------------------------------------------------------------------------------


def test_footprint_is_small(catalogue: list[dict[str, Any]]) -> None:
    """What is kept of an item takes well below a kilobyte."""
    assert len(footprint(catalogue[0]) or "") < 900


def test_long_outline_gives_way_to_its_box(catalogue: list[dict[str, Any]]) -> None:
    """A geometry of thousands of points becomes the box around it, says so, and stays valid."""
    ring = [[1 + number / 3000, 43 + (number % 7) / 100] for number in range(3000)]
    item = catalogue[0] | {"geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}

    kept = footprint(item)

    assert kept is not None
    assert len(kept) < 1500
    assert json.loads(kept)["properties"][BOXED] == "bbox"
    assert json.loads(kept)["geometry"]["coordinates"][0][0] == item["bbox"][:2]


def test_one_level_too_deep(catalogue: list[dict[str, Any]]) -> None:
    """A polygon nested one level deeper than GeoJSON has it is put right."""
    right = catalogue[0]["geometry"]
    deeper = catalogue[0] | {"geometry": right | {"coordinates": [right["coordinates"]]}}

    assert json.loads(footprint(deeper) or "")["geometry"] == right


@pytest.mark.parametrize("geometry", [None, {}, "here", {"type": "Polygon", "coordinates": []}])
def test_no_place(catalogue: list[dict[str, Any]], geometry: Any, tmp_path: Path) -> None:
    """Without a place the item has neither geometry nor box, as STAC wants it."""
    item = catalogue[0] | {"geometry": geometry}

    (found,) = validated(written([record_of(item, tmp_path / "a.zip")], [item]))

    assert (found.geometry, found.bbox) == (None, None)


@pytest.mark.parametrize("properties", [None, {}, {"datetime": "yesterday"}, {"datetime": 3}])
def test_no_time(catalogue: list[dict[str, Any]], properties: Any) -> None:
    """Without a time nothing is kept: no valid STAC could be made of it."""
    assert footprint(catalogue[0] | {"properties": properties}) is None


def test_span_without_moment(catalogue: list[dict[str, Any]], tmp_path: Path) -> None:
    """An item with begin and end alone stays valid: its moment is null."""
    times = {"start_datetime": "2025-01-01T00:00:00Z", "end_datetime": "2025-01-02T00:00:00Z"}
    item = catalogue[0] | {"properties": times}

    (found,) = validated(written([record_of(item, tmp_path / "a.zip")], [item]))

    assert found.datetime is None


DATED = {"properties": {"datetime": "2025-01-02T03:04:05Z"}}
"""All that a footprint needs of an item."""


def test_one_record_keeps_the_footprint_of_its_item(fake_ledger: Ledger) -> None:
    """The first file of an item that is not refused keeps its place and time, no other does."""
    taken, first, second, other = (request_of(name) for name in ("t", "a", "b", "c"))
    proven(fake_ledger, taken)
    ask(
        fake_ledger,
        replace(request_of("new", b"else"), path=taken.path, item=DATED),
        first,
        second,
        replace(other, item={}),
        batch="mine",
    )

    kept = {record.path: record.footprint for record in fake_ledger.reading.records("mine")}

    assert kept == {first.path: footprint(DATED), second.path: None, other.path: None}


def test_reports_do_not_repeat_footprints(fake_ledger: Ledger) -> None:
    """Place and time are for STAC: the lines of the other reports stay what they are."""
    ask(fake_ledger, replace(request_of("a"), item=DATED))

    (record,) = fake_ledger.reading.records(BATCH)

    assert record.footprint == footprint(DATED)
    assert "footprint" not in record.to_dict()


def test_packed_footprints_are_small_and_the_same(catalogue: list[dict[str, Any]]) -> None:
    """The ledger keeps a third of the text, and gives all of it back."""
    ring = [[n / 7, 43 + n / 11] for n in range(9)]
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    kept = str(footprint(catalogue[0] | {"geometry": geometry}))

    small = packed(kept)

    assert unpacked(small) == kept
    assert unpacked(packed('{"é":"x"}')) == '{"é":"x"}'
    assert len(small) < 0.45 * len(kept)
