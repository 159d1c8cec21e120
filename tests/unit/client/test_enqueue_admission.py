"""From items to admitted downloads: what is wrong with one item harms no other."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError

from geodes_tasks.client import enqueue_admission
from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.client.enqueue_admission import admit, new_batch_name, proof_at
from geodes_tasks.client.planning import Planned, Selection, plan
from geodes_tasks.errors import (
    ConfigError,
    GeodesTasksError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    NameTakenError,
    SourceError,
)
from geodes_tasks.ledger import Admission, Claim, Ledger, Refusal, Request, Wakeup
from geodes_tasks.ledger import admission as admitting
from geodes_tasks.ledger.admission import Admissions
from geodes_tasks.ledger.connection import Connection
from geodes_tasks.model.asset import Unpack
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.tasks.app import Sender
from tests.conftest import asset_of, md5

BOTH = {"geodes": "https://portal.invalid/a", "s3": "s3://bucket/a"}


class Mailbox:
    """A sender that keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        """Fail with this error, if there is one."""
        self.sent: list[Wakeup] = []
        self.error = error

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep them."""
        if self.error:
            raise self.error
        self.sent.extend(wakeups)

    wake = Sender.wake


def admitted(
    ledger: Ledger, planned: Iterable[Planned], mailbox: Mailbox | None = None
) -> enqueue_admission.Receipt:
    """Admit into batch b."""
    return admit(planned, "b", "acc", ledger, mailbox or Mailbox())  # type: ignore[arg-type] # it sends


def request_of(name: str, content: bytes = b"content", **fields: Any) -> Request:
    """Ask for a file of this name."""
    return Request(asset_of(content, f"{name}.zip", **fields), f"/data/{name}.zip")


def item_of(name: str, size: int = 7, **fields: Any) -> dict[str, Any]:
    """Write an item as GEODES does."""
    digest = md5(name.encode()).digest
    urn = f"URN:FEATURE:DATA:gdh:{name}:V1"
    href = f"https://geodes-portal.cnes.fr/api/download/{urn}/files/{digest}"
    asset = {
        "href": href,
        "title": f"{name}.zip",
        "roles": ["data"],
        "file:size": size,
        "file:checksum": digest,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": urn,
        "collection": "PEPS_S2_L1C",
        "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "assets": {f"{name}.zip": asset},
    } | fields


# --- plan ----------------------------------------------------------------------------------------


def test_an_item_becomes_a_request(tmp_path: Path) -> None:
    """Its data asset gets a path below the download folder."""
    (planned,) = plan([item_of("a")], Selection(tmp_path))

    (request,) = planned.requests
    assert Path(request.path).is_relative_to(tmp_path)
    assert request.asset.checksum == md5(b"a")
    assert planned.refusals == []


def test_a_bad_item_harms_no_other(tmp_path: Path) -> None:
    """Unreadable, without assets, or good: each has its own answer, in order."""
    unreadable = SourceError("items.json line 2", "is not JSON")
    found: list[Any] = [item_of("a"), unreadable, item_of("b", assets={}), item_of("c")]

    planned = list(plan(found, Selection(tmp_path)))

    assert [len(one.requests) for one in planned] == [1, 0, 0, 1]
    assert [len(one.refusals) for one in planned] == [0, 1, 1, 0]
    assert planned[1].refusals[0].item_id == "items.json line 2"
    assert planned[2].refusals[0].item_id.endswith("gdh:b:V1")


@pytest.fixture
def _on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every item has one asset that both sources have, and one that the portal alone has."""
    assets = [asset_of(b"a", "a.zip", hrefs=BOTH), asset_of(b"b", "b.zip")]
    monkeypatch.setattr(stac_assets, "assets", lambda *_, **__: assets)


@pytest.mark.usefixtures("_on_both")
def test_one_source_is_used_when_asked_for(tmp_path: Path) -> None:
    """Only its href is kept; what is not there is refused with where it is."""
    (planned,) = plan([item_of("a")], Selection(tmp_path, source="s3"))

    assert [dict(request.asset.hrefs) for request in planned.requests] == [{"s3": "s3://bucket/a"}]
    (refusal,) = planned.refusals
    assert "is not on s3 (it is on: geodes)" in str(refusal.error)


