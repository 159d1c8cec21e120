"""The threads of a worker use one core while all that it downloads is small, else all of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest

from geodes_tasks.tasks import core_binding
from geodes_tasks.tasks.core_binding import SMALL_BYTES, CoreBinding, use_all_cores

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="the machine has one core, or no list of cores",
)


def cores_of_threads() -> set[frozenset[int]]:
    """Give the cores that each thread of this process may use."""
    found = set[frozenset[int]]()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.add(frozenset(os.sched_getaffinity(int(thread.name))))
    return found


Make = Callable[..., CoreBinding]


@pytest.fixture
def every() -> frozenset[int]:
    """Give the cores of this process."""
    return frozenset(os.sched_getaffinity(0))


@pytest.fixture
def make(every: frozenset[int]) -> Iterator[Make]:
    """Give what makes a binding; all threads have all cores again afterwards."""
    made = [CoreBinding(every)]

    def binding(cores: Set[int] = every) -> CoreBinding:
        made.append(CoreBinding(cores))
        return made[-1]

    yield binding
    for one in reversed(made):
        one.release()


def test_small_downloads_share_one_core(every: frozenset[int], make: Make) -> None:
    """From the second one that runs beside another; threads that were there before, too."""
    binding, over = make(), threading.Event()
    threading.Thread(target=over.wait).start()

    with binding.during(SMALL_BYTES):
        assert cores_of_threads() == {every}
        with binding.during(10):
            (bound,) = cores_of_threads()
    over.set()

    assert len(bound) == 1
    assert bound < every


@pytest.mark.parametrize("size", [SMALL_BYTES + 1, None])
def test_a_large_download_has_all_cores(
    size: int | None, every: frozenset[int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So has one of unknown size; when it has ended, small ones share one core again."""
    monkeypatch.setattr(core_binding, "FREE_S", 0.0)
    binding = make()

    with binding.during(1), binding.during(1):
        with binding.during(size), binding.during(1):
            assert cores_of_threads() == {every}
        with binding.during(1):
            (bound,) = cores_of_threads()

    assert len(bound) == 1


def test_the_core_is_chosen_anew(
    every: frozenset[int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the threads are free for a moment, so that the kernel can move them."""
    monkeypatch.setattr(core_binding, "REBIND_S", (0.0, 0.0))
    monkeypatch.setattr(core_binding, "FREE_S", 0.0)
    binding, seen = make(), list[int]()

    with binding.during(1):
        for _ in range(4):
            with binding.during(1):
                (cores,) = cores_of_threads()
                seen.append(len(cores))

    assert seen == [1, len(every), 1, len(every)]


BOUND_CHILD = """
import os, sys
from geodes_tasks.tasks import core_binding
core_binding.CLAIM = "\\0" + sys.argv[1]
binding = core_binding.CoreBinding()
with binding.during(1), binding.during(1):
    print(*os.sched_getaffinity(0), flush=True)
    input()
"""


def test_two_workers_share_no_core(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs where another is bound takes another core; of one that has ended, its core."""
    # Workers of other tests may be bound at the same time.
    monkeypatch.setattr(core_binding, "CLAIM", f"\0{__name__}-{os.getpid()}-")
    command = [sys.executable, "-c", BOUND_CHILD, core_binding.CLAIM[1:]]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        taken = int(other.stdout.readline())
        beside = bound_from(taken, make())
        other.communicate("\n")

    assert beside != {taken}
    assert bound_from(taken, make()) == {taken}


def bound_from(core: int, binding: CoreBinding) -> set[int]:
    """Give the cores of a process that ran on one core before it was bound."""
    os.sched_setaffinity(0, {core})
    with binding.during(1), binding.during(1):
        cores = os.sched_getaffinity(0)
    binding.release()
    return cores


def test_more_workers_than_cores(every: frozenset[int], make: Make) -> None:
    """One for which no core is left shares one."""
    for binding in [make() for _ in range(len(every) + 1)]:
        with binding.during(1), binding.during(1):
            assert len(os.sched_getaffinity(0)) == 1


def test_whoever_bound_the_process_is_obeyed(every: frozenset[int], make: Make) -> None:
    """A worker that was given one core, by Slurm or taskset, changes nothing."""
    only = {min(every)}
    os.sched_setaffinity(0, only)
    binding = make(only)

    with binding.during(1), binding.during(1), binding.during(None):
        assert os.sched_getaffinity(0) == only


def test_a_hook_has_all_cores(make: Make) -> None:
    """A program that a bound thread starts would inherit its core."""
    asked = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    binding = make()

    with binding.during(1), binding.during(1):
        inherited = subprocess.run(asked, capture_output=True, check=True).stdout
        use_all_cores()
        free = subprocess.run(asked, capture_output=True, check=True).stdout

    assert (int(inherited), int(free)) == (1, len(core_binding._ALL))


def test_a_system_that_refuses_is_left_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that does not allow the call costs no download."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    binding = make({0, 1})
    with binding.during(1), binding.during(1):
        use_all_cores()
