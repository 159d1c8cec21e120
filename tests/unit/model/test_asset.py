"""The id of a download: of its path and its bytes, the same on every machine."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.model.asset import Asset, Unpack, download_id
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


FULL = Asset(
    item_id="i",
    collection="c",
    key="k",
    title="t",
    hrefs={"geodes": "https://p/a?X-Amz-Signature=s", "s3": "s3://b/k"},
    size_bytes=5,
    checksum=Checksum("md5", "0" * 32),
    unpack=Unpack.DROP,
    members=("*.jp2",),
    portal_ranges=True,
)


@pytest.mark.parametrize("one", [FULL, asset(geodes="https://p/a")])
def test_an_asset_is_read_back_from_the_ledger(one: Asset) -> None:
    """Every field that a worker needs survives the ledger's JSON."""
    assert Asset.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    "foul", [{"hrefs": []}, {"size": "5"}, {"hrefs": {"geodes": 5}}, {"title": None}]
)
def test_a_foul_record_is_no_asset(foul: dict[str, Any]) -> None:
    """Other programs may write into the ledger: a value of another kind is an error here."""
    with pytest.raises(TypeError, match=r"hrefs or size|a text"):
        Asset.from_dict(FULL.to_dict() | foul)


def test_signatures_are_removed() -> None:
    """The query of an href may be a credential; an asset without one stays as it is."""
    plain = asset(geodes="https://p/a")

    assert FULL.unsigned().hrefs == {"geodes": "https://p/a", "s3": "s3://b/k"}
    assert plain.unsigned() is plain
