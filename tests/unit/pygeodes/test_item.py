"""Items are pystac items with what GEODES adds, whatever the portal or eodag makes of them."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest

from geodes_tasks.errors import ItemError, NoDataAssetError
from geodes_tasks.pygeodes.archives import final_path
from geodes_tasks.pygeodes.item import Collection, Item, as_item, as_items
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac.eodag import restored
from tests.standin.catalogue import Catalogue
from tests.standin.spec import ItemSpec

URL = "https://geodes-portal.cnes.fr"


def made(**options: Any) -> dict[str, Any]:
    """Build an item as the portal writes it."""
    return Catalogue().add(ItemSpec(size=1000, **options), URL)


def test_an_item_is_a_pystac_item_with_extras() -> None:
    """Size, checksum, address and preview are there without reading descriptions by hand."""
    source = made()

    item = Item.from_dict(source)

    assert isinstance(item, pystac.Item)
    assert (item.filesize, item.data_asset.title) == (1000, item.data.key)
    assert item.data_asset_checksum == item.data_asset.href.rpartition("/")[2]
    assert item.s3_path == source["properties"]["endpoint_url"]
    assert item.quicklook_asset is not None
    assert item.quicklook_asset.filesize == 18 * 1024


@pytest.mark.parametrize("time", [None, "", "soon", 7, "2025-02-30T00:00:00Z", "absent"])
def test_an_item_without_a_time_is_an_item(time: object) -> None:
    """A time that is missing or none costs neither the item nor its search."""
    d = made()
    if time == "absent":
        del d["properties"]["datetime"]
    else:
        d["properties"]["datetime"] = time

    item = Item.from_dict(d)

    assert item.datetime is None
    assert item.to_dict()["properties"]["datetime"] is None
    assert item.data.key


def test_reading_leaves_the_json_alone() -> None:
    """The JSON that an item was made of can be used again."""
    source = made()
    before = copy.deepcopy(source)

    Item.from_dict(source)

    assert source == before


def test_an_item_downloads_as_its_json_does() -> None:
    """What the downloader sees of an item is what it sees of the JSON it came from."""
    source = made(second=".h5.gz")

    assert stac_assets.assets(Item.from_dict(source).to_dict()) == stac_assets.assets(source)


@pytest.mark.parametrize(
    "options",
    [
        {"null_size": True, "null_checksum": True},
        {"described": False},
        {"roles": None},
        {"titled": False},
        {"nested_geometry": True},
        {"old_names": True},
        {"xml": "first", "second": ".h5.gz"},
        {"file_size": True, "file_checksum": "multihash"},
        {"quicklook": False, "endpoint_url": None},
    ],
)
def test_every_way_the_portal_writes_is_read(options: dict[str, Any]) -> None:
    """None of the variants seen in the wild keeps an item from being read, shown and used."""
    item = Item.from_dict(made(**options))

    assert item.data_asset.href == item.data.hrefs["geodes"]
    assert item.data_asset.title is None or item.data_asset.title.endswith(".zip")
    assert "<table>" in item._repr_html_()


def test_a_silent_catalogue_gives_none() -> None:
    """Where neither size nor checksum is known, None says so; no wrong number, no error."""
    item = Item.from_dict(made(null_size=True, null_checksum=True, href_tail="latest"))

    assert (item.filesize, item.data_asset_checksum) == (None, None)


def test_the_zip_is_the_archive_not_the_xml() -> None:
    """Of several data assets the archive is the zip, wherever it stands."""
    item = Item.from_dict(made(xml="first", second=".tar"))

    assert item.data.key.endswith(".zip")


def test_an_item_without_data_says_so() -> None:
    """An item that has a preview only is shown as such, and its archive is a named error."""
    item = Item.from_dict(made(data=False))

    assert "none of its assets is data" in item._repr_html_()
    with pytest.raises(NoDataAssetError, match="none of its assets is data"):
        item.data_asset  # noqa: B018 - the property raises


def test_fields_are_found_by_name() -> None:
    """Names with colons, dotted paths and the few fields outside the properties all work."""
    item = Item.from_dict(made())

    assert item.find("eo:cloud_cover") == 12.5
    assert item.find("political.continents") == ["Europe"]
    assert item.find("collection") == "PEPS_S2_L1C"
    assert item.find("nothing.there") is None
    assert {"id", "eo:cloud_cover", "political.continents"} <= item.list_available_keys()


@pytest.mark.parametrize("old_names", [True, False])
def test_fields_are_found_by_their_former_names_too(old_names: bool) -> None:
    """An item of 2024 has the names of 2024; a script finds its values under either."""
    item = Item.from_dict(made(old_names=old_names))

    assert item.find("eo:cloud_cover") == item.find("spaceborne:cloudCover") == 12.5
    assert item.find("grid:code") == item.find("spaceborne:tile") == "T31TCJ"
    assert item.s3_path == item.find("endpoint_url") == item.find("accessService:endpointURL")


def test_an_item_is_written_as_it_was_read() -> None:
    """JSON that pygeodes wrote comes back unchanged, whatever version of STAC pystac is for."""
    item = made(datetime="2025-04-03T09:00:26.809000Z") | {"stac_version": "1.0.0"}
    collection = Catalogue().collections(URL)[0]

    assert Item.from_dict(item).to_dict() == item
    assert Collection.from_dict(collection).to_dict()["stac_version"] == "1.0.0"


def test_items_are_equal_by_id() -> None:
    """Two readings of one item are one member of a set."""
    source = made()

    assert len({Item.from_dict(source), Item.from_dict(source)}) == 1


def test_collections_are_read_too() -> None:
    """A collection of a beta version becomes a pystac collection."""
    source = Catalogue().collections(URL)[0]

    collection = Collection.from_dict(source)

    assert isinstance(collection, pystac.Collection)
    assert collection.find("summaries.total_items") == 0
    assert "title" in collection.list_available_keys()


def test_items_come_out_of_anything() -> None:
    """Dicts, pystac items and collections of them become items."""
    one, two = made(identifier="A"), made(identifier="B")
    collection = {"type": "FeatureCollection", "features": [one, two]}

    assert [item.id for item in as_items([collection, pystac.Item.from_dict(one)])] == [
        one["id"],
        two["id"],
        one["id"],
    ]


@pytest.mark.parametrize(
    ("thing", "problem"), [([], "0 items"), ([made(), made()], "2 items"), ({"a": 1}, "keys: a")]
)
def test_one_item_is_wanted(thing: Any, problem: str) -> None:
    """Where one item is wanted, none or two are named as such."""
    with pytest.raises(ItemError, match=problem):
        as_item(thing)


@pytest.mark.parametrize(
    "odd",
    [
        {"links": [None, {"rel": "self", "href": 5}, {"rel": "root"}]},
        {"links": {"self": "x"}},
        {"assets": {"a.zip": None, "b.zip": 3}},
        {"assets": []},
    ],
    ids=str,
)
def test_a_malformed_link_or_asset_costs_no_item(odd: dict[str, Any]) -> None:
    """It is left out; the item stays, and so does the page of a search that it is on."""
    item = Item.from_dict(made() | odd)

    assert item.id == made()["id"]
    assert item.to_dict()["links" if "links" in odd else "assets"] in ([], {})


@pytest.mark.parametrize("broken", [{"type": "Collection"}, {"type": "Catalog"}])
def test_json_that_pystac_cannot_read_is_named(broken: dict[str, Any]) -> None:
    """An item of another program ends in our error with its name, not in one of pystac's."""
    with pytest.raises(ItemError, match="cannot be read as a STAC Item") as caught:
        Item.from_dict(made() | broken)

    assert caught.value.item in str(made()["properties"])
    assert Item.from_dict({"id": "URN:bare", "assets": {}}).id == "URN:bare"


