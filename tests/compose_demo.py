"""What the demonstration needs of the outside: a stand-in for GEODES and an S3 server.

Both listen on loopback only; the demonstration's worker shares this container's network, so the
program's own rules for addresses and keys hold as they are. Items go to /demo/items.json.

    python -m tests.compose_demo              portal on 127.0.0.1:8080, S3 on 127.0.0.1:9000
    python -m tests.compose_demo --tls NAME   the portal alone, https under this name: for tests
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from tests.standin import KiB, MiB, StandIn
from tests.standin.bodies import read

KEY = "demo-key"
SIZES = (5 * MiB, 3 * MiB, 4 * MiB, 2 * MiB, 6 * MiB, 700 * KiB)
RATE = 1.5 * MiB
"""Bytes a second of each download from the portal: slow enough to be watched."""
BUCKET = "sentinel2-l1c"
S3_PORT = 9000
FOLDER = Path("/demo")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", metavar="NAME", help="serve https under this name")
    parser.add_argument("--items", type=int, default=0, help="so many items of 2 MiB instead")
    asked = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    (FOLDER / "items.json").unlink(missing_ok=True)
    with portal(asked.tls) as standin:
        for size in [2 * MiB] * asked.items or SIZES:
            standin.add_item(size)
        items = list(standin.items)
        if standin.ca_file is None:
            into_datalake(items[:3], standin)
        else:
            publish("ca.pem", standin.ca_file.read_text().partition("-----BEGIN PRIVATE")[0])
        publish("items.json", json.dumps({"type": "FeatureCollection", "features": items}))
        print(f"{len(items)} items at {standin.url}", flush=True)
        stop.wait()


def portal(name: str | None) -> StandIn:
    """Make the stand-in, as asked for."""
    if name is None:
        return StandIn(KEY, port=8080, rate=RATE)
    everywhere = "0.0.0.0"  # noqa: S104 - of a container in a network of its own
    return StandIn(KEY, host=everywhere, port=8443, public_host=name, tls=True, rate=RATE / 3)


def into_datalake(items: list[dict[str, Any]], standin: StandIn) -> None:
    """Put the files of some items on the S3 server, where their addresses lead."""
    ThreadedMotoServer(ip_address="127.0.0.1", port=S3_PORT, verbose=False).start()
    endpoint = f"http://127.0.0.1:{S3_PORT}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="demo", aws_secret_access_key="demo",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    for item in items:
        file = next(one for one in standin.portal.catalogue.files(item["id"]) if one.archive)
        name = f"demo/{item['properties']['identifier']}.zip"
        client.put_object(Bucket=BUCKET, Key=name, Body=read(file.body))
        item["properties"]["endpoint_url"] = f"{endpoint}/{BUCKET}/{name}"


def publish(name: str, text: str) -> None:
    """Write a file in one step: others wait for it to be there."""
    scratch = FOLDER / f".{name}"
    scratch.write_text(text)
    scratch.rename(FOLDER / name)


if __name__ == "__main__":
    main()
