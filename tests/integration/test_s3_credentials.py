"""Credentials that end: fresh ones from a command or a function, once a process, no file lost."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client import direct_download
from geodes_tasks.errors import (
    ConfigError,
    SourceUnavailableError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.settings.config import Config, load
from geodes_tasks.settings.s3_credentials import Credentials, of_answer
from geodes_tasks.transports import chosen
from geodes_tasks.transports.s3.transport import S3Transport
from tests.conftest import some_bytes
from tests.integration.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "14/U/LD/large.zip"
HREF = f"s3://{BUCKET}/{KEY}"
CONTENT = some_bytes(18 << 20)
OF_AWS = {"AccessKeyId": "id", "SecretAccessKey": "s", "SessionToken": "t"}
ROLE = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """Start a server with one large object."""
    with S3Server() as server:
        server.put(KEY, CONTENT)
        yield server


@pytest.fixture
def command(tmp_path: Path) -> Callable[[float], str]:
    """Make a command that gives other credentials each time and counts its calls in a file."""

    def make(life_s: float = 3600.0) -> str:
        script = tmp_path / "assume.py"
        script.write_text(
            "import datetime, json, pathlib\n"
            f"calls = pathlib.Path({str(tmp_path / 'calls')!r})\n"
            "with calls.open('a') as out: out.write('x')\n"
            "n = calls.stat().st_size\n"
            "end = datetime.datetime.now(datetime.timezone.utc)"
            f" + datetime.timedelta(seconds={life_s})\n"
            "print(json.dumps({'Credentials': {'AccessKeyId': f'key-{n}', 'SecretAccessKey': 's',"
            " 'SessionToken': f'token-{n}', 'Expiration': end.isoformat()}}))\n"
        )
        return shlex.join([sys.executable, str(script)])

    return make


def calls_of(tmp_path: Path) -> int:
    """Count the calls of the command."""
    return (tmp_path / "calls").stat().st_size


def transport_to(server: S3Server, **settings: Any) -> S3Transport:
    """Make a transport for a server."""
    return S3Transport(load(s3_endpoint_url=server.url, **settings))


def fetched(transport: S3Transport) -> bytes:
    """Open the object and read it to its end."""
    with transport.open(HREF) as body:
        return b"".join(body.chunks)


def keep(chunks: Iterator[bytes], received: bytearray) -> None:
    """Keep each piece at once, so that an error loses none."""
    for chunk in chunks:
        received.extend(chunk)


def tokens_of(server: S3Server) -> list[str]:
    """Give the session tokens that the server saw, each once, in order."""
    return list(dict.fromkeys(head["X-Amz-Security-Token"] for head in server.seen))


def test_a_token_that_ends_in_the_middle(
    s3: S3Server, command: Callable[[float], str], tmp_path: Path
) -> None:
    """A body breaks at 30 % and the token has ended: one renewal, and every byte comes once."""
    cut = int(len(CONTENT) * 0.3)
    transport = transport_to(s3, s3_credentials_command=command(3600))
    s3.go_wrong(cut=cut)
    received = bytearray()
    with transport.open(HREF) as body, pytest.raises(TruncatedBodyError, match="announced"):
        keep(body.chunks, received)
    s3.go_wrong(end_after=0)

    with transport.open(HREF, offset=cut, etag=body.etag) as rest:
        received += b"".join(rest.chunks)

    assert received == CONTENT
    assert tokens_of(s3) == ["token-1", "token-2"]
    assert (calls_of(tmp_path), s3.counted(len(CONTENT))) == (2, len(CONTENT))


def test_many_threads_renew_once(
    s3: S3Server, command: Callable[[float], str], tmp_path: Path
) -> None:
    """Threads that meet the end of a token together have one renewal between them."""
    transport = transport_to(s3, s3_credentials_command=command(3600))
    contents: list[bytes] = []
    fetched(transport)
    s3.go_wrong(end_after=0)
    threads = [
        threading.Thread(target=lambda: contents.append(fetched(transport))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert contents == [CONTENT] * 4
    assert calls_of(tmp_path) == 2


def test_credentials_are_replaced_before_they_end(
    s3: S3Server, command: Callable[[float], str], tmp_path: Path
) -> None:
    """Nobody waits for a refusal: what is about to end is asked for anew."""
    transport = transport_to(s3, s3_credentials_command=command(0.0))

    for _ in range(2):
        fetched(transport)

    assert calls_of(tmp_path) > 1
    assert len(tokens_of(s3)) > 1


def test_a_wait_for_credentials_is_broken_off(s3: S3Server) -> None:
    """A command that thinks for long holds no worker up that stops."""
    transport = transport_to(s3, s3_credentials_command="sleep 20")
    began = time.monotonic()
    threading.Timer(0.3, transport.abort, [threading.get_ident()]).start()

    with pytest.raises(TransferError, match="broken off"):
        fetched(transport)

    assert time.monotonic() - began < 5
    assert not s3.seen


def test_a_wait_for_credentials_of_the_aws_chain_is_broken_off(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that renew themselves may be as slow: the second call of this process never ends."""
    end = (datetime.now(UTC) + timedelta(minutes=2)).isoformat()
    answer = json.dumps(OF_AWS | {"Version": 1, "Expiration": end})
    script = tmp_path / "process.sh"
    script.write_text(
        f"[ -e {tmp_path}/once ] && exec sleep 20; : > {tmp_path}/once\necho '{answer}'"
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = sh {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    transport = transport_to(s3)
    began = time.monotonic()
    threading.Timer(1.0, transport.abort, [threading.get_ident()]).start()

    with pytest.raises(TransferError, match="broken off"):
        fetched(transport)

    assert time.monotonic() - began < 5
    assert not s3.seen


def test_expired_for_good(s3: S3Server) -> None:
    """Where nothing fresh is to be had the whole source is out, and the next one is tried."""
    static = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_session_token": "old"}
    s3.go_wrong(end_after=0)
    transport = transport_to(s3, **static)

    with pytest.raises(SourceUnavailableError, match="session token has expired") as caught:
        fetched(transport)

    assert caught.value.whole
    assert len(s3.seen) == 1


def test_a_rewritten_file_is_read_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who renews the AWS file by hand or by cron needs no restart."""
    shared = tmp_path / "aws"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))

    def write(token: str) -> None:
        words = ("aws_access_key_id = k", "aws_secret_access_key = s")
        shared.write_text("\n".join(["[default]", *words, f"aws_session_token = {token}", ""]))

    write("old")
    transport = transport_to(s3)
    fetched(transport)
    write("new")
    s3.go_wrong(end_after=0)

    assert fetched(transport) == CONTENT
    assert tokens_of(s3) == ["old", "new"]


def test_a_credential_process_of_a_profile(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The AWS chain's own way to have a command works too."""
    answer = {"Version": 1, "AccessKeyId": "of-process", "SecretAccessKey": "s"}
    (tmp_path / "answer").write_text(json.dumps(answer))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'answer'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert fetched(transport_to(s3)) == CONTENT
    assert "Credential=of-process/" in s3.seen[0]["Authorization"]


def test_a_function_of_the_user(s3: S3Server) -> None:
    """What CNES's own package gives can be handed on as it is."""
    transport = transport_to(s3, s3_credentials=lambda: ROLE)

    assert fetched(transport) == CONTENT
    assert tokens_of(s3) == ["t"]


def test_a_function_in_the_configuration(s3: S3Server) -> None:
    """Users hand their function to ``Config``; whoever loads boto3 then asks it."""
    conf = Config(s3_endpoint_url=s3.url, s3_credentials=lambda: ROLE)

    assert chosen(conf) == ["s3", "geodes"]
    assert fetched(S3Transport(conf)) == CONTENT
    assert tokens_of(s3) == ["t"]


def test_a_function_that_fails(s3: S3Server) -> None:
    """Its error leaves S3 out; what it may have quoted is not told."""

    def fails() -> None:
        raise RuntimeError("canary-password")

    with pytest.raises(SourceUnavailableError, match=r"failed \(RuntimeError\)") as caught:
        fetched(transport_to(s3, s3_credentials=fails))

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("false", "ended with 1"),
        ("/nowhere/assume", "cannot be run"),
        ("echo canary-secret", "holds no access key id"),
        ("no.such.module:function", "cannot be imported"),
    ],
)
def test_a_command_that_gives_nothing(s3: S3Server, text: str, match: str) -> None:
    """The message names the setting, not what was printed."""
    with pytest.raises(SourceUnavailableError, match=match) as caught:
        fetched(transport_to(s3, s3_credentials_command=text))

    assert "GEODES_TASKS_S3_CREDENTIALS_COMMAND" in str(caught.value)
    assert "canary" not in str(caught.value).removeprefix("s3 cannot give")


