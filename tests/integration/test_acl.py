"""Redis with users: each can do its work and nothing else, on Redis and on Valkey."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerForbiddenError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.checks import server_checks
from geodes_tasks.ledger.dispatch import Wakeup
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import Sender
from tests.integration.secured import PREFIXES, SecuredServer, binary_of
from tests.servers import HOST
from tests.standin import KiB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["redis", "valkey"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredServer]:
    """Start a server that lets in nobody without a name."""
    with SecuredServer(tmp_path_factory.mktemp("secured"), binary_of(request.param)) as running:
        yield running


@pytest.fixture
def server(running: SecuredServer) -> SecuredServer:
    """Give that server with nothing in it, and nothing in its log of refusals."""
    admin = running.client("admin")
    admin.flushall()
    admin.acl_log_reset()
    admin.close()
    return running


@pytest.fixture
def settings(standin: StandIn, tmp_path: Path) -> Config:
    """Give settings that name no Redis."""
    return config.load(
        api_key="standin-key-0123456789", portal_url=standin.url, quota="off",
        s3_endpoint_url="http://127.0.0.1:1", download_dir=tmp_path / "downloads",
        lease_seconds=2, backoff_seconds=0.1, grace_seconds=2,
    )  # fmt: skip


def ran(settings: Config, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line as somebody would."""
    command = [sys.executable, "-m", "geodes_tasks", *words]
    env = os.environ | config.environment(settings)
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, timeout=100
    )
    assert done.returncode == code, done.stderr
    return done


def denied(server: SecuredServer, user: str) -> list[str]:
    """Name what a user was refused, as the server's own log has it."""
    # Nobody of ours may read that log: the test adds somebody who may.
    admin = server.client("admin")
    entries = [one for one in admin.acl_log() if one["username"] == user]
    # redis-py introduces itself with CLIENT SETINFO, and does without where it may not.
    refused = {str(one["object"]) for one in entries}
    return sorted(what for what in refused if not what.startswith("client|"))


@pytest.fixture
def items(standin: StandIn, tmp_path: Path) -> Path:
    """Write a file of three items."""
    for _ in range(3):
        standin.add_item(64 * KiB)
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": standin.items}))
    return path


@pytest.mark.slow
def test_a_right_that_a_script_lacks_is_named(
    server: SecuredServer, settings: Config, items: Path
) -> None:
    """Redis says it otherwise than of a command; nobody is told that it is away."""
    admin, client = server.client("admin"), server.settings("client", settings)
    admin.acl_setuser("client", enabled=True, commands=["-lpush"], reset=False)
    try:
        said = ran(client, "enqueue", str(items), "--batch", "b", code=1).stderr
    finally:
        admin.acl_setuser("client", enabled=True, commands=["+lpush"], reset=False)

    assert " refuses: " in said
    assert "Traceback" not in said
    assert "geodes-tasks secrets" in said


def test_a_right_that_a_message_lacks_is_named(server: SecuredServer, settings: Config) -> None:
    """The broker's client says of it that its batch failed; below that stands what Redis said."""
    admin, client = server.client("admin"), server.settings("client", settings)
    ledger = Ledger.of(client)
    admin.acl_setuser("client", enabled=True, commands=["-lpush"], reset=False)
    try:
        with pytest.raises(OperationalError) as caught:
            Sender(client).send([Wakeup("0" * 20, "item", "title", 1)])
    finally:
        admin.acl_setuser("client", enabled=True, commands=["+lpush"], reset=False)
        ledger.connection.client.close()

    known = ledger.connection.failure(caught.value.__cause__)
    assert isinstance(known, LedgerForbiddenError)
    assert "lpush" in str(known)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_user_can_do_its_work(
    server: SecuredServer, settings: Config, worker: WorkerFactory, items: Path, prefix: str
) -> None:
    """The client enqueues, the worker downloads, the viewer looks: nobody is refused anything."""
    settings = settings.replace(key_prefix=prefix)
    client, viewer = server.settings("client", settings), server.settings("viewer", settings)
    one = worker(settings=server.settings("worker", settings))

    ran(client, "enqueue", str(items), "--batch", "b", "--wait")

    status = json.loads(ran(viewer, "status", "b", "--json").stdout)
    assert status["states"]["SUCCESS"] == 3
    assert len(ran(viewer, "report", "b", "--format", "jsonl").stdout.splitlines()) == 3
    assert json.loads(ran(viewer, "watch", "b", "--json").stdout)
    assert 'geodes_tasks_files{outcome="DOWNLOADED",state="SUCCESS"} 3.0' in (
        ran(viewer, "metrics", "--once").stdout
    )
    ran(viewer, "verify", "b")
    for words in (["pause"], ["resume"], ["retry", "b"], ["cancel", "b"]):
        ran(client, *words)
    flower = server.settings("flower", settings)
    inspect = [*(sys.executable, "-m", "celery"), "-A", "worker", "inspect", "stats", "-t", "10"]
    env = os.environ | config.environment(flower)
    asked = subprocess.run(inspect, capture_output=True, text=True, env=env, check=False)
    assert "1 node online" in asked.stdout, asked.stdout + asked.stderr
    assert '"userid": "worker"' in asked.stdout
    assert "transport_options" not in asked.stdout  # with the passwords of Sentinels
    one.stop()
    assert one.returncode == 0, one.text
    users = ("worker", "client", "viewer", "flower")
    assert {user: denied(server, user) for user in users} == {user: [] for user in users}, one.text


