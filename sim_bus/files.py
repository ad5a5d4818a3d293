"""Files that a run writes over hours: FILE.part until they end well, one clear error where they can't."""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.command import whole_file
from edge.errors import AyazError


class WholeFile(ABC):
    """A file under way is FILE.part; it gets its name only when its writer ends well, and after an error none is left."""

    def __init__(self, path: Path, error: type[AyazError]) -> None:
        self.path, self._error = path, error
        self._stack = contextlib.ExitStack()
        self.part = self._stack.enter_context(whole_file(path))
        self._stack.callback(self.close)

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """What the disk refuses becomes one error that names the file."""
        try:
            yield
        except OSError as error:
            text = f"{self.path}: cannot be written: {error.strerror or error}"
            raise self._error(f"{text}; nothing is left of it") from None

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """`guard`, for what a constructor does: after an error there will be no end of a block to tidy up."""
        try:
            with self.guard():
                yield
        except BaseException:
            with contextlib.suppress(OSError, AyazError):
                self._stack.__exit__(*sys.exc_info())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.guard():
            self._stack.__exit__(kind, error, trace)
