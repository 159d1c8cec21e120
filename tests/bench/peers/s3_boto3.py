"""The same objects by ``boto3.download_file``: s3_boto3.py SPEC.json FOLDER THREADS URL."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

spec, folder, threads = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
client = boto3.client(
    "s3",
    endpoint_url=sys.argv[4],
    config=Config(max_pool_connections=64, s3={"addressing_style": "path"}),
)


def fetch(row: tuple[str, str, int]) -> None:
    """Fetch one object; nothing is proven."""
    bucket, _, key = row[0].removeprefix("s3://").partition("/")
    client.download_file(bucket, key, str(folder / key.rsplit("/", 1)[1]))


began = time.perf_counter()
with ThreadPoolExecutor(int(threads)) as pool:
    list(pool.map(fetch, spec))
print(json.dumps(time.perf_counter() - began))
