"""What tests of faults share: a cluster of their own, on a Redis that may be killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.settings.secret import Secret
from tests.conftest import require_server
from tests.fault.scene import Scene
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


@pytest.fixture
def scene(standin: StandIn, settings: Config, worker: WorkerFactory) -> Iterator[Scene]:
    """Give a cluster on the Redis that all tests share."""
    scene = Scene(standin, settings, worker)
    yield scene
    scene.end()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a server for one test, which may do to it what it likes."""
    require_server()
    with RedisServer(tmp_path_factory.mktemp("own-redis")) as server:
        yield server


@pytest.fixture
def fragile(scene: Scene, own_redis: RedisServer) -> Scene:
    """Give a cluster whose Redis belongs to this test."""
    scene.change(redis_url=Secret(own_redis.url))
    return scene
