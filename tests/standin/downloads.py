"""The download route: who may have the file, what stands in its place, how it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from tests.standin.accounts import Accounts
from tests.standin.answers import Answer, Ending, Framing
from tests.standin.bodies import FlippedBody, GeneratedBody
from tests.standin.faults import Armed, Fault, FaultBook
from tests.standin.gates import GATES, Scene, over_quota, refuse_key, throttled
from tests.standin.modes import OFFLINE, BadLength, Mode, Stage
from tests.standin.ranges import ranged
from tests.standin.settings import Clock
from tests.standin.spec import ServedFile
from tests.standin.wire import Request


class Downloads:
    """Answers GETs on files, with the faults that are set."""

    def __init__(self, accounts: Accounts, faults: FaultBook, clock: Clock) -> None:
        self._accounts = accounts
        self._faults = faults
        self._clock = clock

    def answer(self, request: Request, file: ServedFile, scene: Scene) -> Answer:
        """Return the answer to one GET of a file."""
        answer = self.refusal(request, file.names, scene) or self._gate(request, file, scene)
        if answer is None:
            answer = self._paced(file, request, scene, self._file(request, file, scene))
        delay = scene.settings.latency_s
        if struck := self._faults.first(file.names, Stage.DELAY, request.key):
            delay += 2.0 if struck[0].seconds is None else struck[0].seconds
        return replace(answer, delay_s=delay)

    def refusal(self, request: Request, names: set[str], scene: Scene) -> Answer | None:
        """Return what a bad key, too many open downloads or a used-up quota get, or None."""
        accounts, settings = self._accounts, scene.settings
        if not accounts.knows(request.key):
            how = settings.bad_key if request.key else settings.missing_key
            return refuse_key(how, scene)
        if crowded := self._crowded(request, names, settings.max_open):
            return throttled(crowded, scene)
        if not accounts.admit(request.key):
            return over_quota(accounts.quota.status if accounts.quota else 403)
        return None

    def key_refusal(self, request: Request, scene: Scene) -> Answer | None:
        """Return what a question gets while a fault refuses the key for every file, or None."""
        for armed in self._faults.active(set(), Stage.GATE):
            spent = armed.by_key[request.key] >= armed.fault.downloads
            revoked = armed.fault.mode is Mode.KEY_REVOKED_MIDWAY and spent
            if revoked or armed.fault.mode in {Mode.BAD_KEY, Mode.REDIRECT_LOOP}:
                return GATES[armed.fault.mode](armed.fault, scene)
        return None

    def _crowded(self, request: Request, names: set[str], cap: int | None) -> Fault | None:
        """Let a download in among the open ones of its key, or return the fault that it meets."""
        for armed in self._faults.active(names, Stage.CROWD):
            if not self._accounts.enter(request.entry, request.key, armed.fault.limit):
                self._faults.strike(armed, request.key)
                return armed.fault
            return None
        if self._accounts.enter(request.entry, request.key, cap):
            return None
        return Fault(Mode.CONCURRENCY)

    def _gate(self, request: Request, file: ServedFile, scene: Scene) -> Answer | None:
        """Return the answer that a fault puts in the place of the file, or None."""
        for armed in self._faults.active(file.names, Stage.GATE):
            if self._closed(armed, request):
                return GATES[armed.fault.mode](armed.fault, scene)
        return None

    def _closed(self, armed: Armed, request: Request) -> bool:
        """Tell whether a fault in place of the file strikes this request."""
        fault = armed.fault
        if fault.mode in OFFLINE:
            return self._faults.on_tape(armed, self._clock.now(), gets=1)
        struck = self._faults.strike(armed, request.key)
        if fault.mode is Mode.KEY_REVOKED_MIDWAY:
            return struck is not None and armed.by_key[request.key] > fault.downloads
        return struck is not None

    def availability(self, file: ServedFile) -> tuple[bool, float | None]:
        """Tell whether a file is online, and until when; the question counts as a poll."""
        now = self._clock.now()
        tapes = [a for a in self._faults.active(file.names, Stage.GATE) if a.fault.mode in OFFLINE]
        still = [self._faults.on_tape(armed, now, polls=1) for armed in tapes]
        if any(still):
            return False, None
        ends = [
            a.online_since + a.fault.expires for a in tapes if a.online_since and a.fault.expires
        ]
        return True, min(ends, default=None)

    def _file(self, request: Request, file: ServedFile, scene: Scene) -> Answer:
        """Return the file, whole or in part, with what is wrong with its bytes."""
        whole = Answer(200, file.body, file.headers)
        behaviour = scene.settings.range
        if found := self._range_fault(request, file):
            behaviour = found.behaviour
        wanted, if_range = request.headers.get("range"), request.headers.get("if-range")
        answer = ranged(whole, behaviour, file.md5, wanted, if_range)
        if answer.status not in (200, 206):
            return answer
        for stage in (Stage.BODY, Stage.LENGTH):
            if struck := self._faults.first(file.names, stage, request.key):
                fault, count = struck
                answer = DAMAGE[fault.mode](answer, fault, file, count)
        return answer

    def _range_fault(self, request: Request, file: ServedFile) -> Fault | None:
        """Return the range fault of this request; plain requests see it but do not use it up."""
        if "range" in request.headers:
            struck = self._faults.first(file.names, Stage.RANGE, request.key)
            return struck[0] if struck else None
        active = self._faults.active(file.names, Stage.RANGE)
        return active[0].fault if active else None

    def _paced(self, file: ServedFile, request: Request, scene: Scene, answer: Answer) -> Answer:
        """Return the answer at the speed the settings or a fault allow it."""
        answer = replace(answer, rate=scene.settings.rate)
        if struck := self._faults.first(file.names, Stage.PACE, request.key):
            fault = struck[0]
            answer = replace(answer, rate=fault.rate or answer.rate)
            if fault.mode is Mode.STALL or fault.after is not None:
                answer = replace(answer, cut=_after(answer, fault), ending=Ending.STALL)
        return answer


def _after(answer: Answer, fault: Fault) -> int:
    """Return after how many body bytes a fault happens."""
    return answer.length // 2 if fault.after is None else fault.after


def _cut(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return the answer cut short, by a close or a reset."""
    ending = Ending.RESET if fault.mode is Mode.RESET else Ending.FIN
    return replace(answer, cut=_after(answer, fault), ending=ending)


