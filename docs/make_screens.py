"""Make the pictures in docs/img again: Flower, its page of batches, the terminal and a notebook.

    make shots

Needs Chromium and tmux. The portal is the stand-in of the tests, the workers are real.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME as LIGHT
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from geodes_tasks import enqueue  # noqa: E402 - the tests' package lies in the root
from geodes_tasks.ledger import Ledger  # noqa: E402
from geodes_tasks.monitoring.html import picture  # noqa: E402
from geodes_tasks.monitoring.snapshot import SnapshotReader  # noqa: E402
from geodes_tasks.settings import config  # noqa: E402
from tests.browser import shoot  # noqa: E402
from tests.integration.test_flower import FlowerProcess  # noqa: E402
from tests.servers import RedisServer, WorkerProcess, wait_until  # noqa: E402
from tests.standin import KiB, MiB, StandIn  # noqa: E402
from tests.terminal import Terminal  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.client.batch import Batch
    from geodes_tasks.settings.config import Config

IMAGES = ROOT / "docs" / "img"
KEY = "standin-key-0123456789"
RATE = 500 * KiB
SIZES = {60: 20, 80: 24, 120: 36}
"""Columns of the terminals to lines."""
COMMANDS = (
    "search -c PEPS_S2_L1C",
    "search -c PEPS_S2_L1C -o items.json",
    "download items.json -o files",
    "status -o files",
    "report -o files --format markdown",
    "download items.jsn",
    "download items.json -o files --include '*.nope'",
    "cancel",
)
"""What a first session types: data, a failure, and two mistakes."""
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ background: COLOURS; margin: 18px }}
pre {{ font: 15px/1.25 "DejaVu Sans Mono", monospace; margin: 0 }}
</style><pre>{code}</pre>"""


