"""`ayaz depot`: the subscriber, its store and its page; `ayaz depot verify`: gaps and sums."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
import time
from typing import Protocol

import click

from depot.store import Store
from depot.subscriber import Subscriber
from edge.errors import StoreError

DEFAULT_STORE = "sqlite:///ayaz-depot.db"
store_option = click.option("--store", "url", default=DEFAULT_STORE, show_default=True, help="sqlite:///PATH")


class _Flag(Protocol):
    """An Event of threading or of multiprocessing."""

    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


def run_depot(
    broker: str, store: str, host: str, port: int, headless: bool, ready: _Flag, stop: _Flag, version: int = 5
) -> None:
    """Subscribe, store, and show, until `stop`. `ready` is set when the page answers and the broker was reached.

    Raises
    ------
    StoreError, BrokerError
    """
    opened = Store(store)
    subscriber = Subscriber(broker, opened, version)
    subscriber.start()
    try:
        if headless:
            subscriber.connected.wait(10)
            ready.set()
            stop.wait()
        else:
            _serve(opened, subscriber, host, port, ready, stop)
    finally:
        subscriber.stop()
        opened.close()


def _serve(store: Store, subscriber: Subscriber, host: str, port: int, ready: _Flag, stop: _Flag) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StoreError(
                f"the page cannot have {host}:{port}: {error.strerror}; choose another with --port"
            ) from None
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    from depot.page import add_pages

    add_pages(store)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(app, title="Ayaz", favicon="❄️", show_welcome_message=False)
    # Not ui.run: that one returns at once in a process that multiprocessing started.
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    )

    def conduct() -> None:
        subscriber.connected.wait(10)
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        ready.set()
        stop.wait()
        server.should_exit = True

    threading.Thread(target=conduct, daemon=True).start()
    server.run()


@click.group(invoke_without_command=True)
@click.option(
    "--broker", default="mqtt://127.0.0.1:1883", show_default=True, help="mqtt://[USER:PASSWORD@]HOST[:PORT]"
)
@store_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where the page listens; 0.0.0.0 for every address.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--headless", is_flag=True, help="Store only, no page.")
@click.option("--mqtt3", is_flag=True, help="MQTT 3.1.1 instead of 5.")
@click.pass_context
def depot(
    context: click.Context, broker: str, url: str, host: str, port: int, headless: bool, mqtt3: bool
) -> None:
    """The subscriber, its store and its page, until Ctrl-C.

    \b
    Example:  ayaz depot --broker mqtt://localhost --store sqlite:///depot.db
              ayaz depot verify --store sqlite:///depot.db
    """
    if context.invoked_subcommand:
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("uvicorn", "nicegui", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stop, ready = threading.Event(), threading.Event()
    if headless:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: stop.set())
    else:
        print(f"the page: http://{host}:{port}/")
    run_depot(broker, url, host, port, headless, ready, stop, 3 if mqtt3 else 5)


@depot.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(url: str, as_json: bool) -> None:
    """Gaps and sums, per bus and boot; status 1 where a gap is found.

    \b
    Example:  ayaz depot verify --store sqlite:///depot.db --json
    """
    store = Store(url)
    rows, quarantined = store.verify(), store.quarantined()
    store.close()
    if as_json:
        print(json.dumps({"boots": rows, "quarantined": quarantined}))
    else:
        for row in rows:
            gaps = ", ".join(f"{a} to {b}" for a, b in row["gaps"]) or "none"
            lost = ", ".join(f"{k} {v}" for k, v in row["lost"].items() if v) or "nothing"
            print(
                f"{row['operator']}/{row['bus']} boot {row['boot']}: {row['stored']} stored, gaps: {gaps}, lost on the bus: {lost}"
            )
        print(f"{quarantined} items in quarantine")
    if any(row["gaps"] for row in rows):
        raise StoreError(f"{url}: there are gaps; a bus may still hold what is missing")
