"""What the ledger keeps of an item beside its downloads."""

from __future__ import annotations

from dataclasses import replace

from geodes_tasks.ledger import Ledger
from geodes_tasks.model import footprint
from tests.unit.ledger.test_ledger import (
    BATCH,
    ask,
    assert_counts_are_right,
    claimed,
    record_of,
    request_of,
    result_of,
)

ITEM = {
    "id": "URN:X:V1",
    "geometry": {"type": "Point", "coordinates": [1.5, 43.5]},
    "properties": {"datetime": "2025-04-02T17:57:41Z"},
}


def test_the_footprint_of_an_item_is_kept_with_its_first_file(fake_ledger: Ledger) -> None:
    """A report as STAC has the geometry, also when the items are no longer at hand."""
    first, second, bare = request_of("a"), request_of("b"), request_of("c")

    ask(fake_ledger, replace(first, item=ITEM), second, bare)

    kept = record_of(fake_ledger, first).footprint
    assert kept == footprint.footprint(ITEM)
    assert "43.5" in str(kept)
    assert [record_of(fake_ledger, one).footprint for one in (second, bare)] == [None, None]


def test_the_real_size_replaces_the_expected_one(fake_ledger: Ledger) -> None:
    """The bytes to fetch of a set of members are an estimate until its files are there."""
    request = request_of(size_bytes=100)
    ask(fake_ledger, request)

    claim = claimed(fake_ledger, request)
    fake_ledger.leases.finish(claim, result_of(claim, size_bytes=130))

    assert fake_ledger.reading.status(BATCH).bytes_total == 130
    assert_counts_are_right(fake_ledger)
