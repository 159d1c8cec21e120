"""Hooks: called with the facts, once, within their time; whatever they do harms no download."""

from __future__ import annotations

import http.server
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import load
from geodes_tasks.tasks.hooks import FILE_FIELDS, WAITING, Hook, Hooks, harmless, newly_over
from tests.unit.ledger.test_ledger import PROOF, ask, claimed, failed, proven, request_of, result_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.ledger import Ledger

FACTS = dict.fromkeys(FILE_FIELDS, "x") | {"path": "/data/a b; touch evil.zip", "size_bytes": 7}


def hook(text: str, seconds: float = 10) -> Hook:
    """Make a hook for files."""
    return Hook("GEODES_TASKS_ON_FILE", text, FILE_FIELDS, load(hook_seconds=seconds))


def test_command_gets_words_and_facts(tmp_path: Path) -> None:
    """Fields fill words, and stay one word whatever they hold; all facts come on stdin."""
    script = tmp_path / "hook.sh"
    script.write_text(f'printf "%s|" "$@" > {tmp_path}/words; cat > {tmp_path}/facts\n')

    hook(f"sh {script} {{path}} --size={{size_bytes}}", 10).call(FACTS)

    assert (tmp_path / "words").read_text() == "/data/a b; touch evil.zip|--size=7|"
    assert json.loads((tmp_path / "facts").read_text()) == FACTS
    assert not (tmp_path / "evil.zip").exists()


