"""Flower, unpatched, beside real workers: moving numbers in its API and on its pages."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections import Counter
from html import escape, unescape
from typing import TYPE_CHECKING, Any

import pytest
from celery.events.dispatcher import EventDispatcher

from geodes_tasks import enqueue
from geodes_tasks.client.steering import Steering
from geodes_tasks.ledger import Ledger
from geodes_tasks.monitoring import flower as flowerconfig
from geodes_tasks.monitoring.flower_page import OLD
from geodes_tasks.monitoring.html import picture
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import make
from tests import browser
from tests.servers import Process, free_port, wait_until
from tests.standin import KiB
from tests.tools import need
from tests.unit.monitoring.scene import busy_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

APP = "worker"
FRAME = """<meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe width="{width}" height="700" style="border: 0" srcdoc="{page}"></iframe><script>
const light = colour => colour.map(part => part / 255)
  .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0.05);
const numbers = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
document.querySelector("iframe").onload = event => {{
  const page = event.target.contentDocument, root = page.documentElement;
  page.body.style.backgroundColor = "Canvas";
  const ground = numbers(getComputedStyle(page.body).backgroundColor);
  const contrasts = [...page.querySelectorAll("td, a, h4")].map(one => {{
    const pair = [light(numbers(getComputedStyle(one).color)), light(ground)];
    return Math.max(...pair) / Math.min(...pair);
  }});
  const seen = [root.clientWidth, root.scrollWidth, Math.min(...contrasts), ground];
  document.body.dataset.seen = JSON.stringify(seen);
}};
</script>"""
"""A page in a frame, and its width, its widest part, its least contrast (WCAG 2.2), its ground."""
RUNNING = re.compile(r"(\d+) % of (\S+ \S+), (\S+) (\S+)/s, (.+) left")


class FlowerProcess(Process):
    """A real Flower on a free port."""

    def __init__(self, settings: Config, folder: Path, app: str = APP) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(folder / "flower.log")
        self.settings, self.folder, self.app = settings, folder, app
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *options: str) -> FlowerProcess:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "celery", "-A", self.app, "flower", f"--port={self.port}"]
        env = os.environ | config.environment(self.settings)
        self.spawn([*command, *options], env=env, cwd=self.folder)
        wait_until(self.listens, 20.0, f"Flower; its log: {self.log}")
        return self

    def listens(self) -> bool:
        """Tell whether it answers."""
        try:
            return self.get("/healthcheck")[0] == 200
        except OSError:
            return False

    def get(self, path: str, user: str = "") -> tuple[int, str]:
        """Ask for a page; give status and text."""
        request = urllib.request.Request(self.url + path)
        if user:
            request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Give all tasks as the API has them."""
        status, text = self.get("/api/tasks")
        assert status == 200, text
        found: dict[str, dict[str, Any]] = json.loads(text)
        return found


@pytest.fixture
def flower(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerProcess]:
    """Give a Flower that ends with the test."""
    process = FlowerProcess(settings, tmp_path_factory.mktemp("flower"))
    yield process
    process.stop()


def need_browser() -> None:
    """Skip where no browser is installed; fail in CI."""
    need("chromium", *browser.NAMES)


def per_cent(text: str | None) -> int | None:
    """Read the per cent out of what a running task tells; None when it tells none."""
    match = RUNNING.search(text or "")
    return int(match[1]) if match else None


def rising(look: Any, seconds: float = 15.0) -> list[int]:
    """Look again and again, and give the different per cents seen until three were."""
    seen: list[int] = []
    deadline = time.monotonic() + seconds
    while len(seen) < 3 and time.monotonic() < deadline:
        value = look()
        if value is not None and (not seen or value != seen[-1]):
            seen.append(value)
        time.sleep(0.2)
    return seen


