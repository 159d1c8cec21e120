"""Item JSON as GEODES writes it, and as nobody should, becomes Assets or one clear error."""

from __future__ import annotations

import copy
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.errors import ItemError, NameTakenError, NoDataAssetError
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.transfer import destination

NAME = "S2A_MSIL1C_20250402T175741_N0511_R141_T14ULD_20250403T022035"
URN = "URN:FEATURE:DATA:gdh:25416e3f-1a7f-379a-9b65-a6539b1fd95b:V1"
MD5 = "86f828c4c7e921615d1cd0476604f780"
OTHER = "4532d59ddeff760e690e824734f5eccd"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
"""MD5 of no bytes."""
PORTAL = "https://geodes-portal.cnes.fr"
ENDPOINT = f"https://s3.datalake.cnes.fr/sentinel2-l1c/14/U/LD/2025/04/02/{NAME}.zip"
QUICKLOOK = f"2025/04/02/S2A/{NAME}_quicklook.jpg"


def described(size: object = 764210185, md5: object = MD5, algorithm: str = "MD5") -> str:
    """Write a description as the portal does."""
    return (
        f"File size: {size} bytes\n\nIs reference: false\n\nIs online: false\n\n"
        f"Datatype: RAWDATA\n\nChecksum {algorithm}: {md5}"
    )


def data_asset(title: str = f"{NAME}.zip", md5: str = MD5, **changes: Any) -> dict[str, Any]:
    """Build a data asset; a change to None takes the member away."""
    asset = {
        "title": title,
        "type": "application/zip",
        "roles": ["data"],
        "href": f"{PORTAL}/api/download/{URN}/files/{md5}",
        "description": described(md5=md5),
    } | changes
    return {name: value for name, value in asset.items() if value is not None}


def xml_asset(title: str = f"{NAME}.xml") -> dict[str, Any]:
    """Build the XML description that THEIA items have beside the archive."""
    return data_asset(title, OTHER, type="application/xml")


def item(assets: Any = None, **properties: Any) -> dict[str, Any]:
    """Build the Sentinel-2 item of the portal, shortened."""
    quicklook = data_asset(
        QUICKLOOK,
        "1003ae6b1edf05adf7c46cb759ffeaec",
        type="image/jpeg",
        roles=["overview"],
        href=f"{PORTAL}/api/quicklook/{URN}/files/1003ae6b1edf05adf7c46cb759ffeaec?scope=gdh",
    )
    standard = {QUICKLOOK: quicklook, f"{NAME}.zip": data_asset()}
    return {
        "type": "Feature",
        "stac_version": "1.0.0-beta.2",
        "id": URN,
        "collection": "PEPS_S2_L1C",
        "properties": {
            "identifier": NAME,
            "dataset": "PEPS_S2_L1C",
            "platform": "S2A",
            "grid:code": "T14ULD",
            "eo:cloud_cover": 67.5,
            "latest": True,
            "start_datetime": "2025-04-02T17:57:41.024Z",
            "datetime": "2025-04-03T09:00:26.809Z",
            "keywords": ["season:spring"],
            "endpoint_url": ENDPOINT,
        }
        | properties,
        "assets": standard if assets is None else assets,
    }


def only(**changes: Any) -> Any:
    """Read the one asset of an item whose data asset is changed."""
    (asset,) = stac_assets.assets(item({f"{NAME}.zip": data_asset(**changes)}))
    return asset


def fields_of(thing: dict[str, Any]) -> dict[str, str]:
    """Read the layout fields of the one asset of an item."""
    (asset,) = stac_assets.assets(thing)
    return stac_assets.layout_fields(thing, asset)


def test_real_item() -> None:
    """The portal's own item gives its archive, from both sources, with size and checksum."""
    (asset,) = stac_assets.assets(item())

    assert asset.item_id == URN
    assert asset.collection == "PEPS_S2_L1C"
    assert asset.key == asset.title == f"{NAME}.zip"
    assert asset.size_bytes == 764210185
    assert asset.checksum == Checksum("md5", MD5)
    assert asset.hrefs == {
        "geodes": f"{PORTAL}/api/download/{URN}/files/{MD5}",
        "s3": ENDPOINT,
    }


