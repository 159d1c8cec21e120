"""Real S3 servers, as wheels on PyPI carry them: SeaweedFS and rclone's."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tests.servers import HOST, Process, free_port, wait_until

if TYPE_CHECKING:
    from types import TracebackType

ACCESS, SECRET = "bench-key-id", "bench-secret-of-no-use"
BUCKET = "bench-bucket"
PROGRAMS = {"SeaweedFS": "weed", "rclone serve s3": "rclone"}
"""What runs each kind of server."""
PART_BYTES = 64 << 20
READY_SECONDS = 60.0


def program(name: str) -> str | None:
    """Find a program of a wheel beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


class S3FileServer(Process):
    """One bucket on a real server, a process of its own."""

    def __init__(self, folder: Path, kind: str = "") -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: Of the server's own, not there yet.
            kind: One of :data:`PROGRAMS`; by default the first that is installed.
        """
        super().__init__(folder.parent / f"{folder.name}.log")
        self.folder, self.port = folder, free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.kind = kind or self.kinds()[0]

    @classmethod
    def kinds(cls) -> list[str]:
        """Name the kinds of server that are installed."""
        return [kind for kind, name in PROGRAMS.items() if program(name)]

    def __enter__(self) -> Self:
        """Start it, with an empty bucket."""
        self.folder.mkdir(parents=True)
        (self.folder / BUCKET).mkdir()
        self.spawn(self._weed() if self._is_weed else self._rclone(), cwd=self.folder)
        wait_until(lambda: self._answers() or not self.alive, READY_SECONDS, "an S3 server")
        self.client = self.connect()
        if self._is_weed:
            wait_until(self._has_bucket, READY_SECONDS, "a bucket")
        return self

    @property
    def _is_weed(self) -> bool:
        return PROGRAMS[self.kind] == "weed"

    def _weed(self) -> list[str]:
        ports = {name: free_port() for name in ("master", "volume", "filer")}
        secrets = {"accessKey": ACCESS, "secretKey": SECRET}
        identity = {"name": "bench", "credentials": [secrets], "actions": ["Admin"]}
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        return [
            program("weed") or "weed", "server", "-s3", f"-dir={self.folder}",
            f"-s3.config={self.folder / 's3.json'}", f"-s3.port={self.port}", f"-ip={HOST}",
            f"-ip.bind={HOST}", f"-master.port={ports['master']}",
            f"-volume.port={ports['volume']}",
            f"-filer.port={ports['filer']}", f"-master.port.grpc={free_port()}",
            f"-volume.port.grpc={free_port()}", f"-filer.port.grpc={free_port()}",
            f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0", "-volume.max=200",
            "-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false",
        ]  # fmt: skip

    def _rclone(self) -> list[str]:
        return [
            program("rclone") or "rclone", "serve", "s3", str(self.folder),
            "--auth-key", f"{ACCESS},{SECRET}", "--addr", f"{HOST}:{self.port}",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _has_bucket(self) -> bool:
        try:
            self.client.create_bucket(Bucket=BUCKET)
            self.client.put_object(Bucket=BUCKET, Key="first", Body=b"x")
            self.client.delete_object(Bucket=BUCKET, Key="first")
        except Exception as error:  # noqa: BLE001 - it is starting up
            return "BucketAlready" in type(error).__name__
        return True

    def connect(self) -> Any:
        """Make a plain client."""
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"}, request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )  # fmt: skip

    def put(self, key: str, file: Path) -> None:
        """Store a file."""
        self.client.upload_file(
            str(file), BUCKET, key, Config=TransferConfig(multipart_chunksize=PART_BYTES)
        )

    @property
    def environment(self) -> dict[str, str]:
        """Give what peers and ours find the credentials in."""
        return os.environ | {
            "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1", "GEODES_TASKS_S3_ENDPOINT_URL": self.url,
        }  # fmt: skip

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it: SeaweedFS takes 20 s to end, and keeps nothing that is needed."""
        self.kill()
