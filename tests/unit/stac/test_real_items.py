"""Items as the portal and eodag really write them: names, sizes, checksums and sources."""

from __future__ import annotations

from typing import Any

import pytest

from geodes_tasks.errors import NoDataAssetError
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.settings import config
from geodes_tasks.stac import readers
from geodes_tasks.stac.assets import assets, layout_fields
from geodes_tasks.stac.catalog import Catalog
from tests.portal_items import FILES, as_eodag_3, real_items

MAJA = "SENTINEL2B_20200106-105907-758_L2A_T31TCH_C"
ENDPOINT = f"https://s3.datalake.cnes.fr/muscate/31/{MAJA}_V4-0.zip"
LINK = "https://geodes-portal.cnes.fr/api/download/URN:X:V1/files/" + "a" * 32


def from_eodag(identifier: str, endpoint: str, found: dict[str, Any]) -> dict[str, Any]:
    """Build an item as eodag 4 writes it."""
    properties = {
        "title": identifier,
        "uid": "URN:X:V1",
        "eodag:download_link": LINK,
        "geodes:endpoint_url": endpoint,
    }
    return {"type": "Feature", "id": identifier, "properties": properties, "assets": found}


def titles(item: dict[str, Any]) -> list[str]:
    """Return the file names that are planned for an item."""
    (found,) = readers.items_of(item)
    assert not isinstance(found, Exception)
    return [asset.title for asset in assets(found)]


needs_items = pytest.mark.skipif(not FILES, reason="the folder of real items is not at hand")


@needs_items
def test_every_real_item_is_planned_as_the_portal_has_it() -> None:
    """All 96 items: one archive, named as in the datalake, with size, MD5 and both sources."""
    planned = 0
    for path in FILES:
        for item in readers.read(str(path)):
            assert not isinstance(item, Exception)
            (asset,) = assets(item)
            fields = layout_fields(item, asset)
            assert asset.title == fields["name"] == asset.hrefs[S3].rpartition("/")[2]
            assert asset.size_bytes is not None
            assert asset.size_bytes > 1_000_000
            assert asset.checksum is not None
            assert asset.checksum.digest == asset.hrefs[GEODES].rpartition("/")[2][:32].lower()
            assert fields["year"] >= "2014"
            assert asset.collection == path.stem
            # {item} is the product's name, also for items of 2024, which have no identifier.
            assert asset.title.startswith(fields["item"])
            planned += 1
    assert planned == 96


@needs_items
def test_every_real_item_is_an_item_in_python() -> None:
    """Items of 2024 too: the fields of a search table, the archive, its size and its proof."""
    for json in real_items():
        item, (asset,) = Item.from_dict(json), assets(json)

        assert (item.data.title, item.filesize) == (asset.title, asset.size_bytes)
        assert asset.title.startswith(item.find("identifier"))
        assert item.s3_path == asset.hrefs[S3]
        assert asset.checksum is not None
        assert item.data_asset_checksum == asset.checksum.digest
        assert item.quicklook_asset is not None
        for name in ("start_datetime", "platform", "eo:cloud_cover", "product:type"):
            assert item.find(name) is not None


@needs_items
def test_every_real_item_of_eodag_3_is_the_same_file() -> None:
    """Whether the portal or eodag 3 wrote the item: one download, by name, proof and address."""
    seen = 0
    for item in real_items():
        if "identifier" not in item["properties"]:
            continue  # eodag drops items of before March 2025
        (found,) = readers.items_of(as_eodag_3(item))
        assert not isinstance(found, Exception)
        assert assets(found) == assets(item)
        (restored,), (own,) = assets(found), assets(item)
        for field in ("item", "grid:code", "year", "day", "eo:cloud_cover", "platform"):
            assert layout_fields(found, restored).get(field) == layout_fields(item, own).get(field)
        seen += 1
    assert seen > 50


def test_an_archive_that_eodag_titles_by_its_version_keeps_the_name_in_the_datalake() -> None:
    """THEIA: the identifier has no version and eodag's title is only ``V4-0.zip``."""
    found = {"V4-0.zip": {"href": LINK, "title": "V4-0.zip", "roles": ["data"]}}

    assert titles(from_eodag(MAJA, ENDPOINT, found)) == [f"{MAJA}_V4-0.zip"]


