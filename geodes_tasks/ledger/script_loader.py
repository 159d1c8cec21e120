"""Lua scripts of the ledger: each is sent with only the library functions that it uses."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from geodes_tasks.model.states import ALLOWED_MOVES

_SCRIPTS = resources.files(__package__) / "scripts"
_LIBRARY = (
    "keys",
    "records",
    "batches",
    "states",
    "account",
    "concurrency",
    "ready_lists",
    "release",
    "leases",
    "admission",
)
"""Files of the library. The order of definitions follows from their use, not from this order."""

# A definition of the library begins a line with `local` and ends before the next one or a comment.
_DEFINITION = re.compile(
    r"^local (?:function (?P<function>\w+)|(?P<names>\w+(?:, \w+)*) =).*?(?=^local |^--|\Z)",
    re.MULTILINE | re.DOTALL,
)
_TEXT_OR_COMMENT = re.compile(r"'(?:[^'\\\n]|\\.)*'|--[^\n]*")
# `open.count` is a field and no use of a function `count`.
_NAME = re.compile(r"(?<![\w.:])[A-Za-z_]\w*")


_WRITING = """local answer = main()
write_sums()
return answer
"""
"""The end of a script that counts: additions to counters are written behind its last line."""


class ScriptError(Exception):
    """A script or the library is written wrongly; the tests meet it, a user never does."""


@cache
def library() -> dict[str, str]:
    """Return the Lua text of each name that the library defines.

    Raises:
        ScriptError: a name is defined twice.
    """
    # One text, which costs a script nothing; a table would be built anew at each run.
    moves = "\n".join(sorted(f"{old or ''}>{new}" for old, new in ALLOWED_MOVES))
    found = {"ALLOWED_MOVES": f"local ALLOWED_MOVES = [[\n\n{moves}\n]]\n"}
    for file in _LIBRARY:
        text = (_SCRIPTS / "library" / f"{file}.lua").read_text()
        for match in _DEFINITION.finditer(text):
            for name in (match["function"] or match["names"]).split(", "):
                if name in found:
                    raise ScriptError(f"library/{file}.lua defines {name}, which is defined before")
                found[name] = match[0].rstrip() + "\n"
    return found


def assembled(text: str) -> str:
    """Return a script behind the definitions that it uses, each behind those that it uses itself.

    Raises:
        ScriptError: definitions of the library use each other in a circle.
    """
    # Definitions are added in the order in which the text names them, so that the same text has
    # the same SHA1 in each process: Redis knows a script by that.
    chosen: dict[str, None] = {}
    _choose(text, chosen, ())
    return "".join([*chosen, text])


def _choose(text: str, chosen: dict[str, None], users: tuple[str, ...]) -> None:
    """Add the definitions that a Lua text uses to those that are chosen, in order."""
    known = library()
    for name in dict.fromkeys(_NAME.findall(_TEXT_OR_COMMENT.sub("", text))):
        definition = known.get(name)
        if definition is None or definition == text or definition in chosen:
            continue
        if definition in users:
            raise ScriptError(f"{name} of the library uses itself through other functions")
        _choose(definition, chosen, (*users, definition))
        chosen[definition] = None


def script_names() -> list[str]:
    """Return the names of all scripts, sorted."""
    files = (entry.name for entry in _SCRIPTS.iterdir())
    return sorted(name.removesuffix(".lua") for name in files if name.endswith(".lua"))


@cache
def script_text(name: str) -> str:
    """Return a script as Redis gets it."""
    text = (_SCRIPTS / f"{name}.lua").read_text()
    sent = assembled(text)
    if "local function add(" not in sent:
        return sent
    # A function costs Redis less where what it uses belongs to the function around it.
    chosen: dict[str, None] = {}
    _choose(_WRITING, chosen, ())
    outer = "".join(chosen)
    _choose(text, chosen, ())
    inner = "".join(chosen).removeprefix(outer)
    return f"{outer}local function main()\n{inner}{text}end\n{_WRITING}"
