"""Every command on the pages is run: in order, one shell a page, against stand-ins for the world.

A page's ``sh`` and ``python`` blocks make one script. A comment right before a block changes that:
``<!-- not run: REASON -->`` leaves it out; ``<!-- stays: WORDS -->`` starts it in the background,
and the page goes on when it has said the words.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from tests.conftest import require_server
from tests.integration.s3_server import BUCKET, S3Server
from tests.portal_items import as_eodag_3
from tests.servers import RedisServer, free_port, wait_until
from tests.standin import KiB, StandIn, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.standin import Item

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<how>not run|stays): (?P<words>.+?) -->\n)?```(?P<language>sh|python)\n"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TIMEOUT_S = 240
# Below the ports that systems give away by themselves: a free one of those is soon taken.
STANDIN_PORT = 20_000 + os.getpid() % 10_000
"""In place of the port of ``make standin``, the same in all blocks of a page."""
KEY, PASSWORD = "your-key", "password"
"""What the pages have the reader put in."""


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    language: str
    code: str
    how: str
    """Empty, ``not run`` or ``stays``."""
    words: str
    """Why it is not run, or what it says when it is ready."""
    line: int


def blocks(page: Path) -> list[Block]:
    """Give the blocks of a page."""
    text = page.read_text()
    return [
        Block(
            match["language"],
            match["code"],
            match["how"] or "",
            match["words"] or "",
            text.count("\n", 0, match.start("code")),
        )
        for match in BLOCK.finditer(text)
    ]


RUN = [
    pytest.param(page, id=page.stem, marks=() if page.stem == "README" else pytest.mark.slow)
    for page in PAGES
    if any(block.how != "not run" for block in blocks(page))
]


# --- the world of the reader ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a server that asks for the password of the pages."""
    require_server()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        ledger = Ledger.of(config.load(redis_url=server.url))
        ledger.connection.client.config_set("requirepass", PASSWORD)
        ledger.connection.client.close()
        yield server


@pytest.fixture(scope="module")
def datalake() -> Iterator[S3Server]:
    """Start an empty datalake."""
    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def portal(datalake: S3Server) -> Iterator[StandIn]:
    """Start a portal whose good items are in the datalake too; others are on tape, or gone."""
    with StandIn(KEY) as running:
        for number in range(3):
            place = f"{BUCKET}/{number}.zip"
            members = {f"{number}.tif": bytes([number]) * 200 * KiB}
            item = running.add_item(members=members, endpoint_url=f"{datalake.url}/{place}")
            datalake.put(f"{number}.zip", read(running.body(item)))
        running.fault(running.add_item(KiB, collection="TAPE"), "offline_410")
        running.fault(running.add_item(KiB, collection="GONE"), "gone_404")
        yield running


def put_files(portal: StandIn, folder: Path) -> None:
    """Write the files that the pages speak of."""
    kinds = {"items": ["PEPS_S2_L1C"], "on-tape": ["TAPE"], "mixed": ["PEPS_S2_L1C", "GONE"]}
    for name, collections in kinds.items():
        chosen = [item for item in portal.items if item["collection"] in collections]
        write(chosen, folder / f"{name}.json")
    good = [item for item in portal.items if item["collection"] == "PEPS_S2_L1C"]
    write([as_eodag_3(item) for item in good], folder / "found.geojson")


def write(items: Iterable[Item], path: Path) -> None:
    """Write an ItemCollection."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))


def world(portal: StandIn, datalake: S3Server, folder: Path) -> dict[str, str]:
    """Give the environment of the reader's shell."""
    return os.environ | {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GEODES_TASKS_PORTAL_URL": portal.url,
        "GEODES_TASKS_S3_ENDPOINT_URL": datalake.url,
        "GEODES_TASKS_BACKOFF_SECONDS": "0.1",
        "GEODES_TASKS_OFFLINE_POLL_SECONDS": "1",
        "GEODES_TASKS_QUOTA": "off",
    }