def test_a_row_of_the_table_of_a_search_is_its_item() -> None:
    """``table.iloc[0]`` is an item, as a dict too; a number is a mistake."""
    item, pandas = made(), pytest.importorskip("pandas")
    row = pandas.Series({"collection": "PEPS_S2_L1C", "item": Item.from_dict(item)})

    with pytest.raises(TypeError, match="not 42"):
        as_item(42)

    assert as_item(row).id == as_item(row.to_dict()).id == item["id"]


@pytest.mark.parametrize(
    ("outfile", "path"),
    [
        (None, "files/{title}"),
        ("a.zip", "files/a.zip"),
        ("new/", "files/new/{title}"),
        ("sub", "files/sub/{title}"),
        ("", "files/{title}"),
        ("./a.zip", "a.zip"),
        ("./", "{title}"),
        ("../a.zip", "../a.zip"),
    ],
)
def test_where_an_archive_goes(outfile: str | None, path: str, tmp_path: Path) -> None:
    """A name is a file in the download folder or the current one; a folder keeps the title."""
    # The download folder need not be there yet.
    if outfile == "sub":
        (tmp_path / "files" / "sub").mkdir(parents=True)
    asset = as_item(made()).data

    found = final_path(asset, tmp_path / "files", outfile)

    assert found == Path(os.path.normpath(tmp_path / path.format(title=asset.title)))


