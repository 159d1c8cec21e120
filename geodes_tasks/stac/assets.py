"""STAC item JSON as GEODES really writes it, to Assets; each quirk is one small function.

Whatever the JSON holds, what leaves here is a list of Assets or an ItemError.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote, urlsplit

from geodes_tasks.errors import ItemError, NoDataAssetError
from geodes_tasks.model.asset import GEODES, PREVIEW_ROUTE, S3, Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.json import OBJECT
from geodes_tasks.stac.asset_proof import HREF_TAIL, checksum_of, datatype_of, size_of
from geodes_tasks.stac.item_properties import (
    collection_of,
    identifier_of,
    item_fields,
    mapping_of,
    property_of,
    text_of,
)

StacAsset = Mapping[str, Any]

logger = logging.getLogger(__name__)

NO_NAME = "item without id"
"""Name in messages of an item that has neither identifier nor id."""

# As the portal's own are: nothing in it that would have to be taken apart.
_PLAIN_HREF = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/[A-Za-z0-9:/._~-]*\Z")
# REGARDS gives DOCUMENT the role metadata, THUMBNAIL thumbnail and QUICKLOOK_* overview; other
# catalogues and eodag have written the role data on 250 MB overviews of those kinds.
_NO_DATATYPE = ("QUICKLOOK", "THUMBNAIL", "DOCUMENT", "DESCRIPTION")
_NO_DATA_NAME = re.compile(
    r"quicklook|thumbnail|\.(xml|jpe?g|png|gif|webp|json|txt|html?|pdf|md5)\Z", re.IGNORECASE
)
_NO_DATA_TYPE = re.compile(r"text/|image/(?!tiff|jp2|vnd|x-)|application/(.*json|.*xml|pdf)")
_XML_TYPE = re.compile(r"(?<![^/+;\s])xml(?![^/+;\s])")
_ZIP_TYPE = re.compile(r"application/(x-)?zip\b", re.IGNORECASE)
# A letter is wanted, for "Band 4.5" has no suffix.
_SUFFIX = re.compile(r"\.(?=\w*[A-Za-z])[A-Za-z0-9_]{1,10}\Z", re.ASCII)
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def assets(
    item: Mapping[str, Any],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_refusal: Callable[[str, ItemError], None] | None = None,
) -> list[Asset]:
    """Return the assets to download of an item: by default every data asset that is not XML.

    Args:
        item: A STAC Item as JSON.
        include: Globs over asset keys, case-sensitive, matched against the whole key or its
            last path segment. When given they replace the default choice.
        exclude: Globs of the same kind, taken away afterwards.
        on_refusal: Called with key and error of each asset that cannot be downloaded, so that the
            others are; without it the first such asset is an error.

    Raises:
        NoDataAssetError: the selection keeps nothing.
        ItemError: the JSON is no item, or a chosen asset has an href that cannot be opened.
    """
    if not isinstance(item, OBJECT):
        raise ItemError(NO_NAME, f"is {json_kind(item)}, not a STAC item")
    found = _assets_of(item)
    default = [key for key, asset in found.items() if _is_default(key, asset)]
    chosen = _selected(found, default, _globs(include), _globs(exclude))
    if not chosen:
        problem = _nothing_chosen(found, include, exclude)
        if not found and (provider := text_of(property_of(item, "eodag:provider"))):
            problem += f"; eodag found it with {printable(provider)}: download it with eodag"
        raise NoDataAssetError(item_name(item), problem)
    endpoint = _endpoint(item)
    owner = _endpoint_owner(endpoint, found, default) if endpoint else None
    kept = []
    for key in chosen:
        try:
            kept.append(_asset(item, key, found[key], endpoint if key == owner else None))
        except ItemError as error:
            if on_refusal is None:
                raise
            on_refusal(key, error)
    return kept


def _assets_of(item: Mapping[str, Any]) -> dict[str, StacAsset]:
    """Return the assets of an item by key, without what is no object."""
    given = mapping_of(item.get("assets")).items()
    return {str(key): one for key, one in given if isinstance(one, OBJECT)}


def item_name(item: object) -> str:
    """Return the name of an item for messages, in one printable line: identifier, else id."""
    if not isinstance(item, OBJECT):
        return NO_NAME
    return printable(identifier_of(item) or NO_NAME)


def json_kind(value: object) -> str:
    """Return the kind of a JSON value, with its article, for messages."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    kinds |= {int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _globs(patterns: Sequence[str]) -> Sequence[str]:
    """Return one glob that is a plain string as a list of one, not as its letters."""
    return (patterns,) if isinstance(patterns, str) else patterns


