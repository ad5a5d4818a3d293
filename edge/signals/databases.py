"""Databases of CAN messages: found by name or path, and loaded by cantools with its traps closed."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

from cantools.database import Database

from edge.errors import DatabaseError
from edge.signals import loading

PATIENCE = 20  # times the CPU time: a busy machine is no reason to refuse a good file


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
    """Load a DBC (or KCD, SYM, ARXML) file: a database or a DatabaseError, in bounded time and memory.

    A file that we don't ship is read by a process of its own (`loading`), which may use 256 MB, and 1.3 s of
    CPU time for every 250 kB of the file. Every message of what comes back is at most 1785 bytes long,
    every scale and offset is finite.

    Raises
    ------
    DatabaseError
        The file can't be read, is not what it says, or is beyond all measure.
    """
    if path.parent == shipped_folder():
        return loading.read_database(path)
    return understand(path, *_read_apart(path))


def _read_apart(path: Path) -> tuple[int, bytes]:
    """What the process that reads the file says: its exit status and its answer."""
    try:
        seconds = loading.cpu_seconds(path)
        done = subprocess.run(
            [sys.executable, "-m", loading.__name__, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            timeout=PATIENCE * seconds,
            check=False,
        )
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatabaseError(f"{path}: cannot be read: {reason}") from None
    except subprocess.TimeoutExpired:
        raise DatabaseError(f"{path}: not read after {PATIENCE * seconds:g} s") from None
    return done.returncode, done.stdout


def understand(path: Path, status: int, answer: bytes) -> Database:
    """The database in the answer of a process that ran `loading.main`.

    Raises
    ------
    DatabaseError
        There is none.
    """
    if answer.startswith(loading.BAD):
        raise DatabaseError(answer[1:].decode("utf-8", "replace"))
    if status == -signal.SIGPROF:
        raise DatabaseError(f"{path}: takes too long to read: not the database of a bus")
    if status or not answer.startswith(loading.GOOD):
        raise DatabaseError(f"{path}: not a database that we can read: its reader died ({status})")
    database = pickle.loads(answer[1:])  # what our own process has just written
    assert isinstance(database, Database)
    return database