@pytest.mark.usefixtures("_on_both")
def test_all_sources_are_kept_otherwise(tmp_path: Path) -> None:
    """With `auto` the worker chooses."""
    (planned,) = plan([item_of("a")], Selection(tmp_path))

    assert [set(request.asset.hrefs) for request in planned.requests] == [
        {"geodes", "s3"},
        {"geodes"},
    ]


# --- admit ---------------------------------------------------------------------------------------


def test_everything_is_counted_and_sent(fake_ledger: Ledger) -> None:
    """The receipt says what became of what was asked for, and messages go out."""
    mailbox = Mailbox()
    refusal = Refusal("URN:bad", "C", "", SourceError("x", "bad"))
    planned = [Planned([request_of("a"), request_of("b")]), Planned(refusals=[refusal])]

    receipt = admitted(fake_ledger, planned, mailbox)

    told = receipt.to_dict()
    assert (told["batch"], told["downloads"], told["new"], told["refused"]) == ("b", 3, 2, 1)
    assert told["bytes_total"] == fake_ledger.reading.status("b").bytes_total > 0
    assert told["errors"] == [{"message": "x: bad", "hint": SourceError.remedy}]
    assert len(mailbox.sent) == 2
    assert fake_ledger.reading.status("b").total == 3


def test_a_taken_name_is_recorded_as_a_failure(fake_ledger: Ledger) -> None:
    """Who came second is in the report, with who has the path."""
    second = Request(asset_of(b"other", "b.zip"), "/data/a.zip")

    receipt = admitted(fake_ledger, [Planned([request_of("a"), second])])

    records = list(fake_ledger.reading.records("b"))
    assert [record.state for record in records] == [State.PENDING, State.FAILURE]
    assert isinstance(receipt.errors[0], NameTakenError)
    assert (receipt.to_dict()["refused"], receipt.downloads) == (1, 2)
    json.dumps(receipt.to_dict())


def test_asking_again_changes_nothing(fake_ledger: Ledger) -> None:
    """A second run joins the first."""
    admitted(fake_ledger, [Planned([request_of("a")])])

    receipt = admitted(fake_ledger, [Planned([request_of("a")])])

    assert receipt.to_dict()["joined"] == 1
    assert fake_ledger.reading.status("b").total == 1


def test_a_file_that_is_named_twice_is_one_download(fake_ledger: Ledger) -> None:
    """The receipt's number of downloads is the batch's total."""
    receipt = admitted(fake_ledger, [Planned([request_of("a"), request_of("a")])])

    assert receipt.downloads == fake_ledger.reading.status("b").total


def test_a_proven_file_is_stat_on_disk(fake_ledger: Ledger, tmp_path: Path) -> None:
    """Nothing, a folder's missing file, and a file each have their answer."""
    file = tmp_path / "a.zip"
    file.write_bytes(b"x")

    archive = asset_of(b"x")

    assert proof_at(str(file), archive) == Proof.of(file.stat())
    assert proof_at(str(tmp_path / "nothing" / "b"), archive) is None


def test_an_archive_is_no_proof_of_its_folder(tmp_path: Path) -> None:
    """Nor is a folder one of a file; a folder at the source has no checksum."""
    (tmp_path / "file").touch()
    archive = asset_of(b"x")
    unpacked, folder = replace(archive, unpack=Unpack.DROP), replace(archive, checksum=None)

    is_proven = [
        proof_at(str(path), asset) is not None
        for path in (tmp_path, tmp_path / "file")
        for asset in (archive, unpacked, folder)
    ]

    assert is_proven == [False, True, True, True, False, True]