@pytest.mark.parametrize(
    "answer",
    [
        ROLE,
        json.dumps({"Credentials": OF_AWS}),
        json.dumps(OF_AWS | {"Version": 1}),
        json.dumps({"key": "id", "secret": "s", "token": "t"}),
        "export AWS_ACCESS_KEY_ID=id\nexport AWS_SECRET_ACCESS_KEY='s'\nAWS_SESSION_TOKEN=\"t\"\n",
    ],
)  # fmt: skip
def test_forms_of_an_answer(answer: object) -> None:
    """The forms of AWS, of CNES's assumerole and of the shell are read."""
    assert of_answer(answer) == Credentials("id", "s", "t")


def test_times_of_an_answer() -> None:
    """ISO 8601, seconds since 1970 and seconds from now are told apart; garbage is no time."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    base = {"key": "id", "secret": "s"}

    for value in (soon.isoformat(), soon.timestamp(), 3600, str(soon.timestamp())):
        expires = of_answer(base | {"expiry": value}).expires
        assert expires is not None
        assert abs((expires - soon).total_seconds()) < 5
    assert of_answer(base | {"expiry": "tomorrow"}).expires is None


def test_a_secret_is_never_shown() -> None:
    """Neither form nor error of an answer shows the secret or the token."""
    assert repr(Credentials("id", "canary", "canary")).count("canary") == 0
    with pytest.raises(ConfigError, match="holds no") as caught:
        of_answer({"secret": "canary"})
    assert "canary" not in str(caught.value)


def test_boto3_is_not_loaded_where_nobody_has_credentials() -> None:
    """A worker without a trace of S3 credentials does not pay for boto3."""
    code = (
        "import sys; from geodes_tasks import transports; from geodes_tasks.settings import config;"
        "assert transports.chosen(config.load()) == ['geodes'];"
        "sys.exit('botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_command_is_enough_to_choose_s3() -> None:
    """With a command S3 comes first; it is not run to find that out."""
    assert chosen(load(s3_credentials_command="/nowhere")) == ["s3", "geodes"]


def test_a_credential_process_runs_once(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Downloads ask whether there are credentials; the program of a profile runs for one of them.

    Once more after its file was changed: what it prints may be other credentials.
    """
    answer = json.dumps({"Version": 1, "AccessKeyId": "of-process", "SecretAccessKey": "s"})
    program = tmp_path / "process.sh"
    program.write_text(f"echo run >> {tmp_path}/runs\necho '{answer}'\n")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = sh {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    conf = load(s3_endpoint_url=s3.url)

    assert [chosen(conf) for _ in range(3)] == [["s3", "geodes"]] * 3
    assert fetched(transport_to(s3)) == CONTENT
    assert (tmp_path / "runs").read_text().split() == ["run"]
    config.write_text(config.read_text() + "\n")
    assert chosen(conf) == ["s3", "geodes"]
    assert (tmp_path / "runs").read_text().split() == ["run", "run"]


def test_a_program_that_fails_runs_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That it fails is remembered too, and the next one to ask is told the same reason."""
    program = tmp_path / "process.sh"
    program.write_text(f"echo run >> {tmp_path}/runs\nexit 3\n")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = sh {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert [chosen(load()) for _ in range(3)] == [["geodes"]] * 3
    with pytest.raises(SourceUnavailableError, match="CredentialRetrievalError"):
        fetched(S3Transport(load(s3_endpoint_url="https://s3.example")))

    assert (tmp_path / "runs").read_text().split() == ["run"]


def test_credentials_that_come_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A notebook that has fetched a file already uses S3 as soon as the AWS file is written."""
    shared = tmp_path / "aws"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    conf = load()
    before = direct_download.transports(conf)
    assert list(before) == ["geodes"]

    shared.write_text("[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    after = direct_download.transports(conf)

    assert list(after) == ["s3", "geodes"]
    assert after["geodes"] is before["geodes"], "its open connections are kept"