@pytest.mark.slow
def test_the_viewer_cannot_write(server: SecuredServer, settings: Config, items: Path) -> None:
    """What it may not do is said in one line, and nothing has changed."""
    ran(server.settings("client", settings), "enqueue", str(items), "--batch", "b")
    viewer = server.settings("viewer", settings)
    before = ran(viewer, "status", "b", "--json").stdout

    for words in (["cancel", "b"], ["pause"], ["retry", "b"], ["enqueue", str(items)]):
        done = ran(viewer, *words, code=1)
        assert "no permissions" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr

    assert ran(viewer, "status", "b", "--json").stdout == before
    with pytest.raises(redis.exceptions.NoPermissionError, match="no permissions"):
        server.client("viewer").set("geodes:batch:b", "mine")


def test_a_viewer_of_an_empty_ledger(server: SecuredServer, settings: Config) -> None:
    """Who may only read does not have to write the ledger's first key."""
    ledger = Ledger.of(server.settings("viewer", settings))

    ledger.connection.ping()

    assert ledger.reading.batches() == []
    with pytest.raises(LedgerForbiddenError, match=r"127\.0\.0\.1:\d+/0 refuses"):
        ledger.dispatch.close("worker", "/data")


FORBIDDEN: list[tuple[Any, ...]] = [
    ("KEYS", "*"), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("FLUSHDB",), ("DEBUG", "SLEEP", "0"),
    ("SAVE",), ("BGREWRITEAOF",), ("SHUTDOWN",), ("MONITOR",), ("ACL", "LIST"), ("CLIENT", "LIST"),
    ("SCRIPT", "FLUSH"), ("SLOWLOG", "GET"), ("REPLICAOF", "NO", "ONE"), ("SWAPDB", "0", "1"),
    ("GET", "other"), ("SET", "other", "1"), ("EVAL", "return 1", "0"), ("MIGRATE", "h", "1", "k",
    "0", "1"), ("FUNCTION", "LIST"), ("PUBLISH", "elsewhere", "hello"),
]  # fmt: skip


@pytest.mark.parametrize("user", ["worker", "client", "viewer", "flower", "probe"])
def test_what_nobody_may(server: SecuredServer, user: str) -> None:
    """No user reaches the server itself, its other keys, or other people's."""
    client = server.client(user)

    allowed = []
    for words in FORBIDDEN:
        try:
            client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            # DEBUG is switched off before anybody looks who asks.
            if "permission" in str(error) or words[0] == "DEBUG":
                continue
        allowed.append(words)

    assert allowed == []


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "words",
    [
        ("LRANGE", "{}geodes", "0", "-1"),
        ("HGETALL", "{}unacked"),
        ("BRPOP", "{}geodes", "1"),
        ("RPOP", "{}geodes"),
        ("DEL", "{}unacked"),
        ("PUBLISH", "{}/0.celery.pidbox", "shutdown"),
        ("SUBSCRIBE", "{}/0.celery.pidbox"),
    ],
)
def test_the_client_takes_no_message_and_commands_no_worker(
    server: SecuredServer, words: tuple[str, ...], prefix: str
) -> None:
    """It may send work; others' messages, and the remote control of workers, are out of reach."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.client("client").execute_command(  # type: ignore[no-untyped-call]
            *(word.format(prefix) for word in words)
        )


@pytest.mark.slow
@pytest.mark.parametrize("url", ["{url}", "{guess}"])
def test_nobody_comes_in_without_a_password(
    server: SecuredServer, settings: Config, url: str
) -> None:
    """No name, or a wrong password: one line that does not repeat the password."""
    guess = server.url.replace("//", "//worker:a-guess@")
    stranger = settings.replace(redis_url=url.format(url=server.url, guess=guess))
    env = config.environment(stranger)
    env["GEODES_TASKS_REDIS_URL"] = url.format(url=server.url, guess=guess)
    command = [sys.executable, "-m", "geodes_tasks", "status"]

    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, check=False
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # Redis says it in words that differ: no name at all, or a wrong password.
    assert "refuses: user or password is missing or wrong" in done.stderr
    assert "no answer" not in done.stderr
    assert "a-guess" not in done.stderr


@pytest.mark.parametrize("user", ["worker", "client", "viewer", "flower"])
def test_doctor_checks_the_server_for_every_user(
    server: SecuredServer, settings: Config, user: str
) -> None:
    """No user of our own ACL file is told to get a right from it."""
    ledger = Ledger.of(server.settings(user, settings))
    checks = {one.name: one.text for one in server_checks(ledger.connection)}
    ledger.connection.client.close()

    assert checks["redis persistence"] == "append-only file"


def test_a_worker_with_a_wrong_password_ends_with_one_line(
    server: SecuredServer, settings: Config, tmp_path: Path
) -> None:
    """The file of the password is named; no traceback, and the exit code of a wrong setting."""
    (tmp_path / "password").write_text("a-guess")
    env = config.environment(settings) | {
        "GEODES_TASKS_REDIS_URL": server.url.replace("//", "//worker@"),
        "GEODES_TASKS_REDIS_PASSWORD_FILE": str(tmp_path / "password"),
    }
    command = [sys.executable, "-m", "geodes_tasks", "worker"]

    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, timeout=60, check=False
    )

    assert done.returncode == 2
    assert "this worker ends: Redis at" in done.stderr
    assert "GEODES_TASKS_REDIS_PASSWORD_FILE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("PING", "-NOAUTH"), ("GET geodes:schema", "-NOAUTH"), ('AUTH ""', "-WRONGPASS"),
        ('AUTH default ""', "-WRONGPASS"), ("AUTH default any", "-WRONGPASS"),
    ],
)  # fmt: skip
def test_the_default_user_cannot_log_in(server: SecuredServer, line: str, reply: str) -> None:
    """The user with all rights, as which the server replays its file, is closed to everybody."""
    with socket.create_connection((HOST, server.port), timeout=10) as link:
        link.sendall(f"{line}\r\n".encode())
        answer = link.recv(200).decode()

    assert answer.startswith(reply)
