"""What is written about the errors of a run: bounded, whatever their number."""

from __future__ import annotations

from pathlib import Path

from geodes_tasks.client.run import failure_lines
from geodes_tasks.ledger import FailureGroup
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.wording import in_words


def group(kind: str, count: int, state: State = State.FAILURE) -> FailureGroup:
    """Return a class of errors with three examples."""
    error = ErrorInfo(kind, f"{kind} happened", "Do this.")
    return FailureGroup(state, kind, count, error, "A", ("A", "B", "C"))


def test_the_lines_about_errors_are_bounded() -> None:
    """The most frequent classes have two lines each, and one line counts the rest."""
    lines = list(failure_lines([group(f"E{n}", n) for n in range(4, 34)], "the report"))

    assert lines[:2] == ["33 failed: E33 happened. Do this.", "  A, B, C and 30 more"]
    assert lines[-1] == "and 429 more, of 26 other classes: see the report"
    assert len(lines) == 9


def test_one_error_is_one_line() -> None:
    """A single failure needs no list of items; a wait is not called a failure."""
    groups = [group("E", 1), group("F", 1, State.RETRY)]

    assert list(failure_lines(groups, "the report")) == [
        "failed: E happened. Do this.",
        "waits: F happened. Do this.",
    ]


def test_a_command_names_the_batch_and_a_line_the_item() -> None:
    """What is printed at the end of a run can be pasted, and says which item it is about."""
    hint = "Accept it, then: geodes-tasks retry BATCH --class LicenceError"
    error = ErrorInfo("LicenceError", "https://h/a: not accepted", hint)
    one = FailureGroup(State.FAILURE, "LicenceError", 1, error, "URN:a", ("URN:a",))

    assert list(failure_lines([one], "the report", "my batch")) == [
        "failed: URN:a: https://h/a: not accepted. Accept it, then: "
        "geodes-tasks retry 'my batch' --class LicenceError"
    ]
    (line,) = failure_lines([one], "the report", "b", Path("/data"))
    assert line.endswith("then: geodes-tasks retry -o /data b --class LicenceError")


def test_a_text_that_was_cut_keeps_its_dots() -> None:
    """One stop ends the message; three are no end but a part that is left out."""
    for message, text in {
        "it is": "it is.",
        "it is.": "it is.",
        "keys: S2...": "keys: S2...",
    }.items():
        assert in_words("error", ErrorInfo("E", message, "Do.")) == f"error: {text} Do."


def test_a_long_address_is_shortened() -> None:
    """The reason is what a person reads: of an address of 90 characters host and end stay."""
    address = (
        "https://geodes-portal.cnes.fr/api/download/URN:FEATURE:DATA:gdh:58a55bb8:V1/files/2201a1"
    )
    error = ErrorInfo("AuthError", f"HTTP 401 from {address}: no: https://h/b.", "Do it.")

    assert in_words("waits", error) == (
        "waits: HTTP 401 from https://geodes-portal.cnes.fr/.../2201a1: no: https://h/b. Do it."
    )