def test_item_is_left_as_it_was() -> None:
    """Reading an item changes nothing in it."""
    given_item = item()
    before = copy.deepcopy(given_item)

    stac_assets.assets(given_item, include=["*"])

    assert given_item == before


def test_fields_for_the_layout() -> None:
    """A layout can use the STAC names, every scalar property, and the day of acquisition in UTC."""
    fields = fields_of(item(start_datetime="2025-04-03T00:30:00+02:00"))

    expected = {
        "collection": "PEPS_S2_L1C",
        "item": NAME,
        "item_id": URN.replace(":", "_"),
        "title": f"{NAME}.zip",
        "key": f"{NAME}.zip",
        "checksum": MD5,
        "year": "2025",
        "month": "04",
        "day": "02",
        "grid:code": "T14ULD",
        "eo:cloud_cover": "67.5",
        "latest": "true",
    }
    assert expected.items() <= fields.items()
    assert "keywords" not in fields


def test_fields_without_dates() -> None:
    """Where an item is silent the usual fields are there, and empty."""
    fields = fields_of(item(start_datetime="soon"))

    assert fields["year"] == fields["month"] == fields["day"] == ""


def test_datetime_stands_in_for_start_datetime() -> None:
    """Without a start of acquisition the item's datetime gives the day."""
    assert fields_of(item(start_datetime=None))["day"] == "03"


def test_old_property_names() -> None:
    """Names from before March 2025 are read as the new ones, in the layout too."""
    old = item(endpoint_url=None, start_datetime=None, **{"grid:code": None})
    old["properties"] |= {
        "accessService:endpointURL": ENDPOINT,
        "temporal:startDate": "2020-01-06T10:59:07Z",
        "spaceborne:tile": "T31TCH",
    }

    (asset,) = stac_assets.assets(old)

    assert asset.hrefs["s3"] == ENDPOINT
    assert fields_of(old)["year"] == "2020"
    assert fields_of(old)["grid:code"] == "T31TCH"


@pytest.mark.parametrize("last", ["accessService:endpointURL", "geodes:endpoint_url"])
def test_of_two_old_names_the_last_in_the_item_counts(last: str) -> None:
    """Whichever it is, as for the fields of the layout."""
    names = sorted(["accessService:endpointURL", "geodes:endpoint_url"], key=lambda n: n == last)
    old = item(endpoint_url=None)
    old["properties"] |= dict.fromkeys(names[:1], "s3://other/key.zip") | {last: ENDPOINT}

    (asset,) = stac_assets.assets(old)

    assert asset.hrefs["s3"] == ENDPOINT


# --- size and checksum -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"file:size": 5}, 5),
        ({"file:size": 5.0}, 5),
        ({"file:size": 0}, None),
        ({"description": described(size=0)}, None),
        ({"description": described(size=0, md5=EMPTY), "href": f"{PORTAL}/f/files/{EMPTY}"}, 0),
        ({"description": described().replace("764210185 bytes", "1.2 GB")}, None),
        ({"description": described(size="50,000")}, None),
        ({"description": described().replace(" bytes", "")}, 764210185),
        ({"file:size": -1}, 764210185),
        ({"file:size": True}, 764210185),
        ({"file:size": float("inf")}, 764210185),
        ({"file:size": 10**400}, 764210185),
        ({"file:size": None, "description": described().upper()}, 764210185),
        ({"description": described().replace("\n", "\r\n")}, 764210185),
        ({"description": described(size="null")}, None),
        ({"description": None}, None),
        ({"description": ["File size: 3 bytes"]}, None),
    ],
)
def test_size(changes: dict[str, Any], expected: int | None) -> None:
    """``file:size`` counts first, then the description; 0 beside a digest of bytes is unknown."""
    assert only(**changes).size_bytes == expected


SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"file:checksum": "d50110" + MD5}, f"md5:{MD5}"),
        ({"file:checksum": "1220" + SHA256}, f"sha256:{SHA256}"),
        ({"file:checksum": MD5.upper()}, f"md5:{MD5}"),
        ({"checksum:multihash": "1220" + SHA256}, f"sha256:{SHA256}"),
        ({"file:checksum": SHA256}, f"sha256:{SHA256}"),
        ({"file:checksum": "null"}, f"md5:{MD5}"),
        ({"file:checksum": 7}, f"md5:{MD5}"),
        ({"description": described(md5=MD5.upper())}, f"md5:{MD5}"),
        ({"description": described().lower()}, f"md5:{MD5}"),
        ({"description": described().replace("\n", "\r\n")}, f"md5:{MD5}"),
        ({"description": described(md5=SHA256, algorithm="SHA-256")}, f"sha256:{SHA256}"),
        ({"description": described(md5="null")}, f"md5:{MD5}"),
        ({"description": described(md5="null", algorithm="null")}, f"md5:{MD5}"),
        ({"description": described(md5="abcd")}, f"md5:{MD5}"),
        ({"description": described(md5="abcd", algorithm="CRC32")}, f"md5:{MD5}"),
        ({"description": None}, f"md5:{MD5}"),
        ({"description": None, "href": f"{PORTAL}/f/files/{MD5.upper()}?scope=gdh"}, f"md5:{MD5}"),
    ],
)
def test_checksum(changes: dict[str, Any], expected: str) -> None:
    """Every form is read: multihash, bare, description, and last the tail of the href."""
    assert str(only(**changes).checksum) == expected


@pytest.mark.parametrize(
    "href",
    [
        f"{PORTAL}/api/download/{URN}/files/none",
        f"https://elsewhere.example/objects/{MD5}",
        f"s3://bucket/files/{MD5}",
    ],
)
def test_no_checksum(href: str) -> None:
    """32 hex digits that are not the tail of a GEODES download are no checksum."""
    assert only(description=None, href=href).checksum is None


def test_description_wins_over_the_href_tail(caplog: pytest.LogCaptureFixture) -> None:
    """When the two MD5s disagree the description counts, and a warning names both."""
    with caplog.at_level(logging.WARNING):
        asset = only(description=described(md5=OTHER))

    assert asset.checksum == Checksum("md5", OTHER)
    assert OTHER in caplog.text
    assert MD5 in caplog.text
    assert NAME in caplog.text


def test_file_checksum_wins_over_the_description(caplog: pytest.LogCaptureFixture) -> None:
    """``file:checksum`` counts before the description, and a disagreement is said."""
    href = "https://portal.example/without/a/digest"
    with caplog.at_level(logging.WARNING):
        asset = only(href=href, **{"file:checksum": "d50110" + OTHER})

    assert asset.checksum == Checksum("md5", OTHER)
    assert MD5 in caplog.text


def test_two_of_three_checksums_outvote_the_third(caplog: pytest.LogCaptureFixture) -> None:
    """Description and address agree: a ``file:checksum`` alone against them does not count."""
    with caplog.at_level(logging.WARNING):
        asset = only(**{"file:checksum": "d50110" + OTHER})

    assert asset.checksum == Checksum("md5", MD5)
    assert caplog.text.count("two checksums") == 1
    assert OTHER in caplog.text


def test_unreadable_file_checksum_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A ``file:checksum`` of no known form gives way to the description, with a warning."""
    with caplog.at_level(logging.WARNING):
        asset = only(**{"file:checksum": "zz\n"})

    assert asset.checksum == Checksum("md5", MD5)
    assert r"'zz\\n' cannot be read" in caplog.text


def test_agreement_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Checksums that agree, or are of different algorithms, warn of nothing."""
    with caplog.at_level(logging.WARNING):
        only(**{"file:checksum": "1220" + SHA256})
        stac_assets.assets(item())

    assert caplog.text == ""


# --- which assets ------------------------------------------------------------------------------


