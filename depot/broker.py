"""The embedded broker of the demo: amqtt (MQTT 3.1.1) in a thread, clients with user names.

For the demo only: what it forgets and leaks is told in the design. A real depot runs Mosquitto.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.errors import BrokerError

START_S = 15.0


class _SteadyDict(dict[str, Any]):
    """amqtt walks through its subscriptions with awaits between, while other clients subscribe: its walks
    get a snapshot, or a new client would break another's connection."""

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(super().__iter__()))

    def items(self) -> Any:
        return tuple(super().items())


class EmbeddedBroker:
    """A context: the broker listens on 127.0.0.1:port from `with` on.

    Raises
    ------
    BrokerError
        It did not start.
    """

    def __init__(self, port: int, users: dict[str, str]) -> None:
        self._port, self._users = port, users
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._broker: Any = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def __enter__(self) -> EmbeddedBroker:
        self._thread.start()
        if not self._started.wait(START_S) or self._failed:
            raise BrokerError(f"the embedded broker did not start on port {self._port}: {self._failed}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._start())
        except Exception as error:
            self._failed = error
            self._started.set()
            return
        self._started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from amqtt.broker import Broker
            from pwdlib import PasswordHash
            from pwdlib.hashers.argon2 import Argon2Hasher

            with tempfile.TemporaryDirectory() as folder:
                passwords = Path(folder) / "passwords"
                # The words are random and live as long as the demo; a slow hash would only hold 100 buses up.
                hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
                lines = [f"{user}:{hasher.hash(word)}" for user, word in self._users.items()]
                passwords.write_text("\n".join(lines), "utf-8")
                config = {
                    "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self._port}"}},
                    "plugins": {
                        "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)},
                    },
                }
                self._broker = Broker(config, loop=self._loop)
                self._broker._subscriptions = _SteadyDict()
                await self._broker.start()
