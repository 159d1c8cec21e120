"""Run a stand-in: ``python -m tests.standin --port 0 --items 5 --size 2MiB``.

Prints its address as one line on stdout and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import threading
from pathlib import Path

from tests.standin.accounts import Quota
from tests.standin.bodies import GiB, KiB, MiB
from tests.standin.standin import StandIn
from tests.standin.variants import variants

UNITS = {"": 1, "B": 1, "KIB": KiB, "MIB": MiB, "GIB": GiB, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def byte_count(text: str) -> int:
    """Return a size such as ``2MiB`` in bytes.

    Raises:
        argparse.ArgumentTypeError: the text is not a size.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500kB or 2MiB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def options() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--public-host", help="host name in hrefs, when clients know this machine by another")
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    add("--api-key", default=os.environ.get("GEODES_API_KEY") or "standin-key")
    add("--items", type=int, default=5, help="items to put into the catalogue")
    add("--size", type=byte_count, default=2 * MiB, help="size of each, such as 2MiB")
    add("--members", nargs="*", default=[], help="names of files that make each archive a zip")
    add("--collection", default="PEPS_S2_L1C")
    add("--variants", action="store_true", help="add one item of every odd kind")
    add("--items-file", type=Path, help="where to write the items, as an ItemCollection")
    add("--rate", type=byte_count, help="bytes a second for each download")
    add("--quota", type=int, help="downloads an hour for each key")
    add("--range", default="500", help="what a Range request gets: 500, good, ignore, ...")
    add("--exports", action="store_true", help="print what to export, in place of the address")
    add("--tls", action="store_true", help="serve https with a certificate made on the spot")
    return parser


def seed(standin: StandIn, asked: argparse.Namespace) -> None:
    """Fill the catalogue, and write it to a file if asked."""
    for number in range(asked.items):
        generator = random.Random(number)
        members = {
            name: generator.randbytes(asked.size // len(asked.members)) for name in asked.members
        }
        standin.add_item(asked.size, collection=asked.collection, members=members or None)
    if asked.variants:
        variants(standin)
    if asked.items_file:
        whole = {"type": "FeatureCollection", "features": standin.items}
        asked.items_file.write_text(json.dumps(whole, indent=1))


def main() -> None:
    """Serve until told to stop."""
    asked = options().parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    standin = StandIn(
        asked.api_key, host=asked.host, port=asked.port, public_host=asked.public_host,
        tls=asked.tls, rate=asked.rate, range=asked.range,
    )  # fmt: skip
    with standin:
        if asked.quota is not None:
            standin.quota = Quota(asked.quota)
        seed(standin, asked)
        exports = {"GEODES_TASKS_PORTAL_URL": standin.url, "GEODES_API_KEY": asked.api_key}
        lines = [f"export {name}={value}" for name, value in exports.items()]
        print(*(lines if asked.exports else [standin.url]), sep="\n", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
