"""Where a broker is: mqtt://[USER:PASSWORD@]HOST[:PORT], mqtts:// for TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from edge.errors import BrokerError

PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class BrokerUrl:
    """A broker's address, and who we are to it."""

    tls: bool
    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"  # for logs: never the password


def parse_broker(url: str) -> BrokerUrl:
    """A broker's URL, taken apart.

    Raises
    ------
    BrokerError
        It is no broker's URL.
    """
    try:
        parts = urlsplit(url)
        port = PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port or parts.scheme not in PORTS or not parts.hostname:
        raise BrokerError(f"{url}: must be mqtt://[USER:PASSWORD@]HOST[:PORT] or mqtts://...")
    user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
    return BrokerUrl(parts.scheme == "mqtts", parts.hostname, port, user, password)
