"""The report as Markdown: counts, failures and waits by class, each with its hint."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from geodes_tasks.ledger import FailureGroup
from geodes_tasks.model.formatting import escaped, human_bytes, human_seconds, printable
from geodes_tasks.model.results import DownloadRecord, ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import hint_of
from geodes_tasks.monitoring.snapshot import retry_command
from geodes_tasks.monitoring.wording import (
    OUTCOME_WORDS,
    STATE_WORDS,
    WAIT_WORDS,
    joined,
    local_time,
    without_addresses,
)

LONGEST = 2000
"""Characters of a text on the page, at most."""
TITLES = {
    State.FAILURE: "What failed",
    State.RETRY: "What waits, and continues by itself or when it is resumed",
}
"""State to the heading above its classes."""
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


@dataclass(slots=True)
class _Group:
    """Downloads that failed with one class of error, or wait for one reason."""

    example: DownloadRecord
    """One that can be retried, where there is one."""
    count: int = 0


@dataclass(slots=True)
class Summary:
    """Totals of a batch, counted record by record; keeps one example for each class of error."""

    states: Counter[State] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    collections: Counter[str] = field(default_factory=Counter)
    bytes_there: int = 0
    bytes_transferred: int = 0
    unverified: int = 0
    folder: str = ""
    """The deepest folder that has every file."""
    began: str = ""
    """ISO 8601, of the first start; empty before it."""
    ended: str = ""
    """The same of the last end."""
    groups: dict[tuple[State, str], _Group] = field(default_factory=dict)
    """By state and class of error, or by RETRY and reason."""

    def add(self, record: DownloadRecord) -> None:
        """Count one record."""
        self.states[record.state] += 1
        self.collections[record.collection] += 1
        self.bytes_transferred += record.bytes_transferred
        self.began = min(filter(None, (self.began, record.started_at)), default="")
        self.ended = max(self.ended, record.finished_at or "")
        if record.state is State.SUCCESS:
            self.outcomes[OUTCOME_WORDS[record.outcome] if record.outcome else "done"] += 1
            self.bytes_there += record.size_bytes or 0
            self.unverified += not record.verified
            self.sources[record.source or "already on disk"] += 1
            above = record.path.rpartition("/")[0]
            with contextlib.suppress(ValueError):  # absolute and relative paths of other programs
                self.folder = os.path.commonpath([self.folder or above, above])
        elif record.state in TITLES:
            kind = record.error.type if record.error else "unknown"
            key = record.state, str(record.reason) if record.state is State.RETRY else kind
            group = self.groups.setdefault(key, _Group(record))
            group.count += 1
            # What was refused when it was enqueued has no path, and `retry` cannot find it.
            if record.path and not group.example.path:
                group.example = record


def markdown_lines(
    records: Iterable[DownloadRecord], batch: str, folder: Path | None = None
) -> Iterator[str]:
    """Yield the summary of a batch as Markdown, line by line."""
    summary = Summary()
    for record in records:
        summary.add(record)
    yield f"# Downloads of batch {plain(batch)}"
    yield ""
    yield from _counts(summary)
    for state, title in TITLES.items():
        groups = [(kind, one) for (key, kind), one in summary.groups.items() if key is state]
        if groups:
            yield ""
            yield f"## {title}"
        # The largest group first: it is the one worth a remedy.
        for kind, group in sorted(groups, key=lambda pair: -pair[1].count):
            yield from _group(batch, kind, group, folder)


def _counts(summary: Summary) -> Iterator[str]:
    yield "| downloads | number |"
    yield "|---|---|"
    yield f"| all | {summary.states.total()} |"
    yield from (f"| {word} | {summary.states[s]} |" for s, word in STATE_WORDS.items())
    yield ""
    if summary.outcomes:
        outcomes = ", ".join(f"{count} {words}" for words, count in summary.outcomes.items())
        there, came = human_bytes(summary.bytes_there), human_bytes(summary.bytes_transferred)
        yield f"- On disk: {there} ({outcomes}) in {plain(summary.folder)}"
        yield f"- Over the network: {joined([came, _span(summary)])}"
        yield f"- From: {_listed(summary.sources)}"
    if summary.unverified:
        yield f"- Unverified, for the catalogue has no checksum: {summary.unverified}"
    yield f"- Collections: {_listed(summary.collections)}"


def _span(summary: Summary) -> str:
    """Return when the downloads began and ended, with the mean speed; empty where unknown."""
    with contextlib.suppress(ValueError, TypeError):  # times that another program wrote
        took = datetime.fromisoformat(summary.ended) - datetime.fromisoformat(summary.began)
        if (seconds := took.total_seconds()) > 0:
            speed = human_bytes(summary.bytes_transferred / seconds)
            times = f"from {local_time(summary.began)} to {local_time(summary.ended)}"
            return f"{times} ({human_seconds(seconds)} at {speed}/s)"
    return ""


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{plain(name or 'none')} {count}" for name, count in counts.most_common())


def _group(batch: str, kind: str, group: _Group, folder: Path | None) -> Iterator[str]:
    """Yield a class of failures or waits: an example, its error, what to do, the command."""
    record, error = group.example, group.example.error or ErrorInfo(kind, "")
    failure = FailureGroup(
        record.state, error.type, group.count, error, record.item_id, is_refused=not record.path
    )
    yield ""
    yield f"### {group.count} x {plain(WAIT_WORDS.get(kind, kind))}"
    yield ""
    yield f"- For example: {plain(record.item_id)}"
    if error.message:
        yield f"- Error: {plain(without_addresses(error.message))}"
    if hint := hint_of(failure):
        yield f"- What to do: {plain(hint)}"
    if record.state is not State.FAILURE:
        if record.due_at:
            yield f"- Next at: {plain(local_time(record.due_at))}"
    elif command := retry_command(batch, failure, folder):
        # CommonMark 0.31 section 6.1: a longer run of backticks than any within.
        fence = max(["", *re.findall("`+", command)], key=len) + "`"
        yield f"- Try again: {fence}{escaped(command)}{fence}"
    else:
        yield "- Asking again needs other items or another selection."


def plain(text: str) -> str:
    """Return text in one short line, escaped: nothing in it is Markdown, HTML or a code.

    Source: CommonMark 0.31 section 2.4, backslash escapes.
    """
    return _MARKS.sub(r"\\\1", printable(" ".join(text[:LONGEST].split()), LONGEST))
