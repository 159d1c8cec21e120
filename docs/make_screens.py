"""Make the pictures in docs/img again: Flower and ``watch`` beside real workers.

    python docs/make_screens.py [flower|watch ...]

Needs Chromium, and tmux for ``watch``. The portal is the stand-in of the tests.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from geodes_tasks import enqueue  # noqa: E402 - the tests' package lies in the root
from geodes_tasks.ledger import Ledger  # noqa: E402
from geodes_tasks.settings import config  # noqa: E402
from tests.browser import shoot  # noqa: E402
from tests.integration.test_flower import FlowerProcess  # noqa: E402
from tests.servers import RedisServer, WorkerProcess, wait_until  # noqa: E402
from tests.standin import KiB, MiB, StandIn  # noqa: E402
from tests.terminal import Terminal  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.client.batch import Batch
    from geodes_tasks.settings.config import Settings

IMAGES = ROOT / "docs" / "img"
KEY = "standin-key-0123456789"
RATE = 700 * KiB
COLUMNS, LINES = 80, 24
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ background: #0c0c0c; margin: 18px; color: #ddd }}
pre {{ font: 15px/1.25 "DejaVu Sans Mono", monospace; margin: 0 }}
</style><pre>{code}</pre>"""


@dataclass(frozen=True)
class Scene:
    """Redis, a portal and two workers, with nothing to do yet."""

    settings: Settings
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
    small = [standin.add_item(900 * KiB) for _ in range(6)]
    tape, gone, ill = (standin.add_item(3 * MiB) for _ in range(3))
    large = [standin.add_item(size * MiB) for size in (18, 22, 25, 28, 30, 20)]
    standin.fault(tape, "offline_410")
    standin.fault(gone, "gone_404")
    standin.fault(ill, "status_n_times", status=503)
    standin.settings.rate = RATE
    items = [*small, tape, gone, ill, *large]
    batch = enqueue(items, settings=settings, batch="pyrenees-2025-04")
    wait_until(lambda: batch.status().states["SUCCESS"] >= 4, 60.0)
    return batch


def flower(scene: Scene) -> None:
    """Take the list of tasks, and one task."""
    process = FlowerProcess(scene.settings, scene.folder, app="worker")
    try:
        # First: it shows only what it has heard of.
        process.start()
        filled(scene)
        time.sleep(6)
        shoot(f"{process.url}/tasks", IMAGES / "flower-tasks.png", width=1900, height=760)
        longest = max(Ledger.of(scene.settings).running(), key=lambda one: one.size_bytes or 0)
        page = f"{process.url}/task/{longest.download_id}"
        shoot(page, IMAGES / "flower-task.png", width=1100, height=900)
        shoot(f"{process.url}/workers", IMAGES / "flower-workers.png", width=1500, height=590)
    finally:
        process.stop()


def watch(scene: Scene) -> None:
    """Take the live view as it stands in a terminal of 80 columns."""
    filled(scene)
    text = terminal(scene, [sys.executable, "-m", "geodes_tasks", "watch"])
    console = Console(record=True, width=COLUMNS, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(text))
    html = console.export_html(inline_styles=True, code_format=PAGE, theme=MONOKAI)
    page = scene.folder / "watch.html"
    page.write_text(html)
    shoot(page.as_uri(), IMAGES / "watch.png", width=790, height=LINES * 19 + 40)


def terminal(scene: Scene, command: list[str], seconds: float = 6.0) -> str:
    """Run a command in a terminal, and give its screen with colours."""
    variables = config.environment(scene.settings) | {"COLORTERM": "truecolor"}
    with Terminal(columns=COLUMNS, lines=LINES) as opened:
        opened.run(command, variables | {"PYTHONPATH": str(ROOT)})
        time.sleep(seconds)
        return opened.screen(colours=True)


SCREENS = {"flower": flower, "watch": watch}


def main() -> None:
    """Make the pictures that are named, or all."""
    IMAGES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCREENS:
        with scene() as set_scene:
            SCREENS[name](set_scene)


if __name__ == "__main__":
    main()
