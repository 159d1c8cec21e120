"""Limits as text: the quota of an account, ``50/hour``, and a bandwidth, ``20MB``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_LONGEST_S = 1e9 - 1
"""Longest window of a quota, in seconds: some thirty years."""
# Nine digits each: int() takes time that grows with the square of the digits, and raises above
# 4,300 of them (sys.set_int_max_str_digits).
_QUOTA = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{0,9})\s*(second|minute|hour|day)s?\Z")
_RATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmg]?)(i?)b?(?:/s|ps)?\Z", re.IGNORECASE)


def parse_rate(value: object) -> int | None:
    """Return the bytes a second of ``20MB``, ``500kB``, ``1.5GiB`` or a number; None for ``off``.

    Raises:
        ValueError: none of these.
    """
    text = str(value).strip()
    if value is None or text.lower() in {"", "off", "none"}:
        return None
    match = _RATE.match(text)
    # SI prefixes are powers of 1000, those with an i of 1024 (IEC 80000-13).
    power = "kmg".find(match[2].lower()) + 1 if match and match[2] else 0
    rate = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if rate < 1:
        raise ValueError(f"{value!r} is no bandwidth; write 20MB (bytes a second), 500kB or off")
    return rate


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``count`` downloads in any window of ``seconds``."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, value: Quota | str | None) -> Quota | None:
        """Return the quota of ``50/hour`` or ``10/20seconds``; None for ``off``.

        Raises:
            ValueError: none of these.
        """
        if value is None or isinstance(value, Quota):
            return value
        text = str(value).strip().lower()
        if text in {"", "off", "none"}:
            return None
        match = _QUOTA.match(text)
        seconds = int(match[2] or 1) * _SECONDS[match[3]] if match else 0.0
        if match is None or int(match[1]) < 1 or not 1 <= seconds <= _LONGEST_S:
            raise ValueError(f"{value!r} is no quota; write 50/hour, 10/20seconds or off")
        return cls(int(match[1]), seconds)

    def __str__(self) -> str:
        """Return a form that ``parse`` reads: ``50/hour``, ``24/2minutes``."""
        for unit, seconds in reversed(_SECONDS.items()):
            if self.seconds == seconds:
                return f"{self.count}/{unit}"
            if self.seconds % seconds == 0:
                return f"{self.count}/{self.seconds / seconds:.0f}{unit}s"
        return f"{self.count}/{self.seconds:.15g}seconds"