def _selected(
    found: Iterable[str], default: Iterable[str], include: Sequence[str], exclude: Sequence[str]
) -> list[str]:
    def matches(key: str, globs: Sequence[str]) -> bool:
        names = (key, _last_segment(key))
        return any(fnmatchcase(name, glob) for glob in globs for name in names)

    kept = [key for key in found if matches(key, include)] if include else list(default)
    return [key for key in kept if not matches(key, exclude)] if exclude else kept


def _is_default(key: str, asset: StacAsset) -> bool:
    """Return whether an asset is downloaded by default: data, but not its XML description."""
    roles = asset.get("roles")
    roles = [roles] if isinstance(roles, str) else roles if isinstance(roles, list) else []
    if roles and not any(isinstance(r, str) and r.lower() == "data" for r in roles):
        return False
    title, kind = _title(key, asset), text_of(asset.get("type")).lower()
    if key.lower().endswith(".xml") or title.lower().endswith(".xml"):
        return False
    if "xml" in kind and _XML_TYPE.search(kind):
        return False
    if datatype_of(asset).startswith(_NO_DATATYPE):
        return False
    # Without roles, type, href and name decide.
    return bool(roles) or not (
        PREVIEW_ROUTE in text_of(asset.get("href"))
        or _NO_DATA_TYPE.match(kind)
        or any(_NO_DATA_NAME.search(name) for name in (key, title))
    )


def _nothing_chosen(
    found: Mapping[str, StacAsset], include: Sequence[str], exclude: Sequence[str]
) -> str:
    """Return one line that explains why no asset is left."""
    if not found:
        return "has no assets"
    keys = ", ".join(printable(key, 60) for key in list(found)[:4])
    keys += f" and {len(found) - 4} more" if len(found) > 4 else ""
    if include or exclude:
        return f"no asset is left by the include and exclude globs; its asset keys: {keys}"
    return f"none of its assets is data (XML apart); its asset keys: {keys}"


def _asset(item: Mapping[str, Any], key: str, asset: StacAsset, endpoint: str | None) -> Asset:
    item_id, collection = text_of(item.get("id")) or identifier_of(item), collection_of(item)
    try:
        source, href = _address(asset.get("href"))
        title, _ = _file_names(key, asset, href)
        # JSON can write half characters (\ud800) that no file and no ledger can hold.
        "".join((item_id, collection, key, title)).encode()
    except ValueError as error:
        no_text = "or its item is named in characters that are not Unicode text"
        problem = no_text if isinstance(error, UnicodeEncodeError) else error
        raise ItemError(item_name(item), f"asset {printable(key)!r} {problem}") from error
    checksum = checksum_of(asset, href, lambda: f"{item_name(item)}: asset {printable(key)!r}")
    return Asset(
        item_id=item_id,
        collection=collection,
        key=key,
        title=title,
        # The asset's own href wins over the endpoint, which names the archive only.
        hrefs={S3: endpoint} | {source: href} if endpoint else {source: href},
        size_bytes=size_of(asset, checksum),
        checksum=checksum,
    )