@pytest.mark.slow
def test_numbers_rise_in_the_api(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """``/api/tasks`` shows per cent, size, speed and time left, rising; then the outcome."""
    flower.start()
    item = standin.add_item(1024 * KiB)
    standin.settings.rate = 160 * KiB
    worker()
    batch = enqueue(item, conf=settings)
    (record,) = batch.results()

    seen = rising(lambda: per_cent(flower.tasks().get(record.download_id, {}).get("result")))
    batch.wait(30)
    wait_until(lambda: flower.tasks()[record.download_id]["state"] == "SUCCESS", 10.0)
    ended = flower.tasks()[record.download_id]

    assert len(seen) == 3
    assert seen == sorted(seen)
    assert "'outcome': 'DOWNLOADED'" in ended["result"]
    assert item["id"] in ended["kwargs"]


def states(flower: FlowerProcess) -> Counter[str]:
    """Count the tasks that Flower has by their state."""
    return Counter(task["state"] for task in flower.tasks().values())


def test_a_running_task_is_started_and_its_start_does_not_move(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """Filter and buttons of Flower are those of STARTED; only the text moves."""
    flower.start("--read_only=False")
    item = standin.add_item(4096 * KiB)
    standin.settings.rate = 160 * KiB
    worker()
    (record,) = enqueue(item, conf=settings).results()
    starts: set[float] = set()

    def look() -> int | None:
        task = flower.tasks().get(record.download_id, {})
        if (share := per_cent(task.get("result"))) is not None:
            starts.add(task["started"])
            assert task["state"] == "STARTED"
        return share

    seen = rising(look)
    page = flower.get(f"/task/{record.download_id}")[1]

    assert len(seen) == 3
    assert len(starts) == 1
    assert "Terminate" in page


def test_what_was_cancelled_ends_in_flower(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """Within 5 s no cancelled download runs, waits or is queued there, whatever it did before."""
    flower.start()
    tape = [standin.add_item(64 * KiB) for _ in range(2)]
    slow = [standin.add_item(4096 * KiB) for _ in range(6)]
    for item in tape:
        standin.fault(item, "offline_410")
    standin.settings.rate = 40 * KiB
    worker(settings=settings.replace(offline_poll_seconds=300.0, max_attempts=1))
    batch = enqueue([*tape, *slow], conf=settings)
    wait_until(lambda: batch.status().waiting.get("offline") == 2, 20.0, "the tape")
    wait_until(lambda: states(flower) == {"RETRY": 2, "STARTED": 2, "PENDING": 4}, 15.0, "before")

    batch.cancel()
    wait_until(lambda: batch.status().states["REVOKED"] == 8, 5.0, "the cancel")
    wait_until(lambda: states(flower) == {"REVOKED": 8}, 5.0, "the end in Flower")


@pytest.mark.slow
def test_what_was_forgotten_ends_in_flower(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """Within 5 s nothing of a forgotten batch waits there, also in a Flower that started late."""
    tape = [standin.add_item(64 * KiB) for _ in range(3)]
    for item in tape:
        standin.fault(item, "offline_410")
    worker(settings=settings.replace(offline_poll_seconds=300.0))
    batch = enqueue(tape, conf=settings, batch="gone")
    wait_until(lambda: batch.status().waiting.get("offline") == 3, 20.0, "the tape")
    flower.start()
    wait_until(lambda: states(flower) == {"RETRY": 3}, 20.0, "what waits")

    Steering(settings).forget("gone", unfinished=True)

    wait_until(lambda: states(flower) == {"REVOKED": 3}, 5.0, "the end in Flower")


@pytest.mark.slow
def test_what_starts_again_is_not_shown_as_ended(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """After ``retry`` a failed and a cancelled download run there, and one more is queued."""
    flower.start()
    failed, *cancelled = (standin.add_item(4096 * KiB) for _ in range(3))
    standin.fault(failed, "licence_423")
    standin.settings.rate = 40 * KiB
    worker()
    batch = enqueue([failed, *cancelled], conf=settings)
    wait_until(lambda: states(flower) == {"FAILURE": 1, "STARTED": 2}, 20.0, "before")
    batch.cancel()
    wait_until(lambda: states(flower) == {"FAILURE": 1, "REVOKED": 2}, 10.0, "the ends")

    standin.clear_faults()
    batch.retry()
    batch.retry(items=[item["id"] for item in cancelled])

    wait_until(lambda: batch.status().states["STARTED"] == 2, 10.0, "two start again")
    wait_until(lambda: states(flower) == {"STARTED": 2, "PENDING": 1}, 10.0, "both in Flower")


@pytest.mark.slow
def test_the_queue_is_seen_whenever_flower_starts(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """The first hundred queued downloads of a batch are PENDING; no worker is made for them."""
    items = [standin.add_item(64 * KiB) for _ in range(120)]
    early = enqueue(items[:10], conf=settings, batch="early")
    flower.start()
    wait_until(lambda: states(flower) == {"PENDING": 10}, 20.0, "what was enqueued before")
    enqueue(items[10:], conf=settings, batch="later")
    wait_until(lambda: states(flower)["PENDING"] >= 110, 10.0, "what was enqueued after")

    workers = json.loads(flower.get("/api/workers?refresh=1")[1])
    rows = {row["uuid"]: row for row in flower.tasks().values()}
    (first, *_) = early.results()

    assert workers == {}
    assert early.id not in flower.get("/workers")[1]
    assert first.item_id in rows[first.download_id]["kwargs"]


@pytest.mark.slow
def test_what_ended_while_flower_was_down_ends_in_it(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """A Flower that stores its tasks shows no STARTED or PENDING of the past after a restart."""
    options = "--persistent=True", f"--db={flower.folder / 'flower.db'}"
    flower.start(*options)
    standin.settings.rate = 40 * KiB
    worker()
    batch = enqueue([standin.add_item(4096 * KiB) for _ in range(3)], conf=settings)
    wait_until(lambda: states(flower) == {"STARTED": 2, "PENDING": 1}, 20.0, "before")
    flower.stop()
    batch.cancel()
    wait_until(lambda: batch.status().states["REVOKED"] == 3, 10.0, "the cancel")

    flower.start(*options)

    wait_until(lambda: states(flower) == {"REVOKED": 3}, 25.0, "the end in Flower")


@pytest.mark.slow
def test_what_a_killed_worker_had_is_shown_as_waiting(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """It is silent first, and RETRY once the ledger has taken it from the dead worker."""
    flower.start()
    short = settings.replace(lease_seconds=6.0)
    standin.settings.rate = 40 * KiB
    items = [standin.add_item(4096 * KiB) for _ in range(2)]
    batch = enqueue(items, conf=short)
    killed = worker(settings=short)
    wait_until(lambda: states(flower)["STARTED"] == 2, 20.0, "both run")

    killed.kill()
    wait_until(
        lambda: all("silent since" in str(t["result"]) for t in flower.tasks().values()), 15.0,
        "the silence",
    )  # fmt: skip
    (gone,) = json.loads(flower.get("/workers?json=1")[1])["data"]
    # Another worker, that takes nothing of it itself: its account is not theirs.
    batch.pause()
    worker("two", settings=short)
    wait_until(lambda: batch.status().states["STARTED"] == 0, 30.0, "the take-over")

    wait_until(lambda: states(flower)["STARTED"] == 0, 5.0, "the take-over in Flower")
    assert states(flower) == {"RETRY": 2}
    assert (gone["status"], gone["active"]) == (False, 0)


def test_a_button_that_cannot_work_says_why(
    settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """With threads the size of the pool is fixed: one sentence, and no traceback in the log."""
    flower.start("--read_only=False")
    process = worker()
    (name,) = Ledger.of(settings).dispatch.workers()
    wait_until(lambda: name in flower.get("/api/workers?refresh=1")[1], 20.0, "the worker")

    for button in ("grow", "shrink", "autoscale"):
        url = f"{flower.url}/api/worker/pool/{button}/{name}?n=1&min=1&max=4"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10)
        with refused.value as answer:
            text = answer.read().decode()

        assert "the thread pool has a fixed size" in text, button
    assert "Traceback" not in process.text


def test_terminate_cancels_a_running_download(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """*Terminate* ends the attempt although no thread can be killed, without a traceback."""
    flower.start("--read_only=False")
    standin.settings.rate = 40 * KiB
    process = worker()
    batch = enqueue(standin.add_item(4096 * KiB), conf=settings)
    (record,) = batch.results()
    wait_until(lambda: states(flower) == {"STARTED": 1}, 20.0, "the start")

    url = f"{flower.url}/api/task/revoke/{record.download_id}?terminate=true"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()

    wait_until(lambda: batch.status().states["REVOKED"] == 1, 15.0, "the end")
    wait_until(lambda: states(flower) == {"REVOKED": 1}, 10.0, "the end in Flower")
    assert "Traceback" not in process.text


@pytest.mark.parametrize("prefix", ["", "/monitor"])
def test_a_page_has_all_batches(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess, prefix: str
) -> None:
    """``/batches`` has the picture of ``watch`` and its JSON, below the prefix and the login."""
    flower.url += prefix
    flower.start("--basic_auth=me:secret", *([f"--url_prefix={prefix}"] if prefix else []))
    good, gone = standin.add_item(64 * KiB), standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    worker(settings=settings.replace(max_attempts=1))
    enqueue([good, gone], conf=settings, batch="<i>april").wait(30)

    refused = [flower.get(f"/batches{form}")[0] for form in ("", "?format=json")]
    status, page = flower.get("/batches", "me:secret")
    (row,) = json.loads(flower.get("/batches?format=json", "me:secret")[1])

    assert refused == [401, 401]
    assert status == 200
    assert "&lt;i&gt;april" in page
    assert "<i>april" not in page
    assert "1 of 2 done (1 downloaded), 1 failed" in page
    assert f'href="{prefix}/tasks"' in page
    assert (row["batch"], row["states"]["FAILURE"]) == ("<i>april", 1)
    assert row["failures"][0]["class"] == "NotFoundError"


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_of_batches_in_a_browser(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess, width: int
) -> None:
    """It moves by itself, links to the tasks, and is no wider than the window."""
    need_browser()
    flower.start()
    standin.settings.rate = 160 * KiB
    (item,) = (standin.add_item(4096 * KiB, identifier="SCENE"),)
    worker()
    batch = enqueue(item, conf=settings)
    wait_until(lambda: batch.status().bytes_done > 0, 20.0)

    page = browser.dom(f"{flower.url}/batches", width=width)

    (record,) = batch.results()
    assert f"/task/{record.download_id}" in page
    assert "SCENE.zip" in page
    assert "kB/s" in page


def test_the_page_is_read_again_below_an_address_with_a_password(flower: FlowerProcess) -> None:
    """Opened as ``http://user:password@host/batches``, the page is as fresh as any other."""
    need_browser()
    flower.start("--basic_auth=me:secret")

    seen = browser.dom(f"{flower.url}/batches".replace("//", "//me:secret@", 1))

    assert "no batch in the ledger yet" in seen
    assert '<p role="status"></p>' in seen


def test_the_page_says_when_it_is_old(flower: FlowerProcess) -> None:
    """While Redis does not answer, the picture stays and a line says that it is old."""
    need_browser()
    flower.start()
    page = flower.get("/batches")[1]
    file = flower.folder / "page.html"
    # A page without its server: the script runs as in a browser that was left open.
    file.write_text(page)

    seen = browser.dom(file.as_uri())

    assert '<p role="status"></p>' in page
    assert f'<p role="status">{OLD}</p>' in seen
    assert "no batch in the ledger yet" in seen


def test_the_page_of_batches_fits_and_is_legible_without_scripts(
    flower: FlowerProcess, tmp_path: Path
) -> None:
    """The page as it is sent, in a window of this width: no part is wider, each text differs."""
    need_browser()
    flower.start()
    page = flower.get("/batches")[1]
    busy = picture(busy_snapshot(), "/task/")
    page = re.sub("<main>.*</main>", lambda _: f"<main>{busy}</main>", page, flags=re.DOTALL)
    page = re.sub("<script>.*</script>", "", page, flags=re.DOTALL)
    file = tmp_path / "page.html"
    for width, dark in itertools.product((400, 1400), (False, True)):
        # A window has at least 500 pixels there, a frame in it has any width.
        file.write_text(FRAME.format(width=width, page=escape(page)))

        seen = browser.dom(file.as_uri(), width=1600, dark=dark)

        found = re.search(r'data-seen="([^"]*)"', seen)
        assert found is not None
        frame, widest, contrast, ground = json.loads(unescape(found[1]))
        assert (frame, widest) == (width, width)
        assert contrast >= 4.0, (width, dark)
        assert (sum(ground) < 3 * 128) is dark


def test_a_flower_that_starts_late_knows_what_runs(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """Started in the middle of a download, it shows item, file and size at the next progress."""
    item = standin.add_item(4096 * KiB, identifier="SCENE")
    standin.settings.rate = 160 * KiB
    worker()
    batch = enqueue(item, conf=settings)
    wait_until(lambda: batch.status().bytes_done > 0, 20.0)
    (record,) = batch.results()

    flower.start()
    wait_until(lambda: record.download_id in flower.tasks(), 20.0)
    seen = flower.tasks()[record.download_id]

    assert seen["name"] == "geodes_tasks.download"
    assert item["id"] in seen["kwargs"]
    assert "SCENE.zip" in seen["kwargs"]
    assert per_cent(seen["result"]) is not None


@pytest.mark.slow
def test_numbers_rise_on_the_page(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """A browser reads file, size, item and rising numbers in the list of tasks."""
    need_browser()
    flower.start()
    item = standin.add_item(2048 * KiB, identifier="SCENE")
    standin.settings.rate = 160 * KiB
    worker()
    enqueue(item, conf=settings)

    def look() -> int | None:
        page = browser.rows(browser.dom(f"{flower.url}/tasks"))
        found = [row for row in page if row[0].startswith(f"SCENE.zip, 2.1 MB, {item['id']}")]
        return per_cent(found[0][2]) if found else None

    seen = rising(look, 25.0)

    assert len(seen) == 3
    assert seen == sorted(seen)


def test_every_kind_of_row_can_be_read(
    standin: StandIn, settings: Config, worker: WorkerFactory, flower: FlowerProcess
) -> None:
    """Waiting rows show the reason and what they wait for, ended ones their outcome or error."""
    need_browser()
    flower.start()
    good, tape, gone = (standin.add_item(64 * KiB, identifier=name) for name in "ABC")
    standin.fault(tape, "offline_410")
    standin.fault(gone, "gone_404")
    worker(settings=settings.replace(offline_poll_seconds=300.0, max_attempts=1))
    batch = enqueue([good, tape, gone], conf=settings)
    wait_until(lambda: batch.status().unfinished == 1, 20.0)
    wait_until(lambda: "RETRY" in {t["state"] for t in flower.tasks().values()}, 10.0)

    page = {row[0].split(",")[0]: row for row in browser.rows(browser.dom(f"{flower.url}/tasks"))}

    assert page["A.zip"][1:3] == ["SUCCESS", "DOWNLOADED, 65.5 kB from geodes, verified"]
    assert page["B.zip"][1] == "RETRY"
    assert page["B.zip"][2].startswith("offline: not online (HTTP 410), the file is on tape (waits")
    assert page["C.zip"][1] == "FAILURE"
    assert "404" in page["C.zip"][2]


SITES = [
    ("", "", 200),
    ("localhost:{port}", "http://localhost:{port}", 200),
    ("[::1]:{port}", "", 200),
    ("evil.example", "", 403),
    ("127.0.0.1.evil.example:{port}", "", 403),
    ("", "http://evil.example", 403),
    ("", "http://127.0.0.1:1", 403),
    ("", "null", 403),
    ("", "http://[", 403),
]
"""Values of Host and Origin, with the status of the answer."""


def test_pages_of_other_sites_read_nothing(flower: FlowerProcess) -> None:
    """A page open in the same browser: by CORS, or by a name of its own that leads to loopback."""
    flower.start()
    port = flower.url.rpartition(":")[2]

    def status_of(path: str, host: str, origin: str) -> int:
        given = {"Host": host.format(port=port), "Origin": origin.format(port=port)}
        headers = {name: text for name, text in given.items() if text}
        try:
            request = urllib.request.Request(flower.url + path, headers=headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code

    with urllib.request.urlopen(flower.url + "/workers", timeout=10) as answer:
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    for path in ("/api/tasks", "/tasks", "/batches?format=json", "/metrics"):
        found = [(host, origin, status_of(path, host, origin)) for host, origin, _ in SITES]

        assert found == SITES, path


def test_forged_events_break_no_page(settings: Config, flower: FlowerProcess) -> None:
    """A text for a number, none for a number, a list for a name: each broke pages until the end."""
    flower.start()
    app = make(settings)
    pages = ("/", "/workers?json=1", "/tasks", "/api/tasks", "/metrics", "/batches")
    heartbeats: tuple[dict[str, Any], ...] = (
        {"active": "<i>"},
        {"freq": None},
        {"processed": []},
        {"loadavg": "x"},
        {},
    )
    tasks: tuple[dict[str, Any], ...] = (
        {"queue": {"a": 1}},
        {"root_id": []},
        {"retries": "x"},
        {"runtime": float("inf")},
        {},
    )

    def send() -> None:
        with app.connection_for_write() as link:
            for number in range(5):
                with EventDispatcher(link, f"w{number}@host", app=app) as dispatcher:
                    dispatcher.send("worker-heartbeat", **{"freq": 2.0} | heartbeats[number])
                    dispatcher.send(
                        "task-received", **{"uuid": f"u{number}", "name": "n"} | tasks[number]
                    )

    def has_come() -> bool:
        # It answers before it listens to events.
        send()
        return "u4" in flower.tasks()

    wait_until(has_come, 20.0, "the event that is right")

    assert {page: flower.get(page)[0] for page in pages} == dict.fromkeys(pages, 200)
    assert list(flower.tasks()) == ["u4"]


@pytest.mark.slow
def test_ten_thousand_tasks_stay_usable(settings: Config, flower: FlowerProcess) -> None:
    """With 10,000 tasks in memory the list still answers within a second."""
    from tests.integration.flower_load import send_events

    flower.start()
    # It answers before it listens to events.
    wait_until(lambda: send_events(settings, 1) or loaded(flower), 20.0, "the first event")
    send_events(settings, 10_000)
    wait_until(lambda: loaded(flower) >= 10_000, 60.0, "10,000 tasks in Flower")

    times = [timed(lambda: datatable(flower)) for _ in range(5)]

    assert sorted(times)[2] < 1.0


def datatable(flower: FlowerProcess, search: str = "") -> dict[str, Any]:
    """Ask for the rows as the page does."""
    query = "draw=1&start=0&length=15&order[0][column]=3&order[0][dir]=desc"
    query += f"&columns[3][data]=received&search[value]={search}"
    answer: dict[str, Any] = json.loads(flower.get(f"/tasks/datatable?{query}")[1])
    return answer


def loaded(flower: FlowerProcess) -> int:
    """Count the tasks that Flower has."""
    return int(datatable(flower)["recordsTotal"])


def timed(act: Any) -> float:
    """Give the seconds that something takes."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def test_password_where_others_can_reach_it(flower: FlowerProcess) -> None:
    """On all addresses neither pages nor API answer without the password that was told."""
    flower.start("--address=0.0.0.0")
    password = re.search(r"password: user (\w+), password (\S+)\.", flower.text)

    assert password is not None
    assert [flower.get(path)[0] for path in ("/tasks", "/api/tasks", "/workers")] == [401] * 3
    assert flower.get("/api/tasks", f"{password[1]}:{password[2]}")[0] == 200


def test_a_file_of_passwords_that_is_missing_is_one_line(settings: Config, tmp_path: Path) -> None:
    """Flower does not start open, and prints no traceback of Celery."""
    variables = config.environment(settings) | {"FLOWER_BASIC_AUTH_FILE": "/nonexistent"}

    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "flower"], env=os.environ | variables,
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert "error: FLOWER_BASIC_AUTH_FILE: /nonexistent: No such file" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_conf_file_of_ones_own_wins(flower: FlowerProcess) -> None:
    """A ``flowerconfig.py`` in the folder is read as ever, its password included."""
    conf = flower.folder / "flowerconfig.py"
    conf.write_text("address = '0.0.0.0'\nbasic_auth = ['me:secret']\ntasks_columns = 'uuid'\n")

    flower.start()

    status, page = flower.get("/tasks", "me:secret")
    assert flower.get("/tasks")[0] == 401
    assert status == 200
    assert re.findall(r'data-column="(\w+)"', page) == ["uuid"]
    assert "password: user" not in flower.text


def test_below_a_prefix(flower: FlowerProcess) -> None:
    """Behind a proxy every page is below ``--url_prefix``."""
    flower.url += "/monitor"

    flower.start("--url_prefix=monitor")

    assert flower.get("/tasks")[0] == 200


def test_plain_celery_has_the_columns(
    settings: Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``celery -A worker flower`` itself shows the chosen columns, on loopback only."""
    flower = FlowerProcess(settings, tmp_path_factory.mktemp("flower"), app="worker")
    try:
        flower.start()
        columns = re.findall(r'data-column="(\w+)"', flower.get("/tasks")[1])
    finally:
        flower.stop()

    assert ",".join(columns) == flowerconfig.COLUMNS
