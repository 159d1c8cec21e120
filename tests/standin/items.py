"""Items in the shape of the portal's own, with a switch for each way real ones differ."""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from dataclasses import replace
from typing import Any

from tests.standin.assets import asset
from tests.standin.bodies import Body, BytesBody, GeneratedBody, KiB
from tests.standin.spec import Item, ItemSpec, ServedFile

EXTENSIONS = ["https://stac-extensions.github.io/product/v0.1.0/schema.json"]
DATALAKE = "https://s3.datalake.cnes.fr"
BUCKETS = {
    "PEPS_S1_L1": "sentinel1-grd",
    "PEPS_S2_L1C": "sentinel2-l1c",
    "THEIA_REFLECTANCE_SENTINEL2_L2A": "sentinel2-l2a-sprid",
}
OLD_NAMES = {
    "platform": "spaceborne:satellitePlatform",
    "instrument": "spaceborne:satelliteSensor",
    "product:type": "spaceborne:productType",
    "sat:orbit_state": "spaceborne:orbitDirection",
    "sat:relative_orbit": "spaceborne:orbitID",
    "version": "versionInfo",
    "endpoint_url": "accessService:endpointURL",
    "eo:cloud_cover": "spaceborne:cloudCover",
    "start_datetime": "temporal:startDate",
    "end_datetime": "temporal:endDate",
    "dataset": "dataType",
    "grid:code": "spaceborne:tile",
}


