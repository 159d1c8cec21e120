"""Rubbish in any key of the ledger: one look of recovery later everything else goes on."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import GeodesTasksError, TransferError
from geodes_tasks.ledger import Claim, Ledger, Progress, Renewal, Request, Verdict
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.monitoring.metrics import LedgerCollector
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer.retry import decide
from tests.conftest import asset_of
from worker.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from geodes_tasks.ledger import Wakeup

ACCOUNT = "default"
LONG = "x" * 100_000
TEXTS = ["", "abc", "{", "[1]", "nan", "inf", "-1", "9" * 400, LONG]
"""No id, no JSON, no number, or one that no counter holds."""
SCORES = [float("-inf"), 1.0, 9e14, float("inf")]

KINDS = {
    "batch:b": "hash",
    "batch:b:downloads": "zset",
    f"batch:b:ready:{ACCOUNT}": "list",
    "batches": "zset",
    f"account:{ACCOUNT}": "hash",
    f"account:{ACCOUNT}:ring": "zset",
    f"account:{ACCOUNT}:tape": "zset",
    f"account:{ACCOUNT}:poll": "hash",
    f"account:{ACCOUNT}:changes": "list",
    "holds": "hash",
    "held:geodes": "list",
    f"account:{ACCOUNT}:leases": "zset",
    f"account:{ACCOUNT}:sent": "zset",
    f"account:{ACCOUNT}:spent": "zset",
    "sources": "hash",
    "accounts": "set",
    "due": "zset",
    "since:turn": "zset",
    "since:backoff": "zset",
    "forgotten": "set",
    "forgotten:b:1": "zset",
    "totals": "hash",
    "paths": "hash",
    "workers": "zset",
    "worker:w@host": "hash",
    "slots": "string",
    "looked": "string",
    "settles": "string",
    "slots_of": "hash",
    "recoverer": "string",
    "litter": "zset",
    "fence": "string",
    "errors:b": "zset",
    "open": "set",
    "over": "hash",
    "hooks": "string",
    "limits": "string",
    "wanted": "set",
    "earlier": "set",
    "left_over": "hash",
    "kept": "zset",
}
"""The keys of docs/architecture.md, with their types."""

FIELDS = {
    f"account:{ACCOUNT}": (
        "paused_until places ceiling changed lowered well probe_wait"
        " probed told told_at told_period granted learned guessed window refilled quota_asked"
    ),
    f"account:{ACCOUNT}:poll": "next holder till period asked",
    "batch:b": "total bytes_total bytes_done priority weight turns created",
    "totals": ("total state:STARTED state:RETRY bytes_total bytes_done outcome:DOWNLOADED"),
    "worker:w@host": "slots version",
    "sources": "until:geodes avoid:geodes why:geodes worked:geodes offered:s3 hosts",
    "holds": "zzz source: batch:",
    "paths": "x",
    "over": "b",
    "left_over": "b",
}


ERROR = TransferError("https://h/a", "reset")
ENTRY = {
    "at": "2025-01-01T00:00:00+00:00",
    "worker": "w",
    "transferred": 7,
    "error": "TransferError",
}


class Mailbox:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        """Begin empty."""
        self.sent: list[str] = []

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep them."""
        self.sent.extend(wakeup.download_id for wakeup in wakeups)