def layout_fields(item: Mapping[str, Any], asset: Asset) -> dict[str, str]:
    """Return the fields of an item and of one of its assets for ``--layout``."""
    own = _assets_of(item)[asset.key]
    _, name = _file_names(asset.key, own, _address(own["href"])[1])
    return item_fields(item) | {
        "title": asset.title,
        "name": name,
        "key": asset.key,
        "checksum": asset.checksum.digest if asset.checksum else "",
    }


def _file_names(key: str, asset: StacAsset, href: str) -> tuple[str, str]:
    """Return the file name of an asset, and the last part of its href for ``{name}``.

    Titles of other catalogues are labels ("Blue Band"): only the end of the href is a file name
    there, or ``file:local_path``. In GEODES the title is the file name, the href ends in the MD5.
    """
    title = _title(key, asset)
    end = _last_part(href)
    if not _SUFFIX.search(end):
        # Hrefs of the Copernicus Data Space end in `$value`, those of Theia in `download/`.
        end = _last_segment(text_of(asset.get("file:local_path")))
    if not _SUFFIX.search(end):
        is_zip = _ZIP_TYPE.match(text_of(asset.get("type"))) and not HREF_TAIL.match(href)
        title += ".zip" if is_zip and not _SUFFIX.search(title) else ""
        return title, _last_segment(title)
    return (title if _SUFFIX.search(title) else end), end


def _title(key: str, asset: StacAsset) -> str:
    title = text_of(asset.get("title"))
    return title if title.strip() else _last_segment(key)


def _last_segment(path: str) -> str:
    return path.rpartition("/")[2]


def _last_part(href: str) -> str:
    """Return the file name at the end of an address; empty where it names a folder."""
    # A plain href has nothing to decode: urlsplit would take a third of the time of an item.
    if _PLAIN_HREF.match(href):
        return _last_segment(href)
    path = urlsplit(href).path
    try:
        return _last_segment(unquote(path, errors="strict"))
    except UnicodeDecodeError:
        # Older servers escape ISO-8859-1, of which every byte is a letter.
        return _last_segment(unquote(path, "iso-8859-1"))


def _address(href: object) -> tuple[str, str]:
    """Return the source that opens an href, and the href itself.

    Raises:
        ValueError: no transport opens it; the text completes "asset X ...".
    """
    if not isinstance(href, str) or not href.strip():
        raise ValueError("has no href")
    text = href.strip()
    if _PLAIN_HREF.match(text):
        return GEODES, text
    if _UNSENDABLE.search(text):
        raise ValueError(f"has control characters in its href {printable(text)!r}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"has a broken href {printable(text)!r}: {error}") from error
    source = {"s3": S3, "http": GEODES, "https": GEODES}.get(parts.scheme)
    if source is None:
        raise ValueError(f"has the href {printable(text)!r}, which is neither https nor s3")
    if not host or (source == S3 and not parts.path.strip("/")):
        raise ValueError(f"has an incomplete href {printable(text)!r}")
    if "@" in parts.netloc:
        # Not quoted: it would put the password into logs and the ledger.
        raise ValueError("has a user name or password in its href")
    return source, text


def _endpoint(item: Mapping[str, Any]) -> str | None:
    """Return the item's address in the datalake, by old or new name; None when it is unusable."""
    value = property_of(item, "endpoint_url")
    if value is None:
        return None
    try:
        _, endpoint = _address(value)
    except ValueError as error:
        logger.info("%s: endpoint_url is not used: it %s", item_name(item), error)
        return None
    return endpoint if urlsplit(endpoint).path.strip("/") else None


def _endpoint_owner(
    endpoint: str, found: Mapping[str, StacAsset], default: list[str]
) -> str | None:
    """Return the key of the one asset that ``endpoint_url`` means; None where that is unclear.

    It is the asset of the same file name, else the only one that is data and not XML (the file
    name in the datalake can differ from the title). Any other would get foreign bytes.
    """
    name = _last_part(endpoint.rstrip("/"))
    named = [k for k, a in found.items() if name in {_last_segment(k), _last_segment(_title(k, a))}]
    for candidates in (named, default):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return None
    return None