@dataclass(frozen=True)
class Scene:
    """Redis, a portal and two workers, with nothing to do yet."""

    settings: Config
    standin: StandIn
    folder: Path


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """Set the scene, and leave nothing of it running."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="screens-")))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        standin = stack.enter_context(StandIn(KEY))
        settings = config.load(
            api_key=KEY, portal_url=standin.url, s3_endpoint_url="http://127.0.0.1:1",
            redis_url=redis.url, download_dir=folder / "downloads", quota="500/hour",
            max_concurrent=4, offline_poll_seconds=600, max_attempts=2, backoff_seconds=30,
        )  # fmt: skip
        for name in ("node1", "node2"):
            worker = WorkerProcess(settings, folder / name, name=name, concurrency=2)
            stack.callback(worker.stop)
            worker.start()
        yield Scene(settings, standin, folder)


def filled(scene: Scene) -> Batch:
    """Enqueue files of every fate, and wait until something of each kind is to be seen."""
    standin, settings = scene.standin, scene.settings
    named = (
        f"S2A_MSIL1C_202504{day:02}T105021_N0511_R051_T31T{tile}_202504{day:02}T143000"
        for day in range(1, 31)
        for tile in ("CJ", "DJ")
    )
    small = [standin.add_item(900 * KiB, identifier=next(named)) for _ in range(6)]
    tape, gone, ill = (standin.add_item(3 * MiB, identifier=next(named)) for _ in range(3))
    sizes = (18, 22, 25, 28, 30, 20)
    large = [standin.add_item(size * MiB, identifier=next(named)) for size in sizes]
    standin.fault(tape, "offline_410")
    standin.fault(gone, "licence_423")
    standin.fault(ill, "status_n_times", status=503)
    standin.settings.rate = RATE
    items = [*small, tape, gone, ill, *large]
    batch = enqueue(items, conf=settings, batch="pyrenees-2025-04")
    paused = enqueue([standin.add_item(MiB)], conf=settings, batch="alps-2025-05")
    paused.pause()
    wait_until(lambda: batch.status().states["SUCCESS"] >= 4, 60.0)
    return batch


def shots(scene: Scene) -> None:
    """Take every face of one scene, one after the other."""
    process = FlowerProcess(scene.settings, scene.folder, app="worker")
    try:
        # First: it shows only the events that it has received.
        process.start()
        filled(scene)
        time.sleep(6)
        for width in SIZES:
            watch(scene, width)
        shoot(f"{process.url}/tasks", IMAGES / "flower-tasks.png", width=1900, height=760)
        ledger = Ledger.of(scene.settings)
        longest = max(ledger.reading.running(), key=lambda one: one.size_bytes or 0)
        page = f"{process.url}/task/{longest.download_id}"
        shoot(page, IMAGES / "flower-task.png", width=1100, height=900)
        shoot(f"{process.url}/workers", IMAGES / "flower-workers.png", width=1500, height=590)
        batches = f"{process.url}/batches"
        shoot(batches, IMAGES / "flower-batches.png", width=1400, height=900)
        shoot(batches, IMAGES / "flower-batches-dark.png", width=1400, height=900, dark=True)
        shoot(batches, IMAGES / "flower-batches-400.png", width=400, height=1400)
        notebook = scene.folder / "notebook.html"
        snapshot = SnapshotReader(ledger, ["pyrenees-2025-04"]).read()
        notebook.write_text(f"<!doctype html><meta charset=utf-8>{picture(snapshot)}")
        shoot(notebook.as_uri(), IMAGES / "notebook.png", width=1000, height=620)
    finally:
        process.stop()


def watch(scene: Scene, columns: int) -> None:
    """Take the live view in a terminal of so many columns."""
    variables = config.environment(scene.settings) | {"COLORTERM": "truecolor"}
    with Terminal(columns=columns, lines=SIZES[columns]) as opened:
        opened.run(
            [sys.executable, "-m", "geodes_tasks", "watch"], variables | {"PYTHONPATH": str(ROOT)}
        )
        time.sleep(6.0)
        text = opened.screen(colours=True)
    photograph(text, columns, "watch" if columns == 80 else f"watch-{columns}")


def photograph(text: str, columns: int, name: str, *, dark: bool = True) -> None:
    """Write the picture of what is on a terminal, in its colours."""
    console = Console(record=True, width=columns, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(text))
    theme, colours = (MONOKAI, "#0c0c0c; color: #ddd") if dark else (LIGHT, "#fff; color: #111")
    code_format = PAGE.replace("COLOURS", colours)
    with tempfile.NamedTemporaryFile("w", suffix=".html") as page:
        page.write(console.export_html(inline_styles=True, code_format=code_format, theme=theme))
        page.flush()
        height = (text.rstrip().count("\n") + 1) * 19 + 40
        shoot(
            Path(page.name).as_uri(), IMAGES / f"{name}.png", width=columns * 9 + 70, height=height
        )


def commands(columns: int) -> None:
    """Take what the commands print one after the other, on a dark and on a light terminal."""
    with StandIn(KEY) as standin, tempfile.TemporaryDirectory(prefix="screens-") as folder:
        items = [standin.add_item(900 * KiB, tile=f"T31T{tile}") for tile in ("CJ", "DJ", "CH")]
        standin.fault(items[0], "licence_423")
        settings = config.load(
            api_key=KEY, portal_url=standin.url, state_dir=Path(folder) / "state", quota="50/hour"
        )
        variables = config.environment(settings) | {"COLORTERM": "truecolor"}
        python = shlex.quote(sys.executable)
        script = Path(folder) / "session.sh"
        script.write_text(
            f"cd {shlex.quote(folder)}\n"
            f'geodes-tasks() {{ echo "$ geodes-tasks $*"; {python} -m geodes_tasks "$@"; echo; }}\n'
            + "".join(f"geodes-tasks {line}\n" for line in COMMANDS)
            + "echo THE END; sleep 60\n"
        )
        with Terminal(columns=columns, lines=90) as opened:
            opened.run(["bash", str(script)], variables | {"PYTHONPATH": str(ROOT)})
            opened.wait_for("THE END", timeout_s=120.0)
            text = opened.screen(colours=True).partition("THE END")[0]
    for dark in (True, False):
        photograph(text, columns, f"commands-{columns}-{'dark' if dark else 'light'}", dark=dark)


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    for columns in (80, 120):
        commands(columns)
    with scene() as set_scene:
        shots(set_scene)


if __name__ == "__main__":
    main()
