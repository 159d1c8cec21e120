"""An S3 server that others wrote, rclone's, as a program of its own: it differs from moto's.

SeaweedFS takes too many ports to be started several times side by side; the figures meet it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import SourceUnavailableError
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings.config import load
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transports.s3.transport import S3Transport
from tests.bench.s3server import ACCESS, BUCKET, SECRET, S3FileServer
from tests.conftest import md5, some_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = {"empty": 0, "small.zip": 1000, "a folder/of the \u00fcber+large.zip": 9 * (1 << 20) + 17}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3FileServer]:
    """Start it, with a few objects."""
    folder = tmp_path_factory.mktemp("s3")
    with S3FileServer(folder / "server", "rclone serve s3") as server:
        for name, size in SIZES.items():
            source = folder / "source"
            source.write_bytes(some_bytes(size))
            server.put(f"products/{name}", source)
        yield server


def transport_to(server: S3FileServer, **settings: Any) -> S3Transport:
    """Make a transport with the server's credentials."""
    keys = {"aws_access_key_id": ACCESS, "aws_secret_access_key": SECRET}
    return S3Transport(load(s3_endpoint_url=server.url, **keys | settings))


@pytest.mark.parametrize("name", SIZES)
def test_files_are_right(server: S3FileServer, tmp_path: Path, name: str) -> None:
    """Objects of every size are downloaded and proven."""
    content = some_bytes(SIZES[name])
    asset = Asset(
        item_id="item", collection="c", key=name, title="file.zip",
        hrefs={"s3": f"s3://{BUCKET}/products/{name}"},
        size_bytes=len(content), checksum=md5(content),
    )  # fmt: skip

    done = transfer.download(asset, tmp_path / "file.zip", {"s3": transport_to(server)})

    assert done.verified
    assert (tmp_path / "file.zip").read_bytes() == content


def test_the_rest_of_an_object(server: S3FileServer) -> None:
    """A resume gives the rest of the same version; of another one, all of it from byte 0."""
    name = list(SIZES)[-1]
    href, content = f"s3://{BUCKET}/products/{name}", some_bytes(SIZES[name])
    transport = transport_to(server)
    with transport.open(href) as body:
        etag = body.etag

    with transport.open(href, offset=1_000_000, etag=etag) as body:
        assert (body.offset, b"".join(body.chunks) == content[1_000_000:]) == (1_000_000, True)
    with transport.open(href, offset=1_000_000, etag='"another"') as body:
        assert (body.offset, b"".join(body.chunks) == content) == (0, True)


def test_a_folder_is_listed(server: S3FileServer) -> None:
    """All objects below a prefix, each with its size."""
    members = transport_to(server).members(f"s3://{BUCKET}/products")

    assert {one.name: one.size_bytes for one in members} == SIZES


@pytest.mark.parametrize(
    ("key", "settings", "problem"),
    [
        ("products/none.zip", {}, "no such object"),
        ("products/small.zip", {"aws_secret_access_key": "another"}, "does not belong|denied"),
        ("products/small.zip", {"aws_access_key_id": "another"}, "not known|denied"),
    ],
)
def test_refusals_are_named(
    server: S3FileServer, key: str, settings: dict[str, Any], problem: str
) -> None:
    """What is missing and what is not allowed, each in the same words with every server."""
    transport = transport_to(server, **settings)

    with (
        pytest.raises(SourceUnavailableError, match=problem),
        transport.open(f"s3://{BUCKET}/{key}"),
    ):
        pass