def chosen(assets: Any, **selection: Any) -> list[str]:
    """Give the keys of the assets that are kept."""
    return [asset.key for asset in stac_assets.assets(item(assets), **selection)]


def test_xml_is_left_out_even_when_first() -> None:
    """The XML description beside an archive is not downloaded unasked."""
    assert chosen({"m.xml": xml_asset("m.xml"), "a.h5.gz": data_asset("a.h5.gz")}) == ["a.h5.gz"]


def test_every_data_asset_is_kept() -> None:
    """An item of several data files gives them all."""
    several = {
        "m.XML": data_asset("m.XML", type=None),
        "a.ZIP": data_asset("a.ZIP"),
        "b.tif": data_asset("b.tif", OTHER),
    }

    assert chosen(several) == ["a.ZIP", "b.tif"]


@pytest.mark.parametrize(
    ("asset", "kept"),
    [
        (data_asset("a.zip", roles=None), True),
        (data_asset("a.zip", roles=[]), True),
        (data_asset("a.tif", roles=None, type="image/tiff; application=geotiff"), True),
        (data_asset("a", roles=None, type=None), True),
        (data_asset("a.zip", roles="data"), True),
        (data_asset("a.zip", roles=["DATA"]), True),
        (data_asset("a.jpg", roles=None, type=None), False),
        (data_asset("a", roles=None, type="image/jpeg"), False),
        (data_asset("a", roles=None, type="application/geo+json"), False),
        (data_asset("a.xml", roles=None, type=None), False),
        (data_asset("a_quicklook.tif", roles=None, type=None), False),
        (data_asset("a", roles=None, type=None, href=f"{PORTAL}/api/quicklook/u/files/1"), False),
        (data_asset("a.zip", roles=["metadata"]), False),
        (data_asset("a.zip", roles=[7]), False),
        (data_asset("a.zip", roles=[10**5000]), False),
        (data_asset("ALL.tif", description="Datatype: QUICKLOOK_HD"), False),
        (data_asset("ALL.tif", **{"geodes:datatype": "quicklook_hd"}), False),
        (data_asset("a.png", description="Datatype: THUMBNAIL", roles=None, type=None), False),
        (data_asset("a.csv", description="Datatype: DOCUMENT"), False),
        (data_asset("a.csv", description="Datatype: OTHER"), True),
    ],
)
def test_what_is_data(asset: dict[str, Any], kept: bool) -> None:
    """The portal's datatype decides, then roles; without either, type, href and name do."""
    assets = {asset["title"]: asset, "certain.zip": data_asset("certain.zip")}

    assert (asset["title"] in chosen(assets)) is kept


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"include": ["*quicklook*"]}, [QUICKLOOK]),
        ({"include": [f"{NAME}_quicklook.jpg"]}, [QUICKLOOK]),
        ({"include": "*.jpg"}, [QUICKLOOK]),
        ({"include": ["2025/04/*"]}, [QUICKLOOK]),
        ({"include": ["*"]}, [QUICKLOOK, "m.xml", f"{NAME}.zip"]),
        ({"include": ["*"], "exclude": ["*.jpg", "*.zip"]}, ["m.xml"]),
        ({"exclude": ["*.JPG"]}, [f"{NAME}.zip"]),
    ],
)
def test_include_and_exclude(selection: dict[str, Any], expected: list[str]) -> None:
    """Globs over keys or their last part, case-sensitive; --include replaces the default."""
    standard = item()["assets"]
    assets = {
        QUICKLOOK: standard[QUICKLOOK],
        "m.xml": xml_asset("m.xml"),
        f"{NAME}.zip": data_asset(),
    }

    assert chosen(assets, **selection) == expected


@pytest.mark.parametrize("assets", [{}, [], "none", {"a": 3}, {"a": None}])
def test_no_assets(assets: Any) -> None:
    """An item without assets is named, and so is the remedy."""
    with pytest.raises(NoDataAssetError, match=f"{NAME}: has no assets") as caught:
        stac_assets.assets(item(assets))

    assert "include=" in caught.value.hint