def test_an_overview_with_the_role_data_is_no_data() -> None:
    """The portal's datatype decides: an OSO overview is not downloaded as a file ``ALL``."""
    overview = {"href": LINK[:-1] + "b", "title": "ALL", "roles": ["data"]}
    found = {
        "zip": {"href": LINK, "title": "V4-0.zip", "roles": ["data"]},
        "ALL": {**overview, "geodes:datatype": "QUICKLOOK_HD"},
    }

    assert titles(from_eodag(MAJA, ENDPOINT, found)) == [f"{MAJA}_V4-0.zip"]


@pytest.mark.parametrize(
    ("endpoint", "known", "expected"),
    [
        ("", "V4-0.zip", f"{MAJA}_V4-0.zip"),
        ("https://[", "V4-0.zip", f"{MAJA}_V4-0.zip"),
        ("", "zip", f"{MAJA}.zip"),
        ("s3://lai/LAI_1.h5.gz", "h5.gz", "LAI_1.h5.gz"),
        ("s3://spot/folder/", "zip", f"{MAJA}.zip"),
    ],
)
def test_a_name_that_eodag_cut(endpoint: str, known: str, expected: str) -> None:
    """The datalake's name where its end is known, else identifier and end, as the portal joins."""
    found = {known: {"href": LINK, "title": known, "roles": ["auxiliary"]}}

    assert titles(from_eodag(MAJA, endpoint, found)) == [expected]


def test_an_item_of_eodag_without_assets_has_its_link() -> None:
    """A serialised product that kept only its link is the archive at that link."""
    assert titles(from_eodag(MAJA, ENDPOINT, {})) == [f"{MAJA}_V4-0.zip"]


def test_items_of_other_providers_of_eodag_stay_as_they_are() -> None:
    """What eodag found elsewhere is no item of GEODES: nothing of it is renamed."""
    item = from_eodag(MAJA, ENDPOINT, {"B04.tif": {"href": "https://h/B04.tif", "roles": ["data"]}})
    item["properties"]["eodag:provider"] = "earth_search"

    assert list(readers.items_of(item)) == [item]
    with pytest.raises(NoDataAssetError, match="with earth_search: download it with eodag"):
        assets(item | {"assets": {}})


def test_an_upper_case_md5_is_the_same_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer on availability that writes the MD5 in upper case is found by the lower case."""
    files = [{"checksum": "AB" * 16, "available": True}, {"available": True}]
    monkeypatch.setattr(Catalog, "_answer", lambda *_: {"products": [{"files": files}]})

    assert Catalog(config.load()).availability([(LINK, ENDPOINT)]) == {"ab" * 16: True}


# --- the second provider of eodag for GEODES -----------------------------------------------------

DESCRIBED = f"File size: 15328 bytes\n\nDatatype: RAWDATA\n\nChecksum MD5: {'a' * 32}"


@pytest.mark.parametrize("endpoint", ["eodag:download_link", "accessService:endpointURL"])
def test_an_item_of_geodes_s3_is_the_portals_archive(endpoint: str) -> None:
    """Its link is the address in the datalake; what it lists of the archive is no file here."""
    properties = {
        "title": MAJA,
        "uid": "URN:X:V1",
        "eodag:provider": "geodes_s3",
        "geodes_s3:dataset": "MUSCATE",
        endpoint: ENDPOINT,
    }
    found = {
        "B01": {"href": f"zip+s3://muscate/{MAJA}.zip!B01.tif", "roles": ["data"]},
        "xml": {"href": f"s3://muscate/{MAJA}.xml", "roles": ["data"]},
        "zip": {"href": LINK, "title": "zip", "roles": ["auxiliary"], "description": DESCRIBED},
    }
    item = {"type": "Feature", "id": MAJA, "properties": properties, "assets": found}

    (back,) = readers.items_of(item)

    assert not isinstance(back, Exception)
    (asset,) = assets(back)
    assert (asset.title, asset.size_bytes) == (f"{MAJA}_V4-0.zip", 15328)
    assert asset.hrefs == {GEODES: LINK, S3: ENDPOINT}
    assert (back["id"], back["collection"]) == ("URN:X:V1", "MUSCATE")
    assert list(readers.items_of(back)) == [back]