def test_blocks_are_bounded_and_items_are_whole(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is never blocked for long, and no item is cut in two."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 3)
    sizes: list[int] = []
    real = Admissions.admit

    def note(
        ledger: Admissions, batch: str, account: str, requests: Any, stat: Any, **known: Any
    ) -> Any:
        sizes.append(len(requests))
        return real(ledger, batch, account, requests, stat, **known)

    monkeypatch.setattr(Admissions, "admit", note)
    pairs = [Planned([request_of(f"{n}a"), request_of(f"{n}b")]) for n in range(5)]

    receipt = admitted(fake_ledger, pairs)

    assert sizes == [4, 4, 2]
    assert receipt.downloads == 10


def test_a_block_is_planned_while_another_is_admitted(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first block, for which workers wait, is counted before the next one is planned."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 1)
    seen: list[str] = []
    real = Admissions.admit

    def send(*args: Any, **known: Any) -> Any:
        seen.append("sent")
        results = real(*args, **known)

        def noted() -> Any:
            seen.append("counted")
            return results()

        return noted

    def planned() -> Iterator[Planned]:
        for name in "abc":
            seen.append(f"{name} planned")
            yield Planned([request_of(name)])

    monkeypatch.setattr(Admissions, "admit", send)
    receipt = admitted(fake_ledger, planned())

    assert seen == [
        "a planned", "sent", "counted", "b planned", "sent",
        "c planned", "counted", "sent", "counted",
    ]  # fmt: skip
    assert receipt.downloads == 3


def test_work_that_comes_last_is_begun(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are called also where only the very last block has something for them."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 1)
    begun: list[bool] = []
    bad = Planned(refusals=[Refusal("URN:1", "C", "", SourceError("1", "bad"))])

    enqueue_admission.admit(
        [bad, bad, Planned([request_of("a")])], "b", "acc", fake_ledger,
        Mailbox(),  # type: ignore[arg-type] # it sends
        on_work=lambda: begun.append(True),
    )  # fmt: skip

    assert begun == [True]


def test_a_source_that_breaks_leaves_no_answer_behind(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that end in an error while a block is on its way: the next answer is not of that."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 1)

    def planned() -> Iterator[Planned]:
        yield from [Planned([request_of("a")]), Planned([request_of("b")])]
        raise SourceError("items.json", "broke off")

    with pytest.raises(SourceError):
        admitted(fake_ledger, planned())

    assert fake_ledger.reading.status("b").total == 2
    assert admitted(fake_ledger, [Planned([request_of("c")])]).downloads == 3


def test_nothing_asked_for_is_an_empty_receipt(fake_ledger: Ledger) -> None:
    """No item, no batch, no message."""
    mailbox = Mailbox()

    receipt = admitted(fake_ledger, [], mailbox)

    assert (receipt.downloads, mailbox.sent) == (0, [])
    assert fake_ledger.reading.batches() == []


def test_errors_are_kept_up_to_a_bound(fake_ledger: Ledger) -> None:
    """A source of a million bad items does not fill the memory; the count is right."""
    refusals = [Refusal(f"URN:{n}", "C", "", SourceError(f"{n}", "bad")) for n in range(150)]

    receipt = admitted(fake_ledger, [Planned(refusals=refusals)])

    assert (receipt.to_dict()["refused"], len(receipt.errors)) == (150, receipt.KEPT)
    assert [group.count for group in receipt.refusals.values()] == [150]


def test_a_broker_that_does_not_answer_is_named(fake_ledger: Ledger) -> None:
    """The error says where Redis should be; what was admitted is admitted."""
    with pytest.raises(LedgerUnavailableError, match="no answer from Redis at redis:"):
        admitted(fake_ledger, [Planned([request_of("a")])], Mailbox(OperationalError("refused")))

    assert fake_ledger.reading.status("b").states[State.PENDING] == 1


def test_a_broker_that_refuses_is_not_away(fake_ledger: Ledger) -> None:
    """Kombu has one error for both; what Redis said is below it."""
    refusal = OperationalError("no permissions")
    refusal.__cause__ = NoPermissionError("user client has no permissions to run 'lpush'")

    with pytest.raises(LedgerForbiddenError, match="refuses: user client has no permissions"):
        admitted(fake_ledger, [Planned([request_of("a")])], Mailbox(refusal))


def test_batch_names_sort_by_time() -> None:
    """Two names made at once differ."""
    first, second = new_batch_name(), new_batch_name()

    assert first != second
    assert len(first) == len("20260101-000000-abcd")


def test_refusing_is_asking_once_too() -> None:
    """The same refusal has the same id, another problem another."""
    same = [Refusal("i", "c", "k", error) for error in two_of(ConfigError("s", "p"))]

    assert len({refusal.download_id for refusal in same}) == 1
    assert Refusal("i", "c", "k", ConfigError("s", "q")).download_id != same[0].download_id


def two_of(error: GeodesTasksError) -> list[GeodesTasksError]:
    """Give an error and its like."""
    return [error, type(error)(*error.args)]


def test_what_is_known_is_asked_for_by_its_id(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for again, only what is new is told in full; the answers are what they would be."""
    known = [request_of(name) for name in "abcd"]
    new = request_of("e")
    admitted(fake_ledger, [Planned(known)])
    told: list[list[bool]] = []
    real = Connection.send

    def note(ledger: Connection, script: str, *args: Any) -> Any:
        width = args[2]
        told.append([width > 2] * (len(args[3:]) // width))
        return real(ledger, script, *args)

    monkeypatch.setattr(Connection, "send", note)

    answers = fake_ledger.admission.admit(
        "b2", "acc", [*known[:2], new, *known[2:]], lambda _: None, known=True
    )()

    assert [str(one.admission) for one in answers] == [
        "joined",
        "joined",
        "new",
        "joined",
        "joined",
    ]
    assert told == [[False] * 5, [True]]
    assert fake_ledger.reading.status("b2").total == 5


def test_what_an_interrupted_run_left_is_told_once(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that begins anew costs one call a block, as a new one does."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 1)
    blocks = [Planned([request_of(name)]) for name in "abcd"]
    admitted(fake_ledger, blocks)
    fake_ledger.control.begin_run([])
    sent: list[str] = []
    real = Connection.send

    def note(ledger: Connection, script: str, *args: Any) -> Any:
        sent.append(script)
        return real(ledger, script, *args)

    monkeypatch.setattr(Connection, "send", note)

    receipt = admitted(fake_ledger, blocks)

    assert receipt.admissions[Admission.AGAIN] == len(blocks)
    assert sent.count("admit_downloads") == len(blocks)


def test_a_changed_file_is_told_in_full(fake_ledger: Ledger) -> None:
    """A proven file that is another now is downloaded again, though asked for by its id."""
    request = request_of("a")
    admitted(fake_ledger, [Planned([request])])
    claim = fake_ledger.leases.claim(request.download_id, "w")
    assert isinstance(claim, Claim)
    same, changed = Proof(7, 1, 2), Proof(7, 2, 2)
    fake_ledger.leases.finish(
        claim,
        DownloadResult(
            outcome=Outcome.DOWNLOADED,
            path=request.path,
            size_bytes=7,
            checksum=request.asset.checksum,
            verified=True,
            bytes_transferred=7,
            source="geodes",
            proof=same,
        ),
    )

    (present,) = fake_ledger.admission.admit("b2", "acc", [request], lambda _: same, known=True)()
    (again,) = fake_ledger.admission.admit("b3", "acc", [request], lambda _: changed, known=True)()

    assert (present.admission, again.admission) == (Admission.PRESENT, Admission.AGAIN)


def test_slow_looks_are_made_side_by_side() -> None:
    """Over a network a look takes its time: many are under way at once, all in their places."""
    threads = set[int]()

    def slow(request: Request) -> Proof:
        threads.add(threading.get_ident())
        time.sleep(0.002)
        return Proof(int(Path(request.path).stem), 0, 0)

    found = admitting._proofs([request_of(f"{number}") for number in range(100)], slow)

    assert [proof and proof.size_bytes for proof in found] == list(range(100))
    assert len(threads) > 4


def test_work_is_begun_before_all_is_queued(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker need not wait for the last of a million items: the first block is enough."""
    monkeypatch.setattr(enqueue_admission, "BLOCK", 2)
    mailbox, begun = Mailbox(), list[int]()
    planned = [Planned([request_of(f"{number}")]) for number in range(6)]

    def begin() -> None:
        begun.append(fake_ledger.reading.status("b").total)

    enqueue_admission.admit(planned, "b", "acc", fake_ledger, mailbox, on_work=begin)  # type: ignore[arg-type]

    assert begun == [2]
    assert len(mailbox.sent) == 6


def test_the_collector_is_as_before_whoever_ends_first() -> None:
    """Two that queue at once leave Python's collector as they found it."""
    usual = gc.get_threshold()
    one, other = ExitStack(), ExitStack()
    for stack in (one, other):
        stack.enter_context(enqueue_admission._rare_collections())
    during = gc.get_threshold()[0]
    one.close()
    other.close()

    assert during > usual[0]
    assert gc.get_threshold() == usual


def test_a_wrong_name_of_a_batch_is_refused_before_an_item_is_read() -> None:
    """A million items take minutes to be read: the name is checked first."""

    def items() -> Iterator[dict[str, Any]]:
        raise AssertionError("read")
        yield {}

    with pytest.raises(ConfigError, match="is no name"):
        enqueue(items(), batch="x" * 200)