def test_only_xml() -> None:
    """An item of which only the XML is left is refused with its asset keys."""
    with pytest.raises(NoDataAssetError, match=r"none of its assets is data.*m\.xml"):
        stac_assets.assets(item({"m.xml": xml_asset("m.xml")}))


def test_selection_that_keeps_nothing() -> None:
    """A glob that fits no key says so, and lists a few keys on one line."""
    many = {f"a{n}\n.zip": data_asset() for n in range(9)}

    with pytest.raises(NoDataAssetError, match=r"left by the incl.*a0\\n\.zip.*5 more") as caught:
        stac_assets.assets(item(many), include=["*.tif"])

    assert "\n" not in str(caught.value)


# --- hrefs -------------------------------------------------------------------------------------


def test_title_missing() -> None:
    """Without a title the last part of the key is the file name."""
    untitled = data_asset()
    del untitled["title"]

    found = stac_assets.assets(item({"a/b/c.zip": untitled, "d/e.zip": data_asset(" ")}))

    assert [asset.title for asset in found] == ["c.zip", "e.zip"]


@pytest.mark.parametrize(
    ("title", "href", "expected"),
    [
        ("Blue Band", "https://h/S2A/B02.tif", ("B02.tif", "B02.tif")),
        ("Coastal/Aerosol Band", "https://h/LC09_B1.TIF?sig=a%2Fb", ("LC09_B1.TIF", "LC09_B1.TIF")),
        ("RGBIR COG tile", "s3://b/m_30_60.tif", ("m_30_60.tif", "m_30_60.tif")),
        ("Band 4.5", "https://h/a%20b.h5", ("a b.h5", "a b.h5")),
        ("red.tif", "https://h/B04.tif", ("red.tif", "B04.tif")),
        ("Data", f"{PORTAL}/api/download/{URN}/files/{MD5}", ("Data", "Data")),
        ("2025/a.zip", f"{PORTAL}/api/download/{URN}/files/{MD5}", ("2025/a.zip", "a.zip")),
        ("Data", "https://h/folder.d/", ("Data.zip", "Data.zip")),
        ("S2A_L2A", "https://h/resto2/abc/download/?id=1", ("S2A_L2A.zip", "S2A_L2A.zip")),
        ("Product", "https://h/odata/v1/Products(a-b)/$value", ("Product.zip", "Product.zip")),
        ("a.tar.gz", "https://h/get?file=b.zip", ("a.tar.gz", "a.tar.gz")),
        ("Zone", "https://h/Ari%C3%A8ge.zip", ("Ariège.zip", "Ariège.zip")),
        ("Zone", "https://h/Ari%E8ge.zip", ("Ariège.zip", "Ariège.zip")),
        ("Zone", "https://h/..%2F..%2Fa%20b.zip#part", ("a b.zip", "a b.zip")),
    ],
)
def test_file_names_of_other_catalogues(title: str, href: str, expected: tuple[str, str]) -> None:
    """A label is no file name: the end of the href is, and ``{name}`` of a layout is always."""
    fields = fields_of(item({f"{NAME}.zip": data_asset(title=title, href=href, description=None)}))

    assert (fields["title"], fields["name"]) == expected


def test_a_local_name_that_the_catalogue_gives() -> None:
    """``file:local_path`` (STAC file extension) names the file where the href cannot."""
    href, path = "https://h/odata/v1/Products(a-b)/$value", "products/S2A_MSIL2A.SAFE.zip"

    changes = {"title": "Zipped product", "href": href, "file:local_path": path}
    fields = fields_of(item({f"{NAME}.zip": data_asset(**changes, description=None)}))

    assert fields["title"] == fields["name"] == "S2A_MSIL2A.SAFE.zip"


