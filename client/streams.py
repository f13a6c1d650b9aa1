"""What leaves the client: every text that goes to a terminal, a pipe or a file passes `shown` here, whoever wrote it.

Names of keys, messages of drivers and reasons for fences were written by others, and may hold what steers a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from schema.shown import shown


class ShownStream:
    """A text stream that writes out what would steer a terminal. `trusted`: the stream below, for text that is our own."""

    def __init__(self, trusted: TextIO) -> None:
        self.trusted = trusted

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(
                f"write() argument must be str, not {type(text).__name__}"
            )  # click asks so for binary streams
        self.trusted.write(shown(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trusted, name)


@contextmanager
def shown_streams() -> Iterator[None]:
    """Stdout and stderr that write out what would steer a terminal."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_shown(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _shown(stream: TextIO) -> Any:
    return stream if isinstance(stream, ShownStream) else ShownStream(stream)


def trusted_stdout() -> TextIO:
    """For what has colours of ours, and nothing of others that was not `shown` before."""
    stdout: Any = sys.stdout
    return stdout.trusted if isinstance(stdout, ShownStream) else stdout
