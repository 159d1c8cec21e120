"""A ledger filled at size: real downloads are copied with pipelined commands, key by key.

Some downloads of each state are admitted and brought there through the ledger. Each further one is
a copy of one of them: its record has its own id, path and spec, it stands in every list, set and
hash in which the original stands, and the counters are raised as much.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from geodes_tasks.errors import OfflineError, TransferError
from geodes_tasks.ledger import Claim, Ledger, Limits, Request
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import Decision, DownloadResult, Proof
from geodes_tasks.model.states import Outcome, Reason

ACCOUNT = "default"
LIMITS = Limits(concurrent=1_000_000, window=1_000_000)
STATES = ("queued", "finished", "failed", "delayed", "offline", "cancelled")
"""The batches of a filled ledger; each has downloads of one state."""
SHARES = {"queued": 0.4, "finished": 0.3, "failed": 0.1, "delayed": 0.1, "offline": 0.05}
"""Share of each batch in all downloads; the last one has the rest."""
ORIGINALS = 20
"""Number of downloads of each state that are really brought there."""
BLOCK = 500
"""Number of copies in one pipeline."""
SIZE_BYTES = 800_000_000
PROOF = Proof(SIZE_BYTES, 1_700_000_000_000_000_000, 4711)
ENTRY = {"at": "1", "worker": "w@host", "source": "geodes", "bytes": 3, "transferred": 3,
         "error": "TransferError: the connection was reset"}  # fmt: skip


def request_of(state: str, number: int) -> Request:
    """Make the request that an item of the portal becomes."""
    unique = STATES.index(state) * 10**8 + number
    name = f"S2A_MSIL1C_20250402T175741_N0511_R141_T31TCJ_20250403T{unique:09}"
    urn, digest = (
        f"URN:FEATURE:DATA:gdh:{unique:08x}-0000-5000-8000-000000000000:V1",
        f"{unique:032x}",
    )
    asset = Asset(
        item_id=urn, collection="PEPS_S2_L1C", key=f"{name}.zip", title=f"{name}.zip",
        hrefs={"geodes": f"https://portal.invalid/api/download/{urn}/files/{digest}"},
        size_bytes=SIZE_BYTES, checksum=Checksum("md5", digest),
    )  # fmt: skip
    return Request(asset, f"/data/downloads/PEPS_S2_L1C/{name}.zip")


def result_of(claim: Claim) -> DownloadResult:
    """Return what the engine returns for a fetched file."""
    return DownloadResult(
        outcome=Outcome.DOWNLOADED, path=claim.path, size_bytes=SIZE_BYTES,
        checksum=claim.asset.checksum, verified=True, bytes_transferred=SIZE_BYTES,
        source="geodes", proof=PROOF,
    )  # fmt: skip


def claimed(ledger: Ledger, identifier: str) -> Claim:
    """Claim a download that must be free."""
    answer = ledger.leases.claim(identifier, "w@host")
    assert isinstance(answer, Claim), answer
    return answer


def fail(ledger: Ledger, identifier: str) -> None:
    """Let a download fail for good."""
    ledger.leases.fail(claimed(ledger, identifier), TransferError("href", "reset"), ENTRY)


def delay(ledger: Ledger, identifier: str) -> None:
    """Let a download wait for an hour after an error."""
    decision = Decision(True, Reason.BACKOFF, 3600.0)
    ledger.leases.postpone(claimed(ledger, identifier), TransferError("h", "x"), decision, ENTRY)


def go_offline(ledger: Ledger, identifier: str) -> None:
    """Let a download find its file on tape."""
    decision = Decision(True, Reason.OFFLINE, 300.0, counted=False)
    ledger.leases.postpone(claimed(ledger, identifier), OfflineError("h", 410), decision, ENTRY)


def finish(ledger: Ledger, identifier: str) -> None:
    """Let a download succeed."""
    claim = claimed(ledger, identifier)
    ledger.leases.finish(claim, result_of(claim))


ENDS: dict[str, Callable[[Ledger, str], object]] = {
    "queued": lambda *_: None,
    "finished": finish,
    "failed": fail,
    "delayed": delay,
    "offline": go_offline,
    "cancelled": lambda ledger, identifier: ledger.control.cancel([identifier]),
}
"""How a download gets into each state."""


def bring(ledger: Ledger, state: str, numbers: Sequence[int]) -> list[Request]:
    """Admit downloads to the batch of a state and bring them there, all through the ledger."""
    requests = [request_of(state, number) for number in numbers]
    for first in range(0, len(requests), 200):
        ledger.admission.admit(state, ACCOUNT, requests[first : first + 200], lambda _: None)()
    for request in requests:
        ENDS[state](ledger, request.download_id)
    return requests


def keys_of(ledger: Ledger) -> dict[str, tuple[str, Any]]:
    """Return type and content of every key but the records, by its name without the prefix."""
    client, prefix = ledger.connection.client, ledger.connection.prefix
    read: dict[str, Callable[[str], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    found = {}
    for key in client.scan_iter(f"{prefix}*", count=1000):
        name = key.removeprefix(prefix)
        if not name.startswith("download:"):
            kind = client.type(key)
            found[name] = kind, read[kind](key)
    return found


class Filler:
    """Copies the downloads of one state."""

    def __init__(self, ledger: Ledger, state: str, have: int) -> None:
        """Take a ledger in which ``have`` downloads of the state are, brought there really."""
        self.ledger, self.state, self.have = ledger, state, have
        self._client, self._prefix = ledger.connection.client, ledger.connection.prefix
        self._original = request_of(state, have - 1)
        self._keys = keys_of(ledger)
        # No answers are sent and read, and texts of one length are exchanged in a packed command:
        # a million copies take a minute this way and a quarter of an hour otherwise.
        self._link = self._client.connection_pool.get_connection()
        key = ledger.connection.key("download", self._original.download_id)
        record = chain.from_iterable(self._client.hgetall(key).items())
        (self._record,) = self._link.pack_command("HSET", key, *record)

    def fill(self, count: int) -> None:
        """Copy until the state has so many downloads."""
        self._link.send_command("CLIENT", "REPLY", "OFF")
        for first in range(self.have, count, BLOCK):
            self._copy(range(first, min(first + BLOCK, count)))
        self._link.send_command("CLIENT", "REPLY", "ON")
        assert self._link.read_response() == "OK"
        self._client.connection_pool.release(self._link)
        self._raise_counters(count - self.have)

    def _copy(self, numbers: range) -> None:
        requests = [request_of(self.state, number) for number in numbers]
        ids = [one.download_id for one in requests]
        commands = []
        for identifier, request in zip(ids, requests, strict=True):
            record = self._record.replace(self._original.download_id.encode(), identifier.encode())
            unique = zip(unique_texts(self._original), unique_texts(request), strict=True)
            for before, after in unique:
                record = record.replace(before, after)
            commands.append(record)
        for name, kind, old, score in self._places():
            copies = [old.replace(self._original.download_id, one) for one in ids]
            step = name.endswith(":downloads")
            scores = (score + step * (number - self.have + 1) for number in numbers)
            words: dict[str, tuple[str, Iterable[Iterable[object]]]] = {
                "zset": ("ZADD", zip(scores, copies, strict=True)),
                "list": ("RPUSH", ((one,) for one in copies)),
                "hash": ("HSET", zip((one.path for one in requests), copies, strict=True)),
            }
            command, entries = words[kind]
            commands += self._link.pack_command(
                command, self._prefix + name, *chain.from_iterable(entries)
            )
        self._link.send_packed_command(commands)

    def _places(self) -> Iterator[tuple[str, str, str, float]]:
        """Yield key, type, entry and score wherever the original stands."""
        wanted = self._original.download_id
        for name, (kind, content) in self._keys.items():
            if kind == "zset":
                yield from ((name, kind, old, score) for old, score in content if wanted in old)
            elif kind == "list":
                yield from ((name, kind, old, 0.0) for old in content if wanted in old)
            elif kind == "hash":
                yield from ((name, kind, old, 0.0) for old in content.values() if wanted == old)

    def _raise_counters(self, more: int) -> None:
        """Raise each counter by the part that one download of the state has in it."""
        # Only ends are counted for the whole ledger.
        totals = self._keys.get("totals", ("hash", {}))[1]
        for field, value in self._keys[f"batch:{self.state}"][1].items():
            if field == "total" or field.startswith(("state:", "outcome:", "waiting:", "bytes_")):
                amount = int(value) * more // self.have
                self._client.hincrby(f"{self._prefix}batch:{self.state}", field, amount)
                if field in totals:
                    self._client.hincrby(f"{self._prefix}totals", field, amount)


def unique_texts(request: Request) -> tuple[bytes, ...]:
    """Return the texts by which a record differs from others, apart from its id."""
    assert request.asset.checksum is not None
    urn, digest = request.asset.item_id.split("gdh:")[1], request.asset.checksum.digest
    number = "T" + request.asset.key.removesuffix(".zip").rpartition("T")[2]
    return urn.encode(), digest.encode(), number.encode()


def fill(ledger: Ledger, count: int, workers: int) -> None:
    """Fill an empty ledger with downloads in all states, several batches, and workers."""
    rest = count - sum(int(count * share) for share in SHARES.values())
    # The queued ones last: no end of another one sends a message for them, which would be copied.
    for state in reversed(STATES):
        bring(ledger, state, range(ORIGINALS))
    assert not ledger.dispatch.sent(ACCOUNT, 0.0)
    for filler in [Filler(ledger, state, ORIGINALS) for state in STATES]:
        filler.fill(int(count * SHARES.get(filler.state, 0)) or rest)
    for number in range(workers):
        ledger.dispatch.register(f"w{number}@host", 16)
        ledger.dispatch.publish(f"w{number}@host", [ACCOUNT])


def without_times(keys: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the content of keys without times, tokens and order of equal times.

    Sums that no script reads are left out too: errors by class, bytes by source, the speed.
    """
    found: dict[str, Any] = {}
    for name, (kind, content) in keys.items():
        if name == f"account:{ACCOUNT}":
            continue
        if kind == "hash":
            found[name] = {
                field: value for field, value in content.items()
                if not (_is_time(value) or field.startswith(("bytes:", "errors:", "speed")))
            }  # fmt: skip
        elif kind == "zset":
            found[name] = sorted(one for one, _ in content)
        elif kind != "string":
            found[name] = sorted(content)
    return found


def _is_time(value: str) -> bool:
    return value.replace(".", "").replace(" ", "").isdigit() and len(value) > 12


def records_of(ledger: Ledger) -> dict[str, dict[str, str]]:
    """Return all records without times and tokens."""
    client, prefix = ledger.connection.client, ledger.connection.prefix
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key in client.scan_iter(f"{prefix}download:*", count=1000):
        row = client.hgetall(key)
        found[key.removeprefix(prefix)] = {
            name: value for name, value in row.items()
            if name not in {"token", "started", "finished", "due", "offline_since", "history"}
        }  # fmt: skip
    return found