def test_files_of_one_name_are_kept_apart_as_the_error_says(tmp_path: Path) -> None:
    """Two resolutions of a band in one item: the second layout of the hint gives each a path."""
    hrefs = {f"{size}m/B02": f"https://h/{size}m/B02.jp2" for size in (10, 20)}
    bands = {key: {"href": href, "roles": ["data"]} for key, href in hrefs.items()}
    thing = item(bands)
    found = stac_assets.assets(thing)
    *_, layout = re.findall(r"'([^']+)'", NameTakenError.remedy)

    fields = partial(stac_assets.layout_fields, thing)
    paths = {Path(destination.plan(one, tmp_path, layout, partial(fields, one))) for one in found}

    assert len({Path(destination.plan(one, tmp_path)) for one in found}) == 1
    assert len(paths) == 2
    assert {path.name for path in paths} == {"B02.jp2"}


def test_one_bad_href_takes_no_other_asset() -> None:
    """An asset that cannot be opened is reported by its key; the archive beside it is kept."""
    refused: dict[str, str] = {}
    several = {"mask": data_asset("mask.tif", href="./mask.tif"), f"{NAME}.zip": data_asset()}

    kept = stac_assets.assets(
        item(several), on_refusal=lambda key, error: refused.update({key: str(error)})
    )

    assert [asset.key for asset in kept] == [f"{NAME}.zip"]
    assert "neither https nor s3" in refused.pop("mask")
    assert refused == {}


def test_number_too_long_to_write() -> None:
    """A number that Python refuses to write in digits is no name and no field."""
    fields = fields_of(item(identifier=10**5000, area=10**5000))

    assert fields["item"] == URN
    assert "area" not in fields


def test_s3_href() -> None:
    """An asset that is in the datalake only has only that source."""
    asset = only(href="s3://muscate/a/b.zip")

    assert asset.hrefs == {"s3": "s3://muscate/a/b.zip"}


def test_endpoint_in_s3_form() -> None:
    """``endpoint_url`` may be written as s3://."""
    (asset,) = stac_assets.assets(item(endpoint_url=f"s3://bucket/x/{NAME}.zip"))

    assert asset.hrefs["s3"] == f"s3://bucket/x/{NAME}.zip"


def test_endpoint_is_for_the_asset_it_names() -> None:
    """Of several data assets, only the one of the same file name has the datalake address."""
    several = {"b.tif": data_asset("b.tif", OTHER), "x": data_asset(f"{NAME}.zip")}

    by_key = {asset.key: asset for asset in stac_assets.assets(item(several))}

    assert "s3" not in by_key["b.tif"].hrefs
    assert by_key["x"].hrefs["s3"] == ENDPOINT


def test_endpoint_of_another_name_is_for_the_only_data_asset() -> None:
    """A folder or another file name in the datalake means the archive, not the XML beside it."""
    assets = {"m.xml": xml_asset("m.xml"), "a.zip": data_asset("a.zip")}
    folder = item(assets, endpoint_url="https://s3.datalake.cnes.fr/muscate/SPOT/1991/dir/")

    by_key = {asset.key: asset for asset in stac_assets.assets(folder, include=["*"])}

    assert "s3" in by_key["a.zip"].hrefs
    assert "s3" not in by_key["m.xml"].hrefs


@pytest.mark.parametrize(
    "assets",
    [
        {"a.zip": data_asset("a.zip"), "b.zip": data_asset("b.zip", OTHER)},
        {f"1/{NAME}.zip": data_asset("p"), f"2/{NAME}.zip": data_asset("q", OTHER)},
    ],
)
def test_ambiguous_endpoint_is_not_used(assets: Any) -> None:
    """When nothing tells which asset the datalake address means, none gets it."""
    assert all("s3" not in asset.hrefs for asset in stac_assets.assets(item(assets)))


@pytest.mark.parametrize("endpoint", ["", 7, "ftp://h/b/k", "https://", "s3://bucket", "http://h"])
def test_unusable_endpoint(endpoint: Any) -> None:
    """A datalake address that cannot be one is left out, and the portal still serves the file."""
    (asset,) = stac_assets.assets(item(endpoint_url=endpoint))

    assert set(asset.hrefs) == {"geodes"}