STANDIN = "python -m tests.standin --items 6 --size 200KiB --exports"
"""What ``make standin`` starts, with smaller files."""


def put_right(code: str, redis: RedisServer, folder: Path) -> str:
    """Put what is here in place of what the reader has there."""
    here = {
        "redis-host:6379": f"127.0.0.1:{redis.port}",
        "/shared/": f"{folder}/shared/",
        "--port=5555": f"--port={free_port()}",
        "make standin": f"{STANDIN} --port {STANDIN_PORT}",
        ":8091": f":{STANDIN_PORT}",
        # The environment of the tests is there already.
        "make install\n. .venv/bin/activate\n": "",
        # It runs the demonstration in an environment of its own; the tests have one.
        "make run": "python -m tests.demo --to downloads",
    }
    for theirs, ours in here.items():
        code = code.replace(theirs, ours)
    return code


# --- running a page ------------------------------------------------------------------------------

START = """\
set -eu -o pipefail
stays() {  # words, log, process: wait until the log has the words
    until grep -qF -- "$1" "$2"; do
        kill -0 "$3" 2>/dev/null || { cat "$2"; echo "it ended"; exit 1; }
        sleep 0.1
    done
}
"""


def script(page: Path, redis: RedisServer, folder: Path) -> str:
    """Make the script of a page."""
    parts = [START]
    for number, block in enumerate(blocks(page)):
        if block.how == "not run":
            continue
        code, log = put_right(block.code, redis, folder), f"block-{number}.log"
        if block.language == "python":
            (folder / f"block-{number}.py").write_text(code)
            code = f"python block-{number}.py\n"
        parts.append(f"echo '--- {page.name}, line {block.line}'\n")
        if block.how == "stays":
            words = shlex.quote(block.words)
            parts.append(f"touch {log}; ( {code} ) >{log} 2>&1 &\nstays {words} {log} $!\n")
        else:
            parts.append(code)
    return "".join(parts)


def run(text: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """Run a script in a session of its own, end what it leaves, and give its code and words."""
    (folder / "page.sh").write_text(text)
    with (folder / "page.log").open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "page.sh"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(TIMEOUT_S)
        finally:
            end(shell)
    return code, (folder / "page.log").read_text(errors="replace")


def end(shell: subprocess.Popen[bytes]) -> None:
    """End a shell and all that it has begun: asked first, killed when it does not."""

    def gone() -> bool:
        shell.poll()
        try:
            os.killpg(shell.pid, 0)
        except ProcessLookupError:
            return True
        return False

    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGTERM)
        with contextlib.suppress(RuntimeError):
            wait_until(gone, 20, "the processes of the page to end")
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_do_what_it_says(
    page: Path, portal: StandIn, datalake: S3Server, redis: RedisServer, tmp_path: Path
) -> None:
    """Copied from top to bottom, the commands of a page run and end well."""
    put_files(portal, tmp_path)
    (tmp_path / "shared").mkdir()

    code, words = run(script(page, redis, tmp_path), world(portal, datalake, tmp_path), tmp_path)

    assert code == 0, words
    assert "Traceback" not in words


def test_what_is_not_run_says_why() -> None:
    """A block that is left out has its reason beside it, and most are not left out."""
    found = [block for page in PAGES for block in blocks(page)]
    left_out = [block for block in found if block.how == "not run"]

    assert all(len(block.words) > 15 for block in left_out)
    assert len(left_out) * 3 < len(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_hides_from_the_tests(page: Path) -> None:
    """Commands stand in blocks that are run, not in blocks of other kinds or indented ones."""
    text = BLOCK.sub("", page.read_text())

    assert re.findall(r"^(?:    |```(?:console|bash|shell)).*$\n?^ *geodes-tasks", text, re.M) == []
    assert re.findall(r"^    (?:geodes-tasks|celery|make|export) .*", text, re.M) == []
