"""The report as Markdown: counts, failures and waits by class, each with its hint."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from geodes_tasks.model.formatting import escaped, human_bytes, printable
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.wording import STATE_WORDS

LONGEST = 2000
"""Characters of a text on the page, at most."""
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


@dataclass(slots=True)
class _Group:
    """Downloads with errors of one class."""

    example: DownloadRecord
    count: int = 0
    can_be_retried: int = 0
    """Number of those with a path; the others were refused when they were enqueued."""


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
    failures: dict[str, _Group] = field(default_factory=dict)
    waits: dict[str, _Group] = field(default_factory=dict)

    def add(self, record: DownloadRecord) -> None:
        """Count one record."""
        self.states[record.state] += 1
        self.collections[record.collection] += 1
        self.bytes_transferred += record.bytes_transferred
        if record.state is State.SUCCESS:
            self.outcomes[str(record.outcome)] += 1
            self.bytes_there += record.size_bytes or 0
            self.unverified += not record.verified
            self.sources[record.source or "already on disk"] += 1
        elif record.state is State.FAILURE:
            kind = record.error.type if record.error else "unknown"
            _count(self.failures, kind, record)
        elif record.state is State.RETRY:
            _count(self.waits, str(record.reason), record)


def _count(groups: dict[str, _Group], kind: str, record: DownloadRecord) -> None:
    group = groups.setdefault(kind, _Group(record))
    group.count += 1
    group.can_be_retried += bool(record.path)


def markdown_lines(records: Iterable[DownloadRecord], batch: str) -> Iterator[str]:
    """Yield the summary of a batch as Markdown, line by line."""
    summary = Summary()
    for record in records:
        summary.add(record)
    yield f"# Downloads of batch {plain(batch)}"
    yield ""
    yield from _counts(summary)
    yield from _failures(summary, batch)
    yield from _waits(summary)


def _counts(summary: Summary) -> Iterator[str]:
    total = summary.states.total()
    yield "| downloads | number |"
    yield "|---|---|"
    yield f"| all | {total} |"
    yield from (f"| {word} | {summary.states[s]} |" for s, word in STATE_WORDS.items())
    yield ""
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(summary.outcomes.items()))
    if outcomes:
        there = human_bytes(summary.bytes_there)
        yield f"- On disk: {there} ({outcomes})."
        yield f"- Over the network: {human_bytes(summary.bytes_transferred)}."
        yield f"- From: {_listed(summary.sources)}."
    if summary.unverified:
        yield f"- Unverified, for the catalogue has no checksum: {summary.unverified}."
    yield f"- Collections: {_listed(summary.collections)}."


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{plain(name or 'none')} {count}" for name, count in counts.most_common())


def _failures(summary: Summary, batch: str) -> Iterator[str]:
    if not summary.failures:
        return
    yield ""
    yield "## What failed"
    # The largest group first: it is the one worth a remedy.
    for kind, group in sorted(summary.failures.items(), key=lambda pair: -pair[1].count):
        yield ""
        yield f"### {group.count} x {plain(kind)}"
        yield ""
        yield from _example(group)
        # `retry` cannot find what was refused when it was enqueued: it has no path.
        if group.can_be_retried:
            command = escaped(shlex.join(("geodes-tasks", "retry", batch, "--class", kind)))
            # CommonMark 0.31 section 6.1: a longer run of backticks than any within.
            fence = max(["", *re.findall("`+", command)], key=len) + "`"
            yield f"- Try again: {fence}{command}{fence}"
        else:
            yield "- Asking again needs other items or another selection."


def _waits(summary: Summary) -> Iterator[str]:
    if not summary.waits:
        return
    yield ""
    yield "## What waits, and continues by itself or when it is resumed"
    for reason, group in sorted(summary.waits.items(), key=lambda pair: -pair[1].count):
        yield ""
        yield f"### {group.count} x {plain(reason)}"
        yield ""
        yield from _example(group)
        if group.example.due_at:
            yield f"- Goes on at: {group.example.due_at}"


def _example(group: _Group) -> Iterator[str]:
    record = group.example
    yield f"- For example: {plain(record.item_id)}"
    if record.error is not None:
        yield f"- Error: {plain(record.error.message)}"
        if record.error.hint:
            yield f"- What to do: {plain(record.error.hint)}"


def plain(text: str) -> str:
    """Return text in one short line, escaped: nothing in it is Markdown, HTML or a code.

    Source: CommonMark 0.31 section 2.4, backslash escapes.
    """
    return _MARKS.sub(r"\\\1", printable(" ".join(text[:LONGEST].split()), LONGEST))
