"""The command ``metrics``: an exporter for Prometheus."""

from __future__ import annotations

import signal
import socket
import threading
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest

from geodes_tasks.cli.options import OutputDir, open_ledger
from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.errors import ConfigError, LedgerUnavailableError
from geodes_tasks.monitoring.metrics import LedgerCollector
from geodes_tasks.monitoring.metrics_server import MetricsServer

PORT = 9808
"""The default TCP port of the exporter."""


def metrics(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port.")] = PORT,
    address: Annotated[
        str, typer.Option("--address", help="Address to listen on; it asks for no password.")
    ] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the metrics, then end.")] = False,
    output_dir: OutputDir = None,
) -> None:
    """Serve metrics of the ledger to Prometheus; no label names an item."""
    with open_ledger(output_dir) as found:
        ledger = found.ledger
        try:
            ledger.connection.ping()
        except LedgerUnavailableError as error:
            if once:
                raise
            # Started beside Redis, the exporter may be the first: it must not end, or a supervisor
            # restarts it again and again. Until Redis answers, ledger_up is 0.
            write_line(f"{error}; ledger_up is 0 until it answers")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(LedgerCollector(ledger))
        if once:
            write_data(generate_latest(registry).decode().rstrip("\n"))
            return
        try:
            server = MetricsServer(address, port, registry)
        except OSError as error:
            option = "--address" if isinstance(error, socket.gaierror) else "--port"
            raise ConfigError(option, f"{address}:{port}: {error.strerror}") from error
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        host = f"[{address}]" if ":" in address else address
        write_line(f"metrics at http://{host}:{server.server_port}/metrics")
        ended.wait()
        server.shutdown()
        thread.join()