@pytest.mark.parametrize(
    ("href", "problem"),
    [
        (None, "has no href"),
        ("", "has no href"),
        (["https://h/a"], "has no href"),
        ("ftp://h/a.zip", "neither https nor s3"),
        ("file:///etc/passwd", "neither https nor s3"),
        ("./a.zip", "neither https nor s3"),
        ("https:///a.zip", "incomplete href"),
        ("s3://bucket", "incomplete href"),
        ("https://[h/a.zip", "broken href"),
        ("https://h:port/a.zip", "broken href"),
        ("https://h/a\r\nX-API-Key: b", "control characters"),
        ("https://h/\ud800", "control characters"),
    ],
)
def test_href_that_nothing_opens(href: Any, problem: str) -> None:
    """An href that no transport opens is refused, with the asset's key, on one line."""
    with pytest.raises(ItemError, match=f"{NAME}: asset .*{problem}") as caught:
        only(href=href)

    assert "\n" not in str(caught.value)


def test_password_in_href_is_not_repeated() -> None:
    """An href with a password is refused without quoting it."""
    with pytest.raises(ItemError, match="user name or password") as caught:
        only(href="https://me:hunter2@h/a.zip")

    assert "hunter2" not in str(caught.value)


def test_half_characters_are_refused() -> None:
    """Lone surrogates, which no ledger or file system can hold, are refused early."""
    with pytest.raises(ItemError, match="not Unicode text"):
        only(title="a\ud800.zip")


# --- names, and anything at all ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (item(), NAME),
        ({"id": "x"}, "x"),
        ({"id": 7, "properties": None}, "7"),
        ({"id": "a\nb\u202e"}, r"a\nb\u202e"),
        ({"id": "y" * 500}, "y" * 117 + "..."),
        ({}, stac_assets.NO_NAME),
        ([], stac_assets.NO_NAME),
        (None, stac_assets.NO_NAME),
    ],
)
def test_item_name(thing: Any, expected: str) -> None:
    """An item has a short printable name, whatever it is."""
    assert stac_assets.item_name(thing) == expected


@pytest.mark.parametrize("thing", [None, 3, "x", [], [item()]])
def test_not_an_item(thing: Any) -> None:
    """What is no JSON object is refused in words."""
    with pytest.raises(ItemError, match="not a STAC item"):
        stac_assets.assets(thing)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**40)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
HREFS = st.sampled_from([f"{PORTAL}/files/{MD5}", "s3://b/k", "https://[", "\ud800", "//h"])
ASSETS = st.fixed_dictionaries(
    {},
    optional={
        "title": JSON,
        "type": JSON | st.sampled_from(["application/xml", "image/png"]),
        "roles": JSON | st.just(["data"]),
        "href": JSON | HREFS,
        "description": JSON | st.builds(described, SCALARS, SCALARS),
        "file:size": JSON,
        "file:checksum": JSON | st.text("0123456789abcdefABCDEF", max_size=140),
    },
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "collection": JSON,
        "properties": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "identifier": JSON,
                "endpoint_url": JSON | HREFS,
                "accessService:endpointURL": JSON | HREFS,
                "datetime": JSON | st.datetimes().map(str) | st.just("0001-01-01T00:00+14:00"),
            },
        ),
        "assets": JSON | st.dictionaries(st.text(), ASSETS | JSON, max_size=4),
    },
)


@given(ITEMS | JSON, st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2))
def test_any_json_gives_assets_or_an_item_error(
    thing: Any, include: list[str], exclude: list[str]
) -> None:
    """Whatever the JSON holds: Assets with an href each, or an ItemError of one line."""
    try:
        assets = stac_assets.assets(thing, include=include, exclude=exclude)
    except ItemError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
    else:
        assert assets
        for asset in assets:
            assert asset.hrefs
            fields = stac_assets.layout_fields(thing, asset)
            assert all(isinstance(value, str) for value in fields.values())
            assert type(asset).from_dict(asset.to_dict()) == asset
