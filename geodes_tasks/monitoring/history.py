"""The past of one download and of one account, as sections that a terminal draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geodes_tasks.ledger import Change
from geodes_tasks.model.formatting import human_bytes, plural
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.monitoring.picture import Row, Section, Tone
from geodes_tasks.monitoring.snapshot import moment
from geodes_tasks.monitoring.wording import (
    OUTCOME_WORDS,
    STATE_WORDS,
    WAIT_WORDS,
    joined,
    local_time,
    without_addresses,
)

CHANGES = 10
"""Changes of a concurrency limit listed at most: a number of lines."""


def history_sections(record: DownloadRecord) -> Iterator[Section]:
    """Yield the state of one download and each of its failed attempts."""
    state = STATE_WORDS[record.state]
    if record.reason:
        state = WAIT_WORDS.get(record.reason, record.reason)
    times = {"started": record.started_at, "ended": record.finished_at, "due": record.due_at}
    facts = {
        "state": joined([state, OUTCOME_WORDS.get(record.outcome, "") if record.outcome else ""]),
        "item": record.item_id,
        "file": record.path,
        "bytes": joined(
            [human_bytes(record.size_bytes), f"{human_bytes(record.bytes_transferred)} received"]
        ),
        "checksum": joined([record.checksum or "", "" if record.verified else "not verified"]),
        "times": joined(f"{word} {local_time(text)}" for word, text in times.items() if text),
        "error": joined([record.error.message, record.error.hint] if record.error else [], ". "),
    }
    rows = tuple(Row((name, text)) for name, text in facts.items() if text)
    yield Section("download", record.download_id, rows)
    # The scripts keep the last 20 failed attempts (library/states.lua); one that succeeded is not
    # among them: its result is the record itself.
    attempts = tuple(
        Row(
            (
                local_time(str(entry.get("at", ""))),
                str(entry.get("worker", "")).removeprefix("celery@"),
                str(entry.get("source", "")),
                human_bytes(entry.get("bytes")),
                without_addresses(str(entry.get("error", ""))),
            ),
            Tone.WAITS,
        )
        for entry in record.history
    )
    if attempts:
        yield Section("failed attempts", f"{plural(record.attempts, 'attempt')} in all", attempts)


def changes_section(account: str, changes: Sequence[Change]) -> Section:
    """Return the last changes of an account's concurrency limit, each with its reason."""
    rows = [
        Row(
            (
                local_time(moment(one.at) or ""),
                "lowered" if one.places < one.before else "raised",
                f"from {one.before} to {one.places}: {one.why}",
            )
        )
        for one in changes[:CHANGES]
    ]
    return Section(f"limit of {account}", "" if rows else "never changed", tuple(rows))
