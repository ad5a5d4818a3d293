"""Reading a database with cantools; also run as a process of its own, for databases that nobody has vetted.

cantools spends minutes and gigabytes on a message of 100,000,000 bytes or a multiplexer of 2**32 pages,
and what else nobody knows. So the process that reads such a file has limits that the kernel keeps, and
hands the database back pickled; see databases.py.
"""

from __future__ import annotations

import math
import pickle
import re
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import DatabaseError

if TYPE_CHECKING:
    from cantools.database import Database
    from cantools.database import Message as DbMessage

MAX_BYTES = 8_000_000
MAX_MEMORY = 220_000_000  # of the process that reads, besides its program text: 256 MB in all
CPU_S = 1.3  # that it may use for every started part of the file
PART_BYTES = 250_000  # an honest one takes 0.2 s on a laptop, a Raspberry Pi 4 four times as long
MAX_MESSAGE_BYTES = 1785  # of a J1939 transport: the longest that anyone sends
MAX_BITS = 8 * MAX_MESSAGE_BYTES
GOOD, BAD = b"D", b"E"  # what the process says first

_MESSAGE = re.compile(rb"\s*BO_\s+\d+\s+[^:]+:\s*(\d+)")
_SIGNAL = re.compile(rb"\s*SG_\s+[^:]+:\s*(\d+)\s*\|\s*(\d+)")


def cpu_seconds(path: Path) -> float:
    """What reading a file of this size may cost."""
    return CPU_S * max(1, math.ceil(path.stat().st_size / PART_BYTES))


def read_database(path: Path) -> Database:
    """Read a DBC, KCD, SYM or ARXML file, however long it takes.

    Raises
    ------
    DatabaseError
        It can't be read, is not what it says, or has in it what no bus can have.
    """
    try:
        _refuse_monsters(path)
        # Not at the top: the limits of `main` come first.
        import cantools

        database = cantools.database.load_file(str(path), strict=False)
    except DatabaseError:
        raise
    except MemoryError:
        raise DatabaseError(
            f"{path}: needs over {MAX_MEMORY // 1_000_000} MB: not the database of a bus"
        ) from None
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # cantools and its parsers raise almost anything on a broken file
        raise DatabaseError(f"{path}: not a database that we can read: {first_line(error)}") from None
    if not isinstance(database, cantools.database.can.Database):
        raise DatabaseError(f"{path}: a diagnostics database, not one of CAN messages")
    for message in database.messages:
        _refuse_nonsense(path, message)
    return database


def first_line(error: BaseException) -> str:
    """What an error says, in one line of bearable length."""
    lines = str(error).split("\n")
    return next((line.strip()[:200] for line in lines if line.strip()), type(error).__name__)


def _refuse_monsters(path: Path) -> None:
    """What a DBC says of sizes, line by line: cantools would not come so far as to say where."""
    if path.stat().st_size > MAX_BYTES:
        raise DatabaseError(f"{path}: over {MAX_BYTES // 1_000_000} MB: not the database of a bus")
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if (found := _MESSAGE.match(line)) and _over(found[1], MAX_MESSAGE_BYTES):
            raise DatabaseError(f"{path}:{number}: a message of over {MAX_MESSAGE_BYTES} bytes")
        if (found := _SIGNAL.match(line)) and (_over(found[1], MAX_BITS) or _over(found[2], MAX_BITS)):
            raise DatabaseError(f"{path}:{number}: a signal beyond {MAX_MESSAGE_BYTES} bytes")


def _over(digits: bytes, most: int) -> bool:
    return len(digits) > 9 or int(digits) > most


def _refuse_nonsense(path: Path, message: DbMessage) -> None:
    """What the rest of Ayaz need not ask again; a scale of 0 is only useless (signal maps refuse it)."""
    if not 0 <= message.frame_id < 1 << 29 or not 0 <= message.length <= MAX_MESSAGE_BYTES:
        raise DatabaseError(f"{path}: {message.name}: no such identifier or length on any bus")
    for one in message.signals:
        if not 0 <= one.start < MAX_BITS or not 0 < one.length <= MAX_BITS:
            raise DatabaseError(
                f"{path}: {message.name}.{one.name}: a signal beyond {MAX_MESSAGE_BYTES} bytes"
            )
        if not _finite(one.conversion.scale) or not _finite(one.conversion.offset):
            raise DatabaseError(f"{path}: {message.name}.{one.name}: scale or offset is no finite number")
        if any(not -(1 << 63) <= n < 1 << 63 for n in (*(one.multiplexer_ids or ()), *(one.choices or ()))):
            raise DatabaseError(f"{path}: {message.name}.{one.name}: a page or choice of over 64 bits")


def _finite(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:  # a whole number of 400 digits
        return False


def main(path: Path) -> None:
    """Read one database under limits and write it to stdout, pickled, after GOOD; or what is wrong, after BAD."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    try:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds(path))  # whose signal ends the process
        answer = GOOD + pickle.dumps(read_database(path), pickle.HIGHEST_PROTOCOL)
    except (DatabaseError, OSError) as error:
        answer = BAD + str(error).encode("utf-8", "replace")
    except (MemoryError, RecursionError):
        answer = BAD + f"{path}: not a database that we can read: too much in it".encode("utf-8", "replace")
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    # python-can, which cantools brings with it, imports asammdf and pandas where they are installed: half a second.
    sys.modules["asammdf"] = None  # type: ignore[assignment]
    main(Path(sys.argv[1]))
