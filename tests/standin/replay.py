"""Real items of the portal, served with small bodies: all but sizes and digests stays as it was."""

from __future__ import annotations

import copy
import re
from urllib.parse import urlsplit

from tests.standin.bodies import GeneratedBody
from tests.standin.spec import Item, ServedFile

_TAIL = re.compile(r"/files/([0-9A-Fa-f]{32})")
_SIZE = re.compile(r"File size: \d+ bytes")


def replayed(item: Item, url: str, size: int) -> tuple[Item, list[ServedFile]]:
    """Return an item with the stand-in's address in its hrefs, and the files behind them.

    Args:
        item: As the portal wrote it; it is left as it is.
        url: The stand-in's address, without a slash at the end.
        size: Bytes of each file.
    """
    made, files = copy.deepcopy(item), []
    identifier = str(item["properties"].get("identifier") or item["id"])
    for key, asset in made["assets"].items():
        parts = urlsplit(asset["href"])
        old = _TAIL.search(parts.path)
        assert old, asset["href"]
        body = GeneratedBody(f"{item['id']}/{key}", size)
        digest = body.md5.upper() if old[1].isupper() else body.md5
        path = parts.path.replace(old[1], digest)
        asset["href"] = f"{url}{path}" + (f"?{parts.query}" if parts.query else "")
        text = _SIZE.sub(f"File size: {size} bytes", asset["description"])
        asset["description"] = text.replace(old[1], digest)
        route = "quicklook" if "/quicklook/" in path else "download"
        archive = "data" in asset["roles"]
        files.append(
            ServedFile(
                item["id"],
                identifier,
                digest,
                body,
                asset["title"],
                asset["type"],
                route=route,
                archive=archive,
            )
        )
    return made, files
