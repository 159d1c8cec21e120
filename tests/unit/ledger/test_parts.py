"""The parts of the ledger: one subject each, and one place that sends commands."""

from __future__ import annotations

import ast
import re
from inspect import getmembers, isfunction
from typing import TYPE_CHECKING

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.control import Control
from tests.unit.test_layers import SOURCES, room_of

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger

READ_COMMANDS = {
    "exists", "hget", "hgetall", "hmget", "lindex", "lrange", "smembers", "zcard", "zcount",
    "zlexcount", "zmscore", "zrange", "zrangebylex", "zrangebyscore", "zrevrange",
}  # fmt: skip
"""Commands that change nothing: a reader sends no other."""
VERBS = {name for name, _ in getmembers(Control, isfunction) if not name.startswith("_")} - {
    "pauses"
}
"""Methods of ``ledger.control`` that change something."""
STRAIGHT_LINE = {
    "admission": {"admit"},
    "leases": {"claim", "renew", "finish", "postpone", "fail", "revoke"},
    "account": {"spend", "pause", "resume"},
    "control": {"pause", "resume", "pauses"},
}
"""Part to the methods by which the contract names them."""


def parts(ledger: Ledger) -> dict[str, Part]:
    """Return the parts by the names of their attributes."""
    return {name: one for name, one in vars(ledger).items() if isinstance(one, Part)}


def public(part: Part) -> set[str]:
    """Return the public methods of a part."""
    return {name for name, _ in getmembers(type(part), isfunction) if not name.startswith("_")}


def test_parts_are_few_and_small(fake_ledger: Ledger) -> None:
    """At most ten parts, none with more than fifteen public methods."""
    sizes = {name: len(public(part)) for name, part in parts(fake_ledger).items()}

    assert len(sizes) <= 10
    assert {name: size for name, size in sizes.items() if size > 15} == {}


def test_the_straight_line_has_the_names_of_the_contract(fake_ledger: Ledger) -> None:
    """The writes of one download are found where the contract names them, and only there."""
    found = {name: public(part) for name, part in parts(fake_ledger).items()}

    missing = {name: names - found[name] for name, names in STRAIGHT_LINE.items()}
    assert not any(missing.values()), missing
    ends = {"finish", "postpone", "fail", "revoke"}
    assert {name for name, names in found.items() if names & ends} == {"leases"}


def test_only_the_ledger_sends_commands() -> None:
    """No module outside ``ledger`` touches the client or spells the name of a key."""
    pattern = re.compile(r"connection\.(client|key|run|send|commands)\b")
    users = {
        module: found
        for module, path in SOURCES.items()
        if room_of(module) not in {"ledger", "transports"}
        and (found := pattern.findall(path.read_text()))
    }

    assert users == {}


def test_reading_only_reads() -> None:
    """The part that reads sends no command that changes a record, and runs no script."""
    tree = ast.parse(SOURCES["geodes_tasks.ledger.reading"].read_text())
    sent = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) in {"redis", "pipeline"}
    }

    assert sent - READ_COMMANDS == {"pipeline", "execute", "time"}
    assert "_connection.run(" not in SOURCES["geodes_tasks.ledger.reading"].read_text()


def test_verbs_of_users_have_one_caller() -> None:
    """Verbs of users are called by the client room; a worker passes on a revoke of Flower only."""
    verbs = "|".join(VERBS)
    pattern = re.compile(rf"(?:ledger|\))\.control\.({verbs})\b")
    callers = {
        (room_of(module), found)
        for module, path in SOURCES.items()
        for found in pattern.findall(path.read_text())
    }

    assert {call for call in callers if call[0] != "client"} <= {("worker", "cancel")}
    assert ("client", "retry") in callers


def test_an_account_has_one_owner_of_its_pause() -> None:
    """``control`` pauses and resumes an account through ``account``: no second writer."""
    text = SOURCES["geodes_tasks.ledger.control"].read_text()

    assert "_accounts.pause(" in text
    assert "_accounts.resume(" in text
    assert '"paused' not in text
