"""Items as the portal and eodag really write them: names, sizes, checksums and sources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.stac import catalog, readers
from geodes_tasks.stac.assets import assets

REAL = Path(__file__).resolve().parents[4] / "shared" / "real"
FILES = sorted(path for path in REAL.glob("*.json") if re.match(r"PEPS|THEIA", path.name))
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


@pytest.mark.skipif(not FILES, reason="the folder of real items is not at hand")
def test_every_real_item_is_planned_as_the_portal_has_it() -> None:
    """All 96 items: one archive, named as in the datalake, with size, MD5 and both sources."""
    planned = 0
    for path in FILES:
        for item in readers.read(str(path)):
            assert not isinstance(item, Exception)
            (asset,) = assets(item)
            assert asset.title == asset.hrefs[S3].rpartition("/")[2]
            assert asset.size_bytes is not None
            assert asset.size_bytes > 1_000_000
            assert asset.checksum is not None
            assert asset.checksum.digest == asset.hrefs[GEODES].rpartition("/")[2][:32].lower()
            planned += 1
    assert planned == 96


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


def test_an_upper_case_md5_is_the_same_md5() -> None:
    """An answer on availability that writes the MD5 in upper case is found by the lower case."""
    answer = {"products": [{"files": [{"checksum": "AB" * 16, "available": True}]}]}

    assert catalog._online(answer) == {"ab" * 16: True}
