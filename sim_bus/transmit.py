"""Sending where there may be no room for a moment."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from edge.errors import SourceError

PATIENCE_S = 1.0
PAUSE_S = 0.0005
NO_ROOM = (errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM)


def patiently(send: Callable[[], object], where: str) -> None:
    """Call `send` until the queue has room for it.

    Raises
    ------
    SourceError
        It has had none for a second.
    OSError or what python-can makes of it
        Anything else.
    """
    deadline = None
    while True:
        try:
            send()
            return
        except Exception as error:  # python-can's errors carry the number elsewhere
            number = getattr(error, "errno", None) or getattr(error, "error_code", None)
            if number not in NO_ROOM:
                raise
            now = time.monotonic()
            deadline = deadline or now + PATIENCE_S
            if now > deadline:
                raise SourceError(
                    f"{where}: cannot send: its queue has been full for {PATIENCE_S:g} s; is another node there to "
                    "acknowledge, and is --speed what the bus can carry? (more room: ip link set ... txqueuelen 1000)"
                ) from None
            time.sleep(PAUSE_S)
