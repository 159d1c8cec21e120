"""One item of every kind a client must survive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.standin.bodies import GiB, KiB, MiB
from tests.standin.spec import Item

if TYPE_CHECKING:
    from tests.standin.standin import StandIn

SMALL = 64 * KiB

PLAIN: dict[str, dict[str, Any]] = {
    "s2_l1c": {"size": 2 * MiB},
    "theia_l2a": {
        "collection": "THEIA_REFLECTANCE_SENTINEL2_L2A",
        "identifier": "SENTINEL2B_20200106-105907-758_L2A_T31TCH_C",
        "version": "4.0",
        "documents": True,
    },
    "lai_h5": {
        "collection": "THEIA_POSTEL_VEGETATION_LAI",
        "identifier": "LAI_20200106_T31TCJ",
        "title": "LAI_20200106_T31TCJ.h5.gz",
        "content_type": "application/gzip",
        "online": True,
    },
    "real_zip": {"members": {"PRODUCT/FRE_B4.tif": b"tiff" * 1000, "PRODUCT/MTD.xml": b"<x/>"}},
    "xml_first": {"xml": "first", "second": ".h5.gz"},
    "xml_only": {"xml": "first", "data": False},
    "no_data": {"data": False},
    "roles_missing": {"roles": None},
    "title_missing": {"titled": False},
    "description_missing": {"described": False},
    "null_size": {"null_size": True},
    "null_checksum": {"null_checksum": True},
    "upper_md5": {"upper_md5": True},
    "sha256": {"algorithm": "sha256"},
    "file_multihash": {"described": False, "file_size": True, "file_checksum": "multihash"},
    "file_sha256": {"described": False, "file_size": True, "file_checksum": "sha256"},
    "file_bare": {"described": False, "file_size": True, "file_checksum": "bare"},
    "file_disagrees": {"file_size": True, "file_checksum": "d50110" + "0" * 32},
    "catalogue_wrong": {"catalogue_md5": "0123456789abcdef0123456789abcdef"},
    "empty": {"size": 0},
    "nested_geometry": {"nested_geometry": True},
    "no_quicklook": {"quicklook": False},
    "endpoint_missing": {"endpoint_url": None},
    "endpoint_s3": {"endpoint_url": "s3://sentinel2-l1c/14/U/LD/product.zip"},
    "endpoint_prefix": {"collection": "SWH_SPOT5_L1", "prefix": True},
    "old_names": {"old_names": True},
    "href_2024_07": {"href_style": "2024-07", "old_names": True},
    "href_2024_11": {"href_style": "2024-11"},
    "overview_as_data": {"roles": ("data",), "documents": True},
}

TITLES = {
    "title_slashes": "2025/04/02/product.zip",
    "title_parent": "../../escaped.zip",
    "title_absolute": "/tmp/geodes-standin-escaped.zip",  # noqa: S108  # nothing may be there
    "title_dots": "..",
    "title_long": "L" * 300 + ".zip",
    "title_unicode": "Forêt_équatoriale_日本.zip",
    "title_nul": "before\x00after.zip",
    "title_reserved": 'CON<>:"|?*.zip',
    "title_backslash": "..\\..\\escaped.zip",
    "title_newline": "line\r\nbreak.zip",
    "title_empty": "",
}

TWINS: dict[str, dict[str, Any]] = {
    "same_title_a": {"title": "twin.zip"},
    "same_title_b": {"title": "twin.zip"},
    "same_bytes_a": {"seed": "twin"},
    "same_bytes_b": {"seed": "twin"},
}

BIG: dict[str, dict[str, Any]] = {
    "over_2_gib": {
        "collection": "PEPS_S1_L1",
        "seed": "big-grd",
        "size": 2 * GiB + 5 * MiB + 17,
    },
    "over_4_gib": {
        "collection": "PEPS_S1_L1",
        "seed": "big-slc",
        "size": 4 * GiB + 3 * MiB + 29,
    },
}


def variants(standin: StandIn, *, big: bool = True) -> dict[str, Item]:
    """Add one item of every kind to the catalogue, and return them by name of kind.

    Args:
        standin: Whose catalogue to fill; it must be started, for hrefs carry its port.
        big: Whether the two products above 2 and 4 GiB are among them.
    """
    titles = {name: {"title": title} for name, title in TITLES.items()}
    foreign = {"other_host": {"href_base": standin.other_host.url}}
    plain_http = {"plain_http": {"href_base": "http://geodes-portal.cnes.fr"}}
    kinds = PLAIN | titles | TWINS | foreign | plain_http | (BIG if big else {})
    items = {}
    for name, options in kinds.items():
        plain: dict[str, Any] = {"size": SMALL, "identifier": f"VARIANT_{name.upper()}"}
        items[name] = standin.add_item(**plain | options)
    return items
