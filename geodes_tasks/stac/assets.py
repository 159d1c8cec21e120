"""STAC item JSON as GEODES really writes it, to Assets; each quirk is one small function.

Whatever the JSON holds, what leaves here is a list of Assets or an ItemError.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geodes_tasks.errors import ItemError, NoDataAssetError
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.asset import GEODES, S3, Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.json import OBJECT
from geodes_tasks.stac.item_properties import (
    LayoutFields,
    collection_of,
    identifier_of,
    mapping_of,
    property_of,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from geodes_tasks.model.checksum import Checksum

    StacAsset = Mapping[str, Any]

logger = logging.getLogger(__name__)

NO_NAME = "item without id"
"""How an item is called in messages when it says neither identifier nor id."""

# Blanks within a line only: over lines, a description of empty lines would take for ever.
_SIZE_LINE = re.compile(
    r"^[ \t]*file size[ \t]*:[ \t]*([0-9]{1,18})\b", re.IGNORECASE | re.MULTILINE
)
_CHECKSUM_LINE = re.compile(
    r"^[ \t]*(?i:checksum)[ \t]+([\w-]+)[ \t]*:[ \t]*([0-9A-Fa-f]+)[ \t\r]*$", re.MULTILINE
)
# As the portal's own are: nothing in it that would have to be taken apart.
_PLAIN_HREF = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/[A-Za-z0-9:/._~-]*\Z")
# Both cases are written out where the text is long: Python folds them letter by letter.
_HREF_TAIL = re.compile(r"(?i:https?)://[^/?#][^?#]*/(?i:files)/([0-9A-Fa-f]{32})/?(?:[?#]|\Z)")
_NO_DATA_NAME = re.compile(
    r"quicklook|thumbnail|\.(xml|jpe?g|png|gif|webp|json|txt|html?|pdf|md5)\Z", re.IGNORECASE
)
_NO_DATA_TYPE = re.compile(r"text/|image/(?!tiff|jp2|vnd|x-)|application/(.*json|.*xml|pdf)")
_XML_TYPE = re.compile(r"(?<![^/+;\s])xml(?![^/+;\s])")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def assets(
    item: Mapping[str, Any], *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[Asset]:
    """Return the assets to download of an item: by default every data asset that is not XML.

    Args:
        item: A STAC Item as JSON.
        include: Globs over asset keys, case-sensitive, matched against the whole key or its
            last path segment. When given they replace the default choice.
        exclude: Globs of the same kind, taken away afterwards.

    Raises:
        NoDataAssetError: the selection keeps nothing.
        ItemError: the JSON is no item, or a chosen asset has an href that cannot be opened.
    """
    if not isinstance(item, OBJECT):
        raise ItemError(NO_NAME, f"is {json_kind(item)}, not a STAC item")
    found = _asset_table(item)
    default = [key for key, asset in found.items() if _is_default(key, asset)]
    chosen = _selected(found, default, _globs(include), _globs(exclude))
    if not chosen:
        raise NoDataAssetError(item_name(item), _nothing_chosen(found, include, exclude))
    endpoint = _endpoint(item)
    owner = _endpoint_owner(endpoint, found, default) if endpoint else None
    return [_asset(item, key, found[key], endpoint if key == owner else None) for key in chosen]


def item_name(item: object) -> str:
    """Name an item for messages, in one printable line: identifier, id, or that it has none."""
    if not isinstance(item, OBJECT):
        return NO_NAME
    return printable(identifier_of(item) or NO_NAME)


def json_kind(value: object) -> str:
    """Name the kind of a JSON value, with its article, for messages."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    kinds |= {int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")


# --- which assets ----------------------------------------------------------------------------


def _asset_table(item: Mapping[str, Any]) -> dict[str, StacAsset]:
    table = mapping_of(item.get("assets"))
    return {str(key): asset for key, asset in table.items() if isinstance(asset, OBJECT)}


def _globs(patterns: Sequence[str]) -> Sequence[str]:
    """Take one glob given as a plain string for a list of one, not for its letters."""
    return (patterns,) if isinstance(patterns, str) else patterns


def _selected(
    found: Iterable[str], default: Iterable[str], include: Sequence[str], exclude: Sequence[str]
) -> list[str]:
    kept = [key for key in found if _matches(key, include)] if include else list(default)
    return [key for key in kept if not _matches(key, exclude)] if exclude else kept


def _matches(key: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(key, glob) or fnmatchcase(_last_segment(key), glob) for glob in globs)


def _is_default(key: str, asset: StacAsset) -> bool:
    """Return whether an asset is downloaded by default: data, but not its XML description."""
    return _is_data(key, asset) and not _is_xml(key, asset)


def _is_data(key: str, asset: StacAsset) -> bool:
    """Go by the roles; without any, by what type, href and name suggest."""
    roles = asset.get("roles")
    roles = [roles] if isinstance(roles, str) else roles
    if isinstance(roles, list) and roles:
        return any(isinstance(role, str) and role.lower() == "data" for role in roles)
    names = (key, _title(key, asset))
    return not (
        "/api/quicklook/" in text_of(asset.get("href"))
        or _NO_DATA_TYPE.match(text_of(asset.get("type")).lower())
        or any(_NO_DATA_NAME.search(name) for name in names)
    )


