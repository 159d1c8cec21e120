"""The ways a download can go wrong, and the choices each of them has."""

from __future__ import annotations

from enum import Enum, StrEnum


class Stage(Enum):
    """The moment of an answer at which a fault acts."""

    DELAY = "delay"
    """Before the status line."""
    CROWD = "crowd"
    """When the open downloads of a key are counted, before the quota."""
    GATE = "gate"
    """In place of the file; body faults of the same request are not used up."""
    RANGE = "range"
    """When the request has a ``Range`` header, and on the headers that invite one."""
    BODY = "body"
    """On the bytes of the file."""
    LENGTH = "length"
    """On ``Content-Length``."""
    PACE = "pace"
    """On the speed of the bytes."""


class Mode(StrEnum):
    """Every way a download can go wrong."""

    QUOTA = "quota403"
    """The hourly quota's own words; ``status`` 403 (default) or 200, ``body`` for other words."""
    THROTTLED = "429"
    """Too many requests; ``retry_after`` is a key of RETRY_AFTER_FORMS or a verbatim value."""
    STATUS = "status_n_times"
    """A server error; ``status`` (503), ``html`` for a page instead of JSON."""
    HTML_200 = "html_200"
    """A login page with status 200."""
    JSON_200 = "json_200"
    """A message with status 200; ``body`` for other words."""
    EMPTY_200 = "empty_200"
    """No bytes, status 200."""
    NO_CONTENT = "204"
    """No bytes, status 204."""
    REDIRECT_OTHER_HOST = "redirect_other_host"
    """To the other host, which serves the file; ``status`` (302), ``location`` for elsewhere."""
    REDIRECT_LOOP = "redirect_loop"
    """Round and round, as with an expired key; for every file, the questions get it too."""
    BAD_KEY = "bad_key"
    """The key is refused; ``answer`` is a BadKey value. For one file, only that one is forbidden;
    for every file, the question for the quota gets it too."""
    OFFLINE_410 = "offline_410"
    """On tape, 410. Back after ``polls`` availability answers, ``gets`` GETs or ``seconds``,
    whichever comes first, or when ``StandIn.bring_online`` says so; gone again ``expires``
    seconds later. ``times`` means ``gets``."""
    OFFLINE_202 = "offline_202"
    """On tape, 202 with no bytes; otherwise as ``offline_410``."""
    GONE_404 = "gone_404"
    """Unknown to the portal."""
    LICENCE_423 = "licence_423"
    """Licence not accepted."""
    CONCURRENCY = "concurrency"
    """429 while the key has ``limit`` downloads open; ``retry_after`` as for ``429``."""
    KEY_REVOKED_MIDWAY = "key_revoked_midway"
    """``downloads`` GETs pass, then the key they came with is refused; other keys pass."""
    SLOW_HEADERS = "slow_headers"
    """``seconds`` of silence before the status line."""
    RANGE = "range"
    """What a ``Range`` request gets; ``behaviour`` is a RangeBehaviour value."""
    TRUNCATE = "truncate"
    """The right ``Content-Length``, then a clean close after ``after`` bytes."""
    RESET = "reset"
    """A TCP reset after ``after`` bytes."""
    CHUNKED = "chunked"
    """The whole file with no ``Content-Length``, chunked; nothing is wrong with it."""
    CHUNKED_CUT = "chunked_cut"
    """Chunked, closed after ``after`` bytes without the last chunk."""
    CHUNKED_CLEAN_SHORT = "chunked_clean_short"
    """Chunked and properly ended, but after ``after`` bytes."""
    CORRUPT = "corrupt"
    """One byte turned over: at ``at``, or at a new place each time."""
    CATALOGUE_MISMATCH = "catalogue_mismatch"
    """Other bytes of the same length, the same ones each time: the catalogue is wrong."""
    GZIP = "gzip"
    """``Content-Encoding: gzip``, asked for or not."""
    BAD_LENGTH = "bad_length"
    """A false ``Content-Length``; ``length`` is a BadLength value or a number."""
    SLOW_DRIP = "slow_drip"
    """``rate`` bytes a second; with ``after``, then silence for ever."""
    STALL = "stall"
    """Full speed up to ``after`` bytes, then silence for ever."""


class BadKey(StrEnum):
    """What a refused key gets."""

    UNAUTHORIZED = "401"
    """401 and a few words."""
    FORBIDDEN = "403"
    """403 with no word of quota."""
    LOGIN = "login"
    """302 to a login page."""
    LOOP = "loop"
    """302 for ever, as pygeodes users report ("Exceeded 30 redirects")."""


class RangeBehaviour(StrEnum):
    """What a ``Range`` request gets."""

    ERROR_500 = "500"
    """500, as users report of the portal."""
    IGNORE = "ignore"
    """200 and the whole file."""
    GOOD = "good"
    """206, ``ETag`` and ``If-Range`` honoured."""
    GOOD_NO_ETAG = "good_no_etag"
    """206 without any validator."""
    WRONG_CONTENT_RANGE = "wrong_content_range"
    """206 from another place than asked, honestly labelled."""
    LYING_CONTENT_RANGE = "lying_content_range"
    """206 labelled as asked, bytes from another place."""
    UNSATISFIABLE = "416"
    """416."""
    CHANGED = "changed"
    """206 of other bytes under another ``ETag``; ``If-Range`` is not looked at."""
    CHANGED_NO_ETAG = "changed_no_etag"
    """206 of other bytes, no ``ETag``."""
    MULTIPART = "multipart"
    """206 ``multipart/byteranges``."""


class BadLength(StrEnum):
    """How ``Content-Length`` is false."""

    ABSENT = "absent"
    """Not there; the connection's end is the body's end."""
    NEGATIVE = "negative"
    """Wrapped to a negative number, as a 32-bit cast does above 2 GiB."""
    SMALLER = "smaller"
    """Ten bytes less than come."""
    LARGER = "larger"
    """Ten bytes more than come."""


STAGES = {
    Mode.SLOW_HEADERS: Stage.DELAY,
    Mode.CONCURRENCY: Stage.CROWD,
    Mode.RANGE: Stage.RANGE,
    Mode.BAD_LENGTH: Stage.LENGTH,
    Mode.SLOW_DRIP: Stage.PACE,
    Mode.STALL: Stage.PACE,
    **dict.fromkeys(
        (
            Mode.TRUNCATE, Mode.RESET, Mode.CHUNKED, Mode.CHUNKED_CUT, Mode.CHUNKED_CLEAN_SHORT,
            Mode.CORRUPT, Mode.CATALOGUE_MISMATCH, Mode.GZIP,
        ),
        Stage.BODY,
    ),
}  # fmt: skip

OFFLINE = {Mode.OFFLINE_410, Mode.OFFLINE_202}
