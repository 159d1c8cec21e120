"""The fuzzer finds every property test, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.__main__ import targets

HERE = Path(__file__).parent


def test_every_property_test_is_a_target() -> None:
    """A property test that needs only examples is fuzzed; one with fixtures cannot be."""
    found = {name.partition(":")[2] for name in targets()}
    written: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        written |= set(re.findall(r"^@given[\s\S]*?^def (test_\w+)\(", path.read_text(), re.M))

    assert len(found) > 20
    assert found <= written
    assert "test_any_bytes_give_items_or_errors" in written - found
