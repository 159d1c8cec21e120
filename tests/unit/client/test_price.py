"""The price: what a download takes, said before it begins, and the plan of a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.client import planning
from geodes_tasks.client import price as prices
from geodes_tasks.client.dry_run import dry_run
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import Price, Quote, host_of, priced
from geodes_tasks.errors import HrefRefusedError, NameTakenError
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings.config import load
from tests.conftest import asset_of
from tests.unit.ledger.test_ledger import proven, request_of

PORTAL = "https://geodes-portal.cnes.fr/api/download/x"
TB = 10**12


def asset(name: str, size: int | None, **hrefs: str) -> Asset:
    """Make an asset of a size with these hrefs."""
    return replace(
        asset_of(name.encode(), name), size_bytes=size, hrefs=hrefs or {"geodes": PORTAL}
    )


def quote_of(assets: list[Asset], *, uses_s3: bool, **settings: Any) -> Quote:
    """Return the price of assets none of which is present."""
    price = Price()
    for one in assets:
        price.add(Request(one, ""), is_present=False)
    return Quote(price, load(**settings), uses_s3)


def test_the_price_names_files_bytes_sources_and_time(tmp_path: Path) -> None:
    """The quota makes most of the time, so it is named with it."""
    both = asset("b.zip", TB, geodes=PORTAL, s3="s3://b/k")
    assets = [*[asset("a.zip", TB)] * 120, *[both] * 3]
    quote = quote_of(assets, uses_s3=True, quota="50/hour", download_dir=tmp_path)

    first, warning = quote.lines()

    assert first.startswith(
        "123 files, 123.0 TB: 3 from S3, 120 from the portal at 50 an hour = 2 h 24 min; "
    )
    assert warning.startswith("warning: it does not fit: 123.0 TB to fetch, ")
    assert (quote.portal_requests, quote.expected_seconds) == (120, 8640.0)


def test_without_s3_all_comes_from_the_portal(tmp_path: Path) -> None:
    """Within one window the quota costs no time; without a quota no time is known."""
    both = asset("b.zip", 10, geodes=PORTAL, s3="s3://b/k")
    quote = quote_of([both] * 3, uses_s3=False, quota="50/hour", download_dir=tmp_path)
    unlimited = quote_of([both], uses_s3=False, quota="off", download_dir=tmp_path)

    assert next(quote.lines()).startswith("3 files, 30 B: 3 from the portal; ")
    assert (quote.expected_seconds, unlimited.expected_seconds) == (0.0, None)


def test_files_of_unknown_size_are_counted_beside_the_bytes(tmp_path: Path) -> None:
    """The sum of the others is not said to be that of all."""
    assets = [asset("a.zip", 10), asset("b.zip", None), asset("c.zip", None)]
    quote = quote_of(assets, uses_s3=False, quota="off", download_dir=tmp_path)

    text = "3 files, 10 B and 2 of unknown size: 3 from the portal; "
    assert next(quote.lines()).startswith(text)


def test_files_of_other_hosts_cost_no_quota(tmp_path: Path) -> None:
    """They are no requests to the portal, and are named apart."""
    other = asset("o.zip", 10, geodes="https://other.example:8443/o.zip")
    both = asset("b.zip", 10, geodes="https://other.example/b.zip", s3="s3://b/k")
    quote = quote_of(
        [other, both, *[asset("a.zip", 10)] * 60], uses_s3=True, quota="50/hour",
        download_dir=tmp_path,
    )  # fmt: skip

    assert next(quote.lines()).startswith(
        "62 files, 620 B: 1 from S3, 60 from the portal at 50 an hour = 1 h 12 min, "
        "1 from other hosts; "
    )
    assert quote.portal_requests == 60


def test_a_preview_costs_no_quota() -> None:
    """It is no download for the portal."""
    preview = asset("q.jpg", 10, geodes="https://geodes-portal.cnes.fr/api/quicklook/x")

    assert quote_of([preview], uses_s3=False, quota="50/hour").portal_requests == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an absolute download folder."""
    return planning.folder(tmp_path / "out")


def plan_of(folder: Path, *assets: Asset, **named: Asset) -> Mapping[str, Any]:
    """Return the JSON form of a dry run over assets, each at its own path."""
    requests = [Request(one, str(folder / one.title)) for one in assets]
    requests += [Request(one, str(folder / f"{name}.zip")) for name, one in named.items()]
    return dry_run([Planned([one]) for one in requests], load(download_dir=folder)).to_dict()


def test_a_dry_run_counts_each_file_once(folder: Path) -> None:
    """Named twice, a file is one download; with other bytes the path is taken."""
    first, second = asset("a.zip", 5), asset("a.zip", 7)
    other = replace(second, checksum=asset_of(b"other").checksum)

    plan = plan_of(folder, first, first, other)

    assert [(row["path"], row["present"]) for row in plan["downloads"]] == [
        (str(folder / "a.zip"), False)
    ]
    (refused,) = plan["refused"]
    assert refused["error"]["type"] == NameTakenError.__name__
    assert (plan["bytes_total"], plan["bytes_to_fetch"], plan["portal_requests"]) == (5, 5, 1)


def test_a_dry_run_names_hosts_that_a_run_would_refuse(folder: Path) -> None:
    """So the exit code is that of the run."""
    plan = plan_of(folder, asset("a.zip", 5, geodes="https://elsewhere.invalid/a.zip"))

    assert plan["downloads"] == []
    assert [one["error"]["type"] for one in plan["refused"]] == [HrefRefusedError.__name__]


def test_a_dry_run_knows_files_that_are_there(folder: Path) -> None:
    """Unknown to the ledger, a file of the right size counts as present: a run would hash it."""
    folder.mkdir()
    (folder / "a.zip").write_bytes(b"12345")
    (folder / "b.zip").write_bytes(b"1")

    plan = plan_of(folder, asset("a.zip", 5), asset("b.zip", 5))

    assert [row["present"] for row in plan["downloads"]] == [True, False]
    assert (plan["bytes_total"], plan["bytes_to_fetch"]) == (10, 5)


def test_the_price_of_a_list_is_known_before_it_is_admitted(fake_ledger: Ledger) -> None:
    """A file named twice counts once, one that the ledger knows as verified is present."""
    known, new = request_of("a"), request_of("b")
    proven(fake_ledger, known)
    before = fake_ledger.reading.totals().counters

    planned, price = priced([Planned([known, new]), Planned([new])], fake_ledger, load())

    assert price == Price(2, 1, 14, 7, on_hosts=Counter({host_of(new.asset.hrefs["geodes"]): 1}))
    assert [len(one.requests) for one in planned] == [2, 1]
    assert fake_ledger.reading.totals().counters == before


def test_a_longer_list_is_not_held_for_its_price(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more items are read than the first ones, and none is lost."""
    monkeypatch.setattr(prices, "MOST_PRICED", 3)
    lists = iter([Planned([request_of(str(number))]) for number in range(5)])

    planned, price = priced(lists, fake_ledger, load())

    assert price is None
    assert len(list(lists)) == 1
    assert len(list(planned)) == 4