def test_a_title_is_no_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file named like an option of the command does not change what it does (CWE-88)."""
    facts = FACTS | {"title": f"--output={tmp_path}/evil"}

    hook("echo {title}").call(facts)
    hook(f"sh -c 'echo called > {tmp_path}/words' --title={{title}}").call(facts)

    assert "not called, '--output=" in caplog.text
    assert (tmp_path / "words").read_text() == "called\n"


def test_command_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks get no key and no password in their environment, in whatever spelling."""
    monkeypatch.setenv("GEODES_API_KEY", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("GEODES_TASKS_REDIS_URL", "redis://:canary@host")
    monkeypatch.setenv("GEODES_TASKS_ON_BATCH", "https://hooks.example/canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:canary@proxy.example:3128")
    monkeypatch.setenv("geodes_api_key", "canary")
    monkeypatch.setenv("Aws_Secret_Access_Key", "canary")
    monkeypatch.setenv("geodes_tasks_on_file", "https://hooks.example/canary")
    monkeypatch.setenv("https_proxy", "me:canary@proxy.example:3128")
    monkeypatch.setenv("all_proxy", "socks5h://canary@proxy.example:1080")
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("FLOWER_COOKIE_SECRET", "canary")
    monkeypatch.setenv("INDEX", "https://me:canary@index.example/simple")
    monkeypatch.setenv("MINE", "kept")

    hook(f"sh -c 'env > {tmp_path}/env'", 10).call(FACTS)

    seen = (tmp_path / "env").read_text()
    assert "MINE=kept" in seen
    assert "http_proxy=proxy.example:3128" in seen
    assert "canary" not in seen
    assert "canary" not in str(harmless(os.environ))


def test_hanging_command_is_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A command that hangs is ended with its children when its time is over, and told."""
    begun = time.monotonic()

    hook(f"sh -c 'sleep 30 & echo $! > {tmp_path}/pid; wait'", 0.5).call(FACTS)

    child = int((tmp_path / "pid").read_text())
    assert time.monotonic() - begun < 5
    assert "did not finish within 0.5 s" in caplog.text
    assert ended(child)


def ended(pid: int) -> bool:
    """Tell whether a process is gone, soon."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split()[2]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("false", "exit code 1"),
        ("sh -c 'echo broken >&2; exit 3'", "exit code 3: broken"),
        ("/no/such/command", "FileNotFoundError"),
        ("http://127.0.0.1:1/T0/secret", "UnreachableError: the connection failed"),
    ],
)
def test_failing_hook_is_one_line(text: str, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, it is one warning and no exception."""
    hook(text, 5).call(FACTS)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert told in record.getMessage()
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo {nope}", "unknown field"),
        ("echo {path.__class__}", "unknown field"),
        ("echo {0}", "unknown field"),
        ("echo 'open", "cannot be read"),
        ("echo {path", "cannot be read"),
        ("http://example.org/hook", "plain http is taken for loopback only"),
    ],
)
def test_template_that_cannot_be_used(text: str, problem: str) -> None:
    """A slip in a template is said before anything is downloaded."""
    with pytest.raises(ConfigError, match=problem):
        hook(text)


# --- webhooks ------------------------------------------------------------------------------------


class Listener(http.server.ThreadingHTTPServer):
    """Keeps what is posted to it."""

    status = 200
    delay_s = 0.0

    def __init__(self) -> None:
        """Take a free port."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[dict[str, Any]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the listener is told to."""

    server: Listener

    def do_POST(self) -> None:
        """Keep the body."""
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Listen on a free port."""
    with Listener() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_webhook_gets_the_facts(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """The facts are posted as JSON."""
    hook(f"http://127.0.0.1:{listener.server_port}/done", 5).call(FACTS)

    assert listener.posted == [FACTS]
    assert caplog.records == []


@pytest.mark.parametrize("status", [302, 404, 500])
def test_webhook_that_refuses(
    listener: Listener, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """An answer other than yes is told; no redirect is followed."""
    listener.status = status

    hook(f"http://127.0.0.1:{listener.server_port}/done", 5).call(FACTS)

    assert f"the webhook answered {status}" in caplog.text
    assert len(listener.posted) == 1


def test_webhook_that_hangs(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook that does not answer is given up when its time is over."""
    listener.delay_s = 2.0
    begun = time.monotonic()

    hook(f"http://127.0.0.1:{listener.server_port}/done", 0.3).call(FACTS)

    assert time.monotonic() - begun < 1.5
    assert "StalledError: no answer within 0.3 s" in caplog.text


# --- beside the downloads ------------------------------------------------------------------------


def test_download_does_not_wait(fake_ledger: Ledger, tmp_path: Path) -> None:
    """Telling takes no time however long the hook does; each file is told once."""
    hooks = Hooks(load(on_file=f"sh -c 'sleep 0.3; echo \"$0\" >> {tmp_path}/told' {{title}}"))
    claims = []
    for name in ("a", "b"):
        ask(fake_ledger, request_of(name))
        claims.append(claimed(fake_ledger, request_of(name)))
    begun = time.monotonic()

    for claim in claims:
        hooks.file_done(claim, result_of(claim))
    took_s = time.monotonic() - begun
    hooks.join()

    assert took_s < 0.2
    assert sorted((tmp_path / "told").read_text().split()) == ["a.zip", "b.zip"]


def test_flood_is_dropped_not_waited_for(
    fake_ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """When hooks cannot keep up, calls are dropped with a warning: downloads go on."""
    hooks = Hooks(load(on_file="true {path}"))
    ask(fake_ledger, request_of("a"))
    claim = claimed(fake_ledger, request_of("a"))
    # No thread takes anything: nothing is called.
    hooks._threads = [threading.Thread(), threading.Thread()]

    for _ in range(WAITING + 1):
        hooks.file_done(claim, result_of(claim))

    assert caplog.text.count("this one is dropped") == 1


def test_no_hook_no_thread(fake_ledger: Ledger) -> None:
    """Without hooks nothing is started and nothing is asked of Redis."""
    hooks = Hooks(load())
    ask(fake_ledger, request_of("a"))
    claim = claimed(fake_ledger, request_of("a"))

    hooks.file_done(claim, result_of(claim))
    hooks.batches_done(fake_ledger)

    assert hooks._threads == []
    assert fake_ledger.connection.client.get(fake_ledger.connection.key("hooks")) is None


def test_batch_is_told_once(fake_ledger: Ledger) -> None:
    """A batch that is over is told once by all workers together, with its counts."""
    newly_over(fake_ledger)
    proven(fake_ledger, request_of("a"))
    failed(fake_ledger, request_of("b"))

    first, second = newly_over(fake_ledger), newly_over(fake_ledger)

    assert first == [
        {"batch": "b", "total": 2, "done": 1, "failed": 1, "cancelled": 0, "bytes": 7},
    ]  # fmt: skip
    assert second == []


def test_batch_begun_anew_is_told_again(fake_ledger: Ledger) -> None:
    """What failed is asked for again: the batch is told when it is over for the second time."""
    newly_over(fake_ledger)
    failed(fake_ledger, request_of("a"))
    told = [len(newly_over(fake_ledger))]
    fake_ledger.control.retry([request_of("a").download_id])
    told.append(len(newly_over(fake_ledger)))
    claim = claimed(fake_ledger, request_of("a"))
    fake_ledger.leases.finish(claim, result_of(claim))

    told.append(len(newly_over(fake_ledger)))

    assert told == [1, 0, 1]


def test_batches_of_the_past_are_left_alone(fake_ledger: Ledger) -> None:
    """What was over before hooks were first used is not told."""
    proven(fake_ledger, request_of("a"))
    key = fake_ledger.connection.key("batch", "b")
    fake_ledger.connection.client.hset(key, "created", time.time() - 3600)

    assert newly_over(fake_ledger) == []


def test_a_batch_is_over_when_all_of_it_is_in(fake_ledger: Ledger) -> None:
    """Files that are present do not end a batch of which more blocks come."""
    newly_over(fake_ledger)
    proven(fake_ledger, request_of("a"), batch="first")
    fake_ledger.admission.admit("b", "acc", [request_of("a")], lambda _: PROOF)()
    early = newly_over(fake_ledger)
    fake_ledger.admission.end("b")

    told = [facts["batch"] for facts in newly_over(fake_ledger)]

    assert [facts["batch"] for facts in early] == ["first"]
    assert told == ["b"]


def test_a_batch_that_is_forgotten_meanwhile_is_told_once(fake_ledger: Ledger) -> None:
    """Nothing of it comes back to life."""
    newly_over(fake_ledger)
    proven(fake_ledger, request_of("a"))
    fake_ledger.retention.forget("b")

    told = [newly_over(fake_ledger), newly_over(fake_ledger)]

    assert [[facts["batch"] for facts in one] for one in told] == [["b"], []]
    assert not fake_ledger.connection.client.exists(fake_ledger.connection.key("batch", "b"))
