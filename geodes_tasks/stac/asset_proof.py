"""Size, checksum and datatype of an asset, which GEODES writes into the description."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.formatting import printable
from geodes_tasks.stac.item_properties import text_of

logger = logging.getLogger(__name__)

RAWDATA = "RAWDATA"
"""Datatype of the files that a product consists of."""

# Blanks within a line only: over lines, a description of empty lines would take for ever.
# A number with a unit of its own ("1.2 GB") or with separators ("50,000") is no size in bytes.
_SIZE_LINE = re.compile(
    r"^[ \t]*file size[ \t]*:[ \t]*([0-9]{1,18})[ \t\r]*(?:bytes?\b|$)",
    re.IGNORECASE | re.MULTILINE,
)
_CHECKSUM_LINE = re.compile(
    r"^[ \t]*(?i:checksum)[ \t]+([\w-]+)[ \t]*:[ \t]*([0-9A-Fa-f]+)[ \t\r]*$", re.MULTILINE
)
# Both cases are written out where the text is long: Python folds them letter by letter.
HREF_TAIL = re.compile(r"(?i:https?)://[^/?#][^?#]*/(?i:files)/([0-9A-Fa-f]{32})/?(?:[?#]|\Z)")
"""Address of a file in GEODES, which ends in its MD5."""


def datatype_of(asset: Mapping[str, Any]) -> str:
    """Return the portal's kind of file, as ``RAWDATA`` or ``QUICKLOOK_HD``; empty if unknown."""
    # eodag copies the line of the description into a field.
    given = text_of(asset.get("geodes:datatype"))
    text = given or text_of(asset.get("description")).partition("Datatype:")[2]
    return "".join(text[:40].split()[:1]).upper()


def size_of(asset: Mapping[str, Any], checksum: Checksum | None) -> int | None:
    """Return ``file:size``, else the description's ``File size: N bytes``; "null" is None.

    A size of 0 beside the digest of other bytes means that the catalogue does not know it.
    """
    size = asset.get("file:size")
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        match = _SIZE_LINE.search(text_of(asset.get("description")))
        size = int(match[1]) if match else None
    if size == 0 and checksum is not None:
        empty = checksums.new_hash(checksum.algorithm).hexdigest()
        return 0 if checksum.digest == empty else None
    return size


def checksum_of(asset: Mapping[str, Any], href: str, name: Callable[[], str]) -> Checksum | None:
    """Return ``file:checksum``, else that of the description, else the tail of a GEODES href.

    When they disagree, the one that two of the three have counts, else the first, and a warning
    names both. That is safe: bytes are only published when they agree with it, so a wrong choice
    ends in a named failure that keeps the copy, never in a wrong file. Alone the tail counts
    least, for it is an address, while the other two are statements about the bytes.

    Args:
        asset: STAC asset as JSON.
        href: Its address.
        name: Returns the name of the asset for warnings.
    """
    # Only after `/files/`: 32 hex digits elsewhere may be any identifier.
    tail = HREF_TAIL.match(href)
    of_href = checksums.parse(f"md5:{tail[1]}") if tail else None
    given = [_file_checksum(asset, name), _description_checksum(asset), of_href]
    known = [checksum for checksum in given if checksum is not None]
    if not known:
        return None
    first = known[0]
    others = [one for one in known[1:] if one.algorithm == first.algorithm and one != first]
    if not others:
        return first
    chosen = others[0] if others[1:] == others[:1] else first
    logger.warning(
        "%s: the catalogue has two checksums, %s and %s; %s counts",
        name(),
        first,
        others[0],
        "the second, which it has twice," if chosen is not first else "the first",
        extra={"action": "checksum_conflict", "asset": name()},
    )
    return chosen


def _file_checksum(asset: Mapping[str, Any], name: Callable[[], str]) -> Checksum | None:
    # Its name in the checksum extension, which the file extension replaced in 2021.
    text = text_of(asset.get("file:checksum") or asset.get("checksum:multihash"))
    if not text.strip() or text.strip().lower() == "null":
        return None
    try:
        return checksums.parse(text)
    except ValueError:
        logger.warning("%s: file:checksum %r cannot be read", name(), printable(text))
        return None


def _description_checksum(asset: Mapping[str, Any]) -> Checksum | None:
    for algorithm, digest in _CHECKSUM_LINE.findall(text_of(asset.get("description"))):
        try:
            return checksums.parse(f"{algorithm}:{digest}")
        except ValueError:
            continue  # "null", or an algorithm that hashlib does not have
    return None
