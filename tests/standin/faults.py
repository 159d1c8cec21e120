"""Faults on duty: what goes wrong for which file, how often, and what was seen so far.

Each mode belongs to a stage. For one request the first fault of each stage that still has
something to do takes part, so a resumable server that also cuts bodies is two faults.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.standin.modes import OFFLINE, STAGES, BadKey, BadLength, Mode, RangeBehaviour, Stage


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; fields a mode does not name in its docstring do nothing."""

    mode: Mode
    """What goes wrong."""
    target: str | None = None
    """MD5, item id or product identifier it strikes; None strikes every download."""
    times: int | None = None
    """How often; None for ever."""
    skip: int = 0
    """How many requests it lets pass first."""
    after: int | None = None
    """Body bytes before it happens; half of the file when None."""
    status: int | None = None
    """Status code."""
    body: str | None = None
    """Words in place of the usual ones."""
    html: bool = False
    """A page instead of JSON."""
    retry_after: str | int | None = None
    """A key of RETRY_AFTER_FORMS, or the header's value as it is to be sent."""
    seconds: float | None = None
    """Seconds: the delay, the ``Retry-After`` (both 2 when None), or the time on tape."""
    expires: float | None = None
    """Seconds after which a file that came back is on tape again."""
    location: str | None = None
    """Where a redirect points."""
    answer: BadKey | None = None
    """What a refused key gets; the stand-in's own setting when None."""
    polls: int | None = None
    """Availability answers after which a file on tape is online."""
    gets: int | None = None
    """GETs after which a file on tape is online."""
    limit: int = 4
    """Downloads a key may have open."""
    downloads: int = 1
    """GETs that pass before the key is refused."""
    behaviour: RangeBehaviour = RangeBehaviour.GOOD
    """What a ``Range`` request gets."""
    at: int | None = None
    """Index of the byte turned over."""
    length: BadLength | int = BadLength.ABSENT
    """How ``Content-Length`` is false, or the number it says."""
    rate: float | None = None
    """Bytes a second."""

    @property
    def stage(self) -> Stage:
        """The moment at which it acts."""
        return STAGES.get(self.mode, Stage.GATE)


def fault_from(mode: Mode | str, target: str | None, options: dict[str, Any]) -> Fault:
    """Return a fault from plain values, as a test or the control route gives them.

    Raises:
        ValueError: a mode or choice is unknown; the text names it.
        TypeError: a parameter is unknown.
    """
    chosen = Mode(str(mode.value if isinstance(mode, Mode) else mode))
    values = dict(options)
    if values.get("answer") is not None:
        values["answer"] = BadKey(values["answer"])
    if "behaviour" in values:
        values["behaviour"] = RangeBehaviour(values["behaviour"])
    if chosen in OFFLINE and "times" in values:
        values["gets"] = values.pop("times")
    if isinstance(values.get("length"), str):
        values["length"] = BadLength(values["length"])
    return Fault(chosen, target, **values)


@dataclass
class Armed:
    """A fault on duty, and what it has seen so far."""

    fault: Fault
    since: float
    """The stand-in's clock when it was set."""
    seen: int = 0
    """Requests it looked at, passed ones included."""
    polls: int = 0
    """Availability answers given while the file was on tape."""
    by_key: Counter[str | None] = field(default_factory=Counter)
    """Requests it looked at, by key."""
    lifted: bool = False
    """Set when it is over before its time."""
    online_since: float | None = None
    """The stand-in's clock when a file on tape came back."""

    def bring_online(self, now: float) -> None:
        """Bring a file back from tape."""
        self.online_since = now

    def on_tape(self, now: float, *, gets: int = 0, polls: int = 0) -> bool:
        """Count questions about a file, and tell whether it is on tape at this one."""
        fault = self.fault
        expired = (
            fault.expires is not None
            and self.online_since is not None
            and now - self.online_since >= fault.expires
        )
        if expired:
            self.online_since, self.since, self.seen, self.polls = None, now, 0, 0
        if self.online_since is None and self._restored(now):
            self.bring_online(now)
        self.seen += gets
        self.polls += polls
        return self.online_since is None

    def _restored(self, now: float) -> bool:
        """Tell whether enough was asked, or enough time has gone by, for a file to be back."""
        pairs = (
            (self.seen, self.fault.gets),
            (self.polls, self.fault.polls),
            (now - self.since, self.fault.seconds),
        )
        return any(limit is not None and count >= limit for count, limit in pairs)

    @property
    def spent(self) -> bool:
        """Whether it has nothing more to do."""
        times = self.fault.times
        return self.lifted or (times is not None and self.seen - self.fault.skip >= times)


class FaultBook:
    """All faults on duty, in the order in which they were set."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []
        self._lock = threading.RLock()

    def add(self, fault: Fault, now: float) -> Armed:
        """Put a fault on duty."""
        armed = Armed(fault, now)
        with self._lock:
            self._armed.append(armed)
        return armed

    def clear(self, target: str | None = None) -> None:
        """Lift every fault, or only those set for one target."""
        with self._lock:
            for armed in self._armed:
                armed.lifted |= target is None or armed.fault.target == target
            self._armed = [armed for armed in self._armed if not armed.lifted]

    def active(self, names: set[str], stage: Stage) -> list[Armed]:
        """Return the faults of a stage that a file with these names may meet."""
        with self._lock:
            return [
                armed
                for armed in self._armed
                if armed.fault.stage is stage
                and not armed.spent
                and (armed.fault.target is None or armed.fault.target in names)
            ]

    def strike(self, armed: Armed, key: str | None) -> int | None:
        """Count a request against a fault; return which strike it is, None when it passes."""
        with self._lock:
            if armed.spent:
                return None
            armed.seen += 1
            armed.by_key[key] += 1
            return armed.seen - armed.fault.skip if armed.seen > armed.fault.skip else None

    def bring_online(self, names: set[str] | None, now: float) -> None:
        """Bring the files of these names back from tape; None for all files."""
        with self._lock:
            for armed in self._armed:
                target = armed.fault.target
                if armed.fault.mode in OFFLINE and (names is None or target in names):
                    armed.bring_online(now)

    def on_tape(self, armed: Armed, now: float, *, gets: int = 0, polls: int = 0) -> bool:
        """Count questions about a file on tape, and tell whether it is there still."""
        with self._lock:
            return armed.on_tape(now, gets=gets, polls=polls)

    def first(self, names: set[str], stage: Stage, key: str | None) -> tuple[Fault, int] | None:
        """Return the first fault of a stage that strikes this request, and how often it has."""
        for armed in self.active(names, stage):
            if (count := self.strike(armed, key)) is not None:
                return armed.fault, count
        return None