def _is_xml(key: str, asset: StacAsset) -> bool:
    if key.lower().endswith(".xml") or _title(key, asset).lower().endswith(".xml"):
        return True
    kind = text_of(asset.get("type")).lower()
    return "xml" in kind and _XML_TYPE.search(kind) is not None


def _nothing_chosen(
    found: Mapping[str, StacAsset], include: Sequence[str], exclude: Sequence[str]
) -> str:
    """Return one line that explains why no asset is left."""
    if not found:
        return "has no assets"
    keys = ", ".join(printable(key, 60) for key in list(found)[:4])
    keys += f" and {len(found) - 4} more" if len(found) > 4 else ""
    if include or exclude:
        return f"no asset is left by --include and --exclude; its asset keys: {keys}"
    return f"none of its assets is data (XML apart); its asset keys: {keys}"


# --- one asset -------------------------------------------------------------------------------


def _asset(item: Mapping[str, Any], key: str, asset: StacAsset, endpoint: str | None) -> Asset:
    title = _title(key, asset)
    item_id, collection = text_of(item.get("id")) or identifier_of(item), collection_of(item)
    try:
        source, href = _address(asset.get("href"))
        _refuse_surrogates(item_id, collection, key, title)
    except ValueError as error:
        raise ItemError(item_name(item), f"asset {printable(key)!r} {error}") from error
    checksum = _checksum(asset, href, lambda: f"{item_name(item)}: asset {printable(key)!r}")
    return Asset(
        item_id=item_id,
        collection=collection,
        key=key,
        title=title,
        # The asset's own href wins over the endpoint, which names the archive only.
        hrefs={S3: endpoint} | {source: href} if endpoint else {source: href},
        size_bytes=_size_bytes(asset),
        checksum=checksum,
        fields=LayoutFields(item, key, title, checksum),
    )


def _refuse_surrogates(*texts: str) -> None:
    r"""Refuse half characters (``\ud800``): JSON can write them, no file or ledger can hold them.

    Raises:
        ValueError: with the problem.
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ValueError("or its item is named in characters that are not Unicode text") from error


def _title(key: str, asset: StacAsset) -> str:
    title = text_of(asset.get("title"))
    return title if title.strip() else _last_segment(key)


def _last_segment(path: str) -> str:
    return path.rpartition("/")[2]


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
    """Find the one asset that ``endpoint_url`` means: the item has one address, many assets.

    That is the asset of the same file name, else the only one that is data and not XML (the
    file name in the datalake can differ from the title). Anybody else would get foreign bytes.
    """
    name = _last_segment(unquote(urlsplit(endpoint).path).rstrip("/"))
    named = [k for k, a in found.items() if name in {_last_segment(k), _last_segment(_title(k, a))}]
    for candidates in (named, default):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return None
    return None


# --- size and checksum -----------------------------------------------------------------------


def _size_bytes(asset: StacAsset) -> int | None:
    """``file:size``, else the description's ``File size: N bytes``; "null" is None."""
    size = asset.get("file:size")
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63:
        return size
    match = _SIZE_LINE.search(text_of(asset.get("description")))
    return int(match[1]) if match else None


def _checksum(asset: StacAsset, href: str, label: Callable[[], str]) -> Checksum | None:
    """``file:checksum``, else the description, else the tail of a GEODES href.

    When they disagree, the one that two of the three give counts, else the first, and a warning
    names both. That is safe: bytes are only published when they agree with it, so a wrong choice
    ends in a named failure that keeps the copy, never in a wrong file. Alone the tail counts
    least, for it is an address, while the other two are statements about the bytes.
    """
    said = [_file_checksum(asset, label), _description_checksum(asset), _href_checksum(href)]
    known = [checksum for checksum in said if checksum is not None]
    if not known:
        return None
    first = known[0]
    others = [
        one
        for one in known[1:]
        if one is not first and one.algorithm == first.algorithm and one != first
    ]
    if not others:
        return first
    chosen = others[0] if others[1:] == others[:1] else first
    logger.warning(
        "%s: the catalogue gives two checksums, %s and %s; %s counts",
        label(),
        first,
        others[0],
        "the second, which it gives twice," if chosen is not first else "the first",
        extra={"action": "checksum_conflict", "asset": label()},
    )
    return chosen


def _file_checksum(asset: StacAsset, label: Callable[[], str]) -> Checksum | None:
    """Read ``file:checksum``: a multihash, or bare hex as eodag writes it."""
    text = text_of(asset.get("file:checksum"))
    if not text.strip() or text.strip().lower() == "null":
        return None
    try:
        return checksums.parse(text)
    except ValueError:
        logger.warning("%s: file:checksum %r cannot be read", label(), printable(text))
        return None


def _description_checksum(asset: StacAsset) -> Checksum | None:
    """Read ``Checksum MD5: <hex>`` or another algorithm's line; "null" is no hex, so None."""
    for algorithm, digest in _CHECKSUM_LINE.findall(text_of(asset.get("description"))):
        try:
            return checksums.parse(f"{algorithm}:{digest}")
        except ValueError:
            continue
    return None


def _href_checksum(href: str) -> Checksum | None:
    """Read the MD5 that ends ``/api/download/{URN}/files/{md5}``.

    Only after ``/files/``: 32 hex digits elsewhere may be any identifier.
    """
    match = _HREF_TAIL.match(href)
    return checksums.parse(f"md5:{match[1]}") if match else None