def zip_archive(members: dict[str, bytes]) -> bytes:
    """Return a stored zip archive, byte for byte the same on every run."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue()


def make_identifier(spec: ItemSpec, number: int) -> str:
    """Return a product name in the style of the collection."""
    if "S1" in spec.collection:
        return f"S1C_IW_GRDH_1SDV_20251217T230248_20251217T230317_{number:06d}_00AF3C_C5D6"
    if "L2A" in spec.collection:
        return f"SENTINEL2B_20200106-105907-{number:03d}_L2A_{spec.tile}_C"
    return f"S2A_MSIL1C_20250402T175741_N0511_R141_{spec.tile}_20250403T{number:06d}"


def build(spec: ItemSpec, url: str, number: int) -> tuple[Item, list[ServedFile]]:
    """Return an item and the files its hrefs lead to.

    Args:
        spec: What it is to look like.
        url: The stand-in's address, without a slash at the end.
        number: Which item of its catalogue this is; names are made from it.
    """
    identifier = spec.identifier or make_identifier(spec, number)
    if spec.identifier is None and "THEIA" in spec.collection:
        spec = replace(spec, version=spec.version or "4.0", documents=True)
    urn = spec.urn or f"URN:FEATURE:DATA:gdh:{uuid.uuid5(uuid.NAMESPACE_URL, identifier)}:V1"
    files = _files(spec, urn, identifier)
    return {
        "type": "Feature",
        "stac_version": "1.0.0-beta.2",
        "stac_extensions": EXTENSIONS,
        "id": urn,
        "collection": spec.collection,
        "bbox": list(spec.bbox),
        "geometry": _polygon(spec),
        "centroid": {"lon": sum(spec.bbox[::2]) / 2, "lat": sum(spec.bbox[1::2]) / 2},
        "properties": _properties(spec, identifier),
        "links": _links(spec, url, urn),
        "assets": {file.title: asset(spec, file, url) for file in files},
    }, files


def _files(spec: ItemSpec, urn: str, identifier: str) -> list[ServedFile]:
    """Return an item's files in the order of its assets."""
    files = []
    if spec.quicklook:
        files.append(_quicklook(urn, identifier))
    if spec.data:
        body = _archive(spec, identifier)
        tail = spec.href_tail or spec.catalogue_md5 or body.md5
        tail = tail.upper() if spec.upper_md5 else tail
        title = f"{product_name(spec, identifier)}.zip" if spec.title is None else spec.title
        files.append(
            ServedFile(urn, identifier, tail, body, title, spec.content_type, archive=True)
        )
    if spec.second:
        body = GeneratedBody(f"{identifier}/second", max(1, spec.size // 2))
        title, kind = f"{identifier}{spec.second}", "application/octet-stream"
        files.append(ServedFile(urn, identifier, body.md5, body, title, kind))
    if spec.documents:
        files += _documents(urn, product_name(spec, identifier))
    if spec.xml:
        files.insert(0 if spec.xml == "first" else len(files), _metadata(urn, identifier))
    return files


def _quicklook(urn: str, identifier: str) -> ServedFile:
    """Return an item's preview, whose title has folders in it as real ones do."""
    body = GeneratedBody(f"{identifier}/quicklook", 18 * KiB)
    title = f"2025/04/02/S2A/{identifier}_quicklook.jpg"
    return ServedFile(
        urn, identifier, body.md5, body, title, "image/jpeg",
        route="quicklook", datatype="QUICKLOOK_SD",
    )  # fmt: skip


def product_name(spec: ItemSpec, identifier: str) -> str:
    """Return the archive's name without suffix: of THEIA products with the version."""
    return f"{identifier}_V{spec.version.replace('.', '-')}" if spec.version else identifier


def _documents(urn: str, name: str) -> list[ServedFile]:
    """Return what THEIA items have beside the archive: none of it is data."""
    found = []
    for ending, size, kind, datatype, route in (
        ("_MTD_ALL.xml", 2 * KiB, "application/xml", "DOCUMENT", "download"),
        ("_QKL_ALL.png", 6 * KiB, "image/png", "QUICKLOOK_SD", "quicklook"),
        ("_THB_ALL.png", KiB, "image/png", "THUMBNAIL", "quicklook"),
        ("_CLASSIFICATION_PYR_ALL.tif", 90 * KiB, "image/tiff", "QUICKLOOK_HD", "quicklook"),
    ):
        body = GeneratedBody(f"{name}{ending}", size)
        title = f"{name}{ending}"
        found.append(
            ServedFile(urn, name, body.md5, body, title, kind, route=route, datatype=datatype)
        )
    return found


def _metadata(urn: str, identifier: str) -> ServedFile:
    """Return an item's metadata file."""
    body = BytesBody(f"<product><name>{identifier}</name></product>\n".encode())
    return ServedFile(urn, identifier, body.md5, body, f"{identifier}.xml", "application/xml")


def _archive(spec: ItemSpec, identifier: str) -> Body:
    """Return the bytes of an item's archive."""
    if spec.members is not None:
        return BytesBody(zip_archive(spec.members))
    if isinstance(spec.body, bytes):
        return BytesBody(spec.body)
    return spec.body or GeneratedBody(spec.seed or identifier, spec.size)


def _polygon(spec: ItemSpec) -> dict[str, Any]:
    """Return the rectangle of the bounding box as a polygon."""
    west, south, east, north = spec.bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    coordinates: list[Any] = [ring]
    return {
        "type": "Polygon",
        "coordinates": [coordinates] if spec.nested_geometry else coordinates,
    }


def _properties(spec: ItemSpec, identifier: str) -> dict[str, Any]:
    """Return the properties of an item under their new or old names."""
    orbit = int(hashlib.blake2b(identifier.encode(), digest_size=2).hexdigest(), 16)
    values: dict[str, Any] = {
        "identifier": identifier,
        "dataset": spec.collection,
        "processing:version": "05.11",
        "product:timeliness": "Nominal",
        "grid:code": spec.tile,
        "eo:cloud_cover": spec.cloud_cover,
        "start_datetime": spec.start_datetime,
        "end_datetime": spec.start_datetime,
        "datetime": spec.datetime,
        "sat:orbit_state": "Descending",
        "sat:relative_orbit": 141,
        "sat:absolute_orbit": orbit,
        "area": 11989.5004,
        "latest": True,
        "version": spec.version or "00.00",
        "continent_code": ["EU"],
        "keywords": ["location:northern", "season:spring"],
        "sci:doi": "[]",
        "proj:bbox": ",".join(str(edge) for edge in spec.bbox),
        "endpoint_description": "Link to product in datalake",
        "endpoint_url": endpoint_url(spec, identifier),
        "political": {"continents": ["Europe"]},
    }
    values |= _mission(spec.collection, identifier) | spec.properties
    present = {name: value for name, value in values.items() if value is not None}
    if spec.old_names:
        return {OLD_NAMES.get(name, name): value for name, value in present.items()}
    return present


def _mission(collection: str, identifier: str) -> dict[str, Any]:
    """Return the properties that depend on what took the picture; radar has odd ones."""
    if "S1" in collection:
        return {
            "platform": identifier[:3],
            "instrument": "SAR",
            "product:type": "GRD",
            "processing:level": "L1",
            "product:timeliness": "Fast24h",
            "swath": "IW",
            "sar:polarizations": "VV VH",
            "sar:instrument_mode": "IW",
            "proj:bbox": "",
        }
    level = collection.rsplit("_", 1)[-1]
    kind = "S2MSI1C" if level == "L1C" else f"REFLECTANCE_{level}"
    return {
        "platform": "S2A" if level == "L1C" else "SENTINEL2B",
        "instrument": "MSI",
        "product:type": kind,
        "processing:level": level,
        "sar:instrument_mode": "INS-NOBS",
    }


def endpoint_url(spec: ItemSpec, identifier: str) -> str | None:
    """Return an item's address in the datalake: an object, a folder, as given, or none."""
    if spec.endpoint_url != "auto":
        return spec.endpoint_url
    bucket = BUCKETS.get(spec.collection, "muscate")
    folder = f"{DATALAKE}/{bucket}/{spec.start_datetime[:10].replace('-', '/')}"
    name = product_name(spec, identifier)
    return f"{folder}/{name}" if spec.prefix else f"{folder}/{name}.zip"


def _links(spec: ItemSpec, url: str, urn: str) -> list[dict[str, str]]:
    """Return the links of an item."""
    stac = f"{url}/api/stac"
    collection = f"{stac}/collections/{spec.collection}"
    plain, geo = "application/json", "application/geo+json"
    return [
        {"rel": "root", "href": stac, "type": plain, "title": "STAC gdh root"},
        {"rel": "collection", "href": collection, "type": plain},
        {"rel": "self", "href": f"{collection}/items/{urn}", "type": geo},
        {
            "rel": "license",
            "href": "https://spdx.org/licenses/Apache-2.0.html",
            "type": "application/html",
        },
    ]