def _chunked(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return the answer in chunks: whole, cut, or short but properly ended."""
    answer = replace(answer, framing=Framing.CHUNKED)
    if fault.mode is Mode.CHUNKED:
        return answer
    answer = replace(answer, cut=_after(answer, fault))
    if fault.mode is Mode.CHUNKED_CUT:
        return replace(answer, last_chunk=False, ending=Ending.FIN)
    return answer


def _corrupt(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return the answer with one byte turned over, elsewhere each time unless told where."""
    if not answer.length:
        return answer
    drawn = hashlib.blake2b(f"{file.md5}/{count}".encode(), digest_size=8).digest()
    at = answer.start + int.from_bytes(drawn, "big") % answer.length
    return replace(
        answer, content=FlippedBody(answer.content, at if fault.at is None else fault.at)
    )


def _mismatch(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return other bytes of the same length, the same ones each time."""
    return replace(answer, content=GeneratedBody(f"mismatch/{file.md5}", file.body.size))


def _gzip(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return the answer compressed; its length is not known beforehand."""
    return replace(answer, gzip=True, framing=Framing.CHUNKED)


def _bad_length(answer: Answer, fault: Fault, file: ServedFile, count: int) -> Answer:
    """Return the answer with a false length, and a close that tells the true one."""
    if fault.length is BadLength.ABSENT:
        return replace(answer, framing=Framing.CLOSE)
    false = {
        BadLength.NEGATIVE: (answer.length & 0xFFFFFFFF | 0x80000000) - 2**32,
        BadLength.SMALLER: max(0, answer.length - 10),
        BadLength.LARGER: answer.length + 10,
    }
    declared = false[fault.length] if isinstance(fault.length, BadLength) else fault.length
    ending = Ending.FIN if answer.ending is Ending.KEEP else answer.ending
    return replace(answer, declared=declared, ending=ending)


DAMAGE: dict[Mode, Callable[[Answer, Fault, ServedFile, int], Answer]] = {
    Mode.TRUNCATE: _cut,
    Mode.RESET: _cut,
    Mode.CHUNKED: _chunked,
    Mode.CHUNKED_CUT: _chunked,
    Mode.CHUNKED_CLEAN_SHORT: _chunked,
    Mode.CORRUPT: _corrupt,
    Mode.CATALOGUE_MISMATCH: _mismatch,
    Mode.GZIP: _gzip,
    Mode.BAD_LENGTH: _bad_length,
}
