"""The id of a download: of its path and its bytes, the same on every machine."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.model.asset import Asset, download_id
from geodes_tasks.model.checksum import Checksum

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://geodes-portal.cnes.fr/geodes-tasks")


def asset(checksum: Checksum | None = None, **hrefs: str) -> Asset:
    """Make an asset of which nothing but its bytes matters."""
    return Asset(item_id="i", collection="c", key="k", title="t", hrefs=hrefs, checksum=checksum)


@given(st.text().filter(lambda text: text.isprintable()))
def test_the_id_is_a_uuid_of_path_and_checksum(path: str) -> None:
    """It is what the standard library makes of them, so that a ledger outlives this code."""
    known = asset(Checksum("md5", "0" * 32), geodes="https://portal.invalid/a")

    assert download_id(path, known) == str(uuid.uuid5(NAMESPACE, f"{path}\nmd5:{'0' * 32}"))


def test_without_a_checksum_the_addresses_stand_for_the_bytes() -> None:
    """All of them, in an order of their own."""
    found = download_id("/a", asset(s3="s3://b/k", geodes="https://portal.invalid/a"))

    assert found == str(uuid.uuid5(NAMESPACE, "/a\nhttps://portal.invalid/a s3://b/k"))
    assert found != download_id("/b", asset(s3="s3://b/k", geodes="https://portal.invalid/a"))