class Town:
    """A ledger with work in every state, and one worker's recovery."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.folder, self.mailbox = ledger, folder, Mailbox()
        self.recovery = Recovery(ledger, self.mailbox, "w@host", 4)  # type: ignore[arg-type] # it sends
        for name in "abc":
            self.enqueue(name, "b")

    def enqueue(self, name: str, batch: str) -> Request:
        """Ask for a file."""
        path = self.folder / f"{name}.zip"
        request = Request(asset_of(name.encode(), path.name), str(path))
        self.ledger.admission.admit(batch, ACCOUNT, [request], lambda _: None)()
        return request

    def look(self) -> list[str]:
        """Look once; give the downloads that were sent."""
        before = len(self.mailbox.sent)
        self.recovery.recover()
        return self.mailbox.sent[before:]

    def is_shown(self) -> None:
        """Draw every view of what is there: no rubbish ends one of them in a traceback."""
        reader = SnapshotReader(self.ledger, ["b"])
        with contextlib.suppress(GeodesTasksError):
            [*sections(reader.read()), json.dumps(reader.read().to_dict())]
        with contextlib.suppress(GeodesTasksError):
            list(LedgerCollector(self.ledger).collect())

    def claim(self, request: Request) -> Claim:
        """Claim what must be free."""
        answer = self.ledger.leases.claim(request.download_id, "w@host")
        assert isinstance(answer, Claim), answer
        return answer

    def dies(self, request: Request) -> None:
        """Let the lease of a claimed download run out."""
        key = self.ledger.connection.key("account", ACCOUNT, "leases")
        self.ledger.connection.client.zadd(key, {request.download_id: 1})

    def ends(self, claim: Claim, how: str) -> None:
        """End an attempt: its file is proven, it has failed, or it is to be tried again."""
        if how == "done":
            self.ledger.leases.finish(claim, result_of(claim))
        elif how == "failed":
            self.ledger.leases.fail(claim, ERROR, ENTRY)
        else:
            self.ledger.leases.postpone(claim, ERROR, decide(ERROR, 1, "", Config()), ENTRY)

    def state(self, request: Request) -> str | None:
        """Read the state as it stands in the record."""
        key = self.ledger.connection.key("download", request.download_id)
        state: str | None = self.ledger.connection.client.hget(key, "state")
        return state

    def goes_on(self) -> None:
        """Enqueue, claim, renew, lose a worker, claim again, record: everything works."""
        self.ledger.retention.newly_finished()
        request = self.enqueue("later", "after")
        assert request.download_id in self.look()
        claim = self.claim(request)
        progress = Progress(claim.download_id, claim.token, 1)
        assert self.ledger.leases.renew([progress]) == [Renewal.OK]
        self.dies(request)
        assert request.download_id in self.look()
        claim = self.claim(request)
        self.ledger.leases.finish(claim, result_of(claim))
        assert self.state(request) == State.SUCCESS
        assert self.ledger.reading.status("after").states[State.SUCCESS] == 1


def result_of(claim: Claim) -> DownloadResult:
    """Prove a file."""
    return DownloadResult(
        outcome=Outcome.DOWNLOADED,
        path=claim.path,
        size_bytes=5,
        checksum=claim.asset.checksum,
        verified=True,
        bytes_transferred=5,
        source="geodes",
        proof=Proof(5, 1, 1),
    )


@pytest.fixture
def town(ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Town]:
    """Give a ledger on a real server; a part of a look that fails is a failure of the test."""
    with caplog.at_level(logging.WARNING):
        town = Town(ledger, tmp_path)
        yield town
    assert "recovery failed" not in caplog.text


@pytest.mark.parametrize("key", KINDS)
def test_a_key_of_another_type(town: Town, key: str) -> None:
    """A key is replaced by one of another type: it is removed, and everything goes on."""
    client, name = town.ledger.connection.client, town.ledger.connection.key(key)
    client.delete(name)
    if KINDS[key] == "string":
        client.rpush(name, "rubbish")
    else:
        client.set(name, "rubbish")

    town.is_shown()
    town.look()

    town.is_shown()
    town.goes_on()


@pytest.mark.parametrize("key", [key for key, kind in KINDS.items() if kind == "zset"])
def test_strange_entries_in_a_sorted_set(town: Town, key: str) -> None:
    """Ids without a record, due at all times or never: dropped, and what is healthy goes on."""
    name = town.ledger.connection.key(key)
    for score in SCORES:
        town.ledger.connection.client.zadd(name, {f"{text}{score}": score for text in TEXTS})

    town.is_shown()
    town.look()

    town.is_shown()
    town.goes_on()


@pytest.mark.parametrize("key", [key for key, kind in KINDS.items() if kind in {"list", "set"}])
def test_strange_entries_in_a_list_or_set(town: Town, key: str) -> None:
    """Texts that are no id and no JSON: dropped, and what is healthy goes on."""
    client, name = town.ledger.connection.client, town.ledger.connection.key(key)
    put = client.sadd if KINDS[key] == "set" else client.rpush
    put(name, *TEXTS, "no-such-id 1", "1 2 3", json.dumps({"id": "x"}))

    town.is_shown()
    town.look()

    town.is_shown()
    town.goes_on()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:6])
@pytest.mark.parametrize("key", FIELDS)
def test_strange_values_in_a_hash(town: Town, key: str, text: str) -> None:
    """Numbers that are none: they count as nothing, and everything goes on."""
    values = dict.fromkeys(FIELDS[key].split(), text)
    town.ledger.connection.client.hset(town.ledger.connection.key(key), mapping=values)

    town.is_shown()
    town.look()

    town.is_shown()
    town.goes_on()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:6])
@pytest.mark.parametrize("key", [key for key, kind in KINDS.items() if kind == "string"])
def test_strange_strings(town: Town, key: str, text: str) -> None:
    """Slots, tokens and times that are no numbers count as none."""
    town.ledger.connection.client.set(town.ledger.connection.key(key), text)

    town.is_shown()
    town.look()

    town.is_shown()
    town.goes_on()


RECORD = "state spec path size done account batches attempts token history reason suspect proof due"


@pytest.mark.parametrize("text", [None, *TEXTS], ids=lambda text: str(text)[:6])
@pytest.mark.parametrize("field", RECORD.split())
@pytest.mark.parametrize("where", ["ready", "sent", "running", "due"])
def test_a_damaged_record(town: Town, where: str, field: str, text: str | None) -> None:
    """A record that cannot be understood ends FAILURE; any other goes on; nothing stands still."""
    request = town.enqueue("d", "b")
    client, key = (
        town.ledger.connection.client,
        town.ledger.connection.key("download", request.download_id),
    )
    if where != "ready":
        town.look()
    if where == "running":
        town.claim(request)
        town.dies(request)
    if where == "due":
        client.hset(key, mapping={"state": "RETRY", "reason": "backoff"})
        client.zadd(town.ledger.connection.key("due"), {request.download_id: 1})
        client.zrem(town.ledger.connection.key("account", ACCOUNT, "sent"), request.download_id)
    if text is None:
        client.hdel(key, field)
    else:
        client.hset(key, field, text)

    town.is_shown()
    sent = town.look()
    answer: Any = None
    if request.download_id in sent or where == "sent":
        answer = town.ledger.leases.claim(request.download_id, "w@host")

    if field in {"spec", "state"} or (field in {"account", "batches"} and not text):
        assert town.state(request) == State.FAILURE, answer
    if isinstance(answer, Verdict):
        assert town.state(request) == State.FAILURE, answer
    town.goes_on()


@pytest.mark.parametrize("text", [None, *TEXTS], ids=lambda text: str(text)[:6])
@pytest.mark.parametrize("field", [*RECORD.split(), "error", "checksum", "members", "verified"])
@pytest.mark.parametrize("where", ["failed", "done", "due"])
def test_commands_meet_a_damaged_record(
    town: Town, where: str, field: str, text: str | None
) -> None:
    """Nothing that a person asks for a batch fails for one record; the others do what was asked."""
    request, other = town.enqueue("d", "b"), town.enqueue("other", "b")
    town.look()
    for one in (request, other):
        town.ends(town.claim(one), where)
    client = town.ledger.connection.client
    record = town.ledger.connection.key("download", request.download_id)
    if text is None:
        client.hdel(record, field)
    else:
        client.hset(record, field, text)
    asked = [request.download_id, other.download_id]
    reading, retention = town.ledger.reading, town.ledger.retention

    town.is_shown()
    list(reading.records("b"))
    list(reading.failures("b"))
    reading.error(request.download_id)
    reading.named("b", ["other.zip"])
    retention.proofs(asked)
    begun = town.ledger.control.retry(asked)
    list(reading.records("b"))
    admitted = town.enqueue("d", "new"), town.enqueue("other", "new")
    town.ledger.control.withdraw("b", asked)
    retention.forget("b", unfinished=True)
    retention.sweep()

    assert begun >= (where != "done")
    assert admitted == (request, other)
    town.goes_on()


def test_a_running_record_removed_by_hand(town: Town) -> None:
    """Its lease goes, and the lease of another dead worker is taken back at the same look."""
    one, other = town.enqueue("one", "b"), town.enqueue("other", "b")
    town.look()
    for request in (one, other):
        town.claim(request)
        town.dies(request)
    town.ledger.connection.client.delete(town.ledger.connection.key("download", one.download_id))

    assert other.download_id in town.look()
    assert town.ledger.reading.running() == []


def test_directories_of_another_type(ledger: Ledger) -> None:
    """Recovery removes a key that holds no directories, and directories are kept again."""
    asset = asset_of(b"archive")
    ledger.connection.client.set(ledger.connection.key("directories"), "text")

    assert ledger.directories.find(asset) == b""
    ledger.dispatch.recover()
    ledger.directories.keep(asset, b"PK")
    assert ledger.directories.find(asset) == b"PK"
