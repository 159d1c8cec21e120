"""Assets in the shape of the portal's own, with size and digest in the description text."""

from __future__ import annotations

from typing import Any

from tests.standin.bodies import digest
from tests.standin.spec import ItemSpec, ServedFile

# Prefixes of multihashes: code and length, in hex.
MULTIHASH = {"md5": "d50110", "sha1": "1114", "sha256": "1220", "sha512": "1340"}
CODES = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}


# What the back end makes of its datatypes (StacRolesDataType of regards-plugins).
ROLES = {
    "RAWDATA": "data", "DOCUMENT": "metadata", "THUMBNAIL": "thumbnail",
    "QUICKLOOK_SD": "overview", "QUICKLOOK_HD": "overview",
}  # fmt: skip
FORMER_HREFS = {
    "2024-07": "/api/v1/rs-catalog/downloads/{}/files/{}?token=REDACTED",
    "2024-11": "/api/v1/rs-catalog/downloads/{}/files/{}?scope=gdh",
}


def asset(spec: ItemSpec, file: ServedFile, url: str) -> dict[str, Any]:
    """Return the asset of one file; the switches of the spec act on the archive alone."""
    href = f"/api/{file.route}/{file.urn}/files/{file.md5}"
    if file.route == "quicklook":
        return _plain_asset(file, f"{url}{href}?scope=gdh")
    if spec.href_style in FORMER_HREFS:
        href = FORMER_HREFS[spec.href_style].format(file.urn, file.md5)
    plain = _plain_asset(file, (spec.href_base or url) + href)
    if not file.archive:
        return plain
    missing = {
        "description": not spec.described,
        "title": not spec.titled,
        "roles": spec.roles is None,
    }
    full = plain | _archive_fields(spec, file)
    return {name: value for name, value in full.items() if not missing.get(name)}


def _plain_asset(file: ServedFile, href: str) -> dict[str, Any]:
    """Return an asset as real ones are."""
    return {
        "title": file.title,
        "type": file.content_type,
        "roles": [ROLES[file.datatype]],
        "href": href,
        "description": _description(str(file.body.size), "MD5", file.md5, kind=file.datatype),
    }


def _description(size: str, algorithm: str, value: str, *, kind: str, online: bool = True) -> str:
    """Return the text in which the portal hides size and checksum."""
    return (
        f"File size: {size} bytes\n\nIs reference: false\n\nIs online: {str(online).lower()}\n\n"
        f"Datatype: {kind}\n\nChecksum {algorithm}: {value}"
    )


def _archive_fields(spec: ItemSpec, file: ServedFile) -> dict[str, Any]:
    """Return the fields of the archive's asset that the spec has a say in."""
    size = file.body.size if spec.catalogue_size is None else spec.catalogue_size
    code, value = CODES[spec.algorithm], _catalogue_digest(spec, file, spec.algorithm)
    if spec.null_checksum:
        code = value = "null"
    fields: dict[str, Any] = {
        "roles": None if spec.roles is None else list(spec.roles),
        "description": _description(
            "null" if spec.null_size else str(size),
            code,
            value.upper() if spec.upper_md5 else value,
            kind="RAWDATA",
            online="THEIA" in spec.collection if spec.online is None else spec.online,
        ),
    }
    if spec.file_size:
        fields["file:size"] = size
    if spec.file_checksum:
        fields["file:checksum"] = _file_checksum(spec, file, spec.file_checksum)
    return fields


def _catalogue_digest(spec: ItemSpec, file: ServedFile, algorithm: str) -> str:
    """Return the digest the catalogue gives, true or not."""
    if algorithm != "md5":
        return digest(file.body, algorithm)
    return spec.catalogue_md5 or file.body.md5


def _file_checksum(spec: ItemSpec, file: ServedFile, form: str) -> str:
    """Return ``file:checksum`` in one of its forms, or as it was given."""
    if form == "bare":
        return _catalogue_digest(spec, file, "md5")
    algorithm = "md5" if form == "multihash" else form
    if algorithm not in MULTIHASH:
        return form
    return MULTIHASH[algorithm] + _catalogue_digest(spec, file, algorithm)
