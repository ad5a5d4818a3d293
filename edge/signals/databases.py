"""Databases of CAN messages: found by name or path, and loaded by cantools with its traps closed."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import cantools
from cantools.database import Database

from edge.errors import DatabaseError

MAX_BYTES = 32_000_000
MAX_MESSAGE_BYTES = 1785  # of a J1939 transport: the longest that anyone sends
MAX_BITS = 8 * MAX_MESSAGE_BYTES

_MESSAGE = re.compile(rb"\s*BO_\s+\d+\s+[^:]+:\s*(\d+)")
_SIGNAL = re.compile(rb"\s*SG_\s+[^:]+:\s*(\d+)\s*\|\s*(\d+)")


def shipped_folder() -> Path:
    """Where the databases, maps and path tables that we ship are installed."""
    return Path(str(resources.files("dbc")))


def find_database(where: str | Path) -> Path:
    """The path of a database: one that we ship by its name ("bms"), or a path.

    Raises
    ------
    DatabaseError
        There is none.
    """
    if isinstance(where, str) and re.fullmatch(r"\w+", where):
        path = shipped_folder() / f"{where}.dbc"
        if path.is_file():
            return path
    path = Path(where)
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in shipped_folder().glob("*.dbc")))
        raise DatabaseError(f"{where}: no such database; give a path, or one that we ship: {shipped}")
    return path


def load_database(path: Path) -> Database:
    """Load a DBC (or KCD, SYM, ARXML) file.

    Raises
    ------
    DatabaseError
        The file can't be read, is not what it says, or is beyond all measure.
    """
    try:
        _refuse_monsters(path)
        database = cantools.database.load_file(str(path), strict=False)
    except DatabaseError:
        raise
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # cantools and its parsers raise almost anything on a broken file
        raise DatabaseError(f"{path}: not a database that we can read: {first_line(error)}") from None
    if not isinstance(database, Database):
        raise DatabaseError(f"{path}: a diagnostics database, not one of CAN messages")
    return database


def first_line(error: BaseException) -> str:
    """What an error says, in one line of bearable length."""
    lines = str(error).split("\n")
    return next((line.strip()[:200] for line in lines if line.strip()), type(error).__name__)


def _refuse_monsters(path: Path) -> None:
    """cantools works for minutes on a message of 100,000,000 bytes: look at the sizes first."""
    if path.stat().st_size > MAX_BYTES:
        raise DatabaseError(f"{path}: over {MAX_BYTES // 1_000_000} MB: not a database of CAN messages")
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if (found := _MESSAGE.match(line)) and _over(found[1], MAX_MESSAGE_BYTES):
            raise DatabaseError(f"{path}:{number}: a message of over {MAX_MESSAGE_BYTES} bytes")
        if (found := _SIGNAL.match(line)) and (_over(found[1], MAX_BITS) or _over(found[2], MAX_BITS)):
            raise DatabaseError(f"{path}:{number}: a signal beyond {MAX_MESSAGE_BYTES} bytes")


def _over(digits: bytes, most: int) -> bool:
    return len(digits) > 9 or int(digits) > most