@pytest.mark.parametrize("outfile", [5, b"x.zip", ["x.zip"]])
def test_a_name_of_another_type_is_no_file(outfile: Any, tmp_path: Path) -> None:
    """The message has the value; it was taken for the text that Python shows of it."""
    with pytest.raises(TypeError, match=re.escape(f"not {outfile!r}")):
        final_path(as_item(made()).data, tmp_path, outfile)


def test_a_name_that_no_file_can_have_is_left_to_the_download(tmp_path: Path) -> None:
    """Its length is no error of the system in the middle of nothing."""
    assert final_path(as_item(made()).data, tmp_path, "a" * 300) == tmp_path / ("a" * 300)


def test_an_asset_that_a_user_added_has_its_size() -> None:
    """Pystac puts an object of its own class among the assets."""
    item = Item("own", None, None, datetime(2025, 1, 1, tzinfo=UTC), {})
    item.add_asset("a.zip", pystac.Asset("https://h/a.zip", description="File size: 5 bytes",
                                         roles=["data"]))  # fmt: skip

    assert (item.filesize, item.data_asset_checksum, item.data_asset.href) == (
        5, None, "https://h/a.zip",
    )  # fmt: skip


def test_importing_the_package_needs_no_pystac() -> None:
    """pystac, boto3 and requests are loaded when they are used, not before."""
    code = "import sys, geodes_tasks; print({'pystac', 'boto3', 'requests'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


# --- eodag -------------------------------------------------------------------------------------


def through_eodag(source: dict[str, Any]) -> dict[str, Any]:
    """Write an item as eodag 4 does: names, roles, keys and titles of its own."""
    (key,) = (name for name in source["assets"] if name.endswith(".zip"))
    link = source["assets"][key]["href"]
    own = source["properties"]
    return source | {
        "id": own["identifier"],
        "collection": "S2_MSI_L1C",
        "properties": {
            "uid": source["id"],
            "title": own["identifier"],
            "grid:code": "MGRS-31TCJ",
            "geodes:dataset": own["dataset"],
            "geodes:endpoint_url": own["endpoint_url"],
            "eodag:download_link": link,
        },
        "assets": {"zip": source["assets"][key] | {"title": "zip", "roles": ["auxiliary"]}},
    }


def test_an_eodag_item_is_the_portals_again() -> None:
    """An item found with eodag is the same download as the same item found here."""
    source = made()

    back = restored(through_eodag(source))

    assert stac_assets.assets(back) == stac_assets.assets(source)
    assert back["properties"]["grid:code"] == "T31TCJ"
    assert restored(back) == back


@pytest.mark.parametrize("thing", [None, [], {"properties": None}, made(), ItemError("x", "y")])
def test_what_is_not_of_eodag_is_left_alone(thing: Any) -> None:
    """Everything else passes through unchanged."""
    assert restored(thing) is thing


def test_an_item_survives_json() -> None:
    """An item can be written and read again."""
    item = Item.from_dict(made())

    again = Item.from_dict(json.loads(json.dumps(item.to_dict())))

    assert again == item
    assert again.to_dict() == item.to_dict()
