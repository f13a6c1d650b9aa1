"""Where a test finds what its guests wrote."""

import re
import shutil
from pathlib import Path


class LogFolder:
    """One folder per test; before the first and between tests, what comes goes to `session`."""

    def __init__(self, root: Path) -> None:
        self.root = self.folder = root

    def begin(self) -> None:
        """Forget the logs of the run before."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.leave()

    def enter(self, test: str) -> None:
        """Send what is written from now on to the folder of this test."""
        self._move_to(re.sub(r"[^\w.-]+", "-", test).strip("-"))

    def leave(self) -> None:
        """The test is over."""
        self._move_to("session")

    def file(self, name: str) -> Path:
        """Return the file of this name in the current folder."""
        return self.folder / name

    def _move_to(self, name: str) -> None:
        self.folder = self.root / name
        self.folder.mkdir(parents=True, exist_ok=True)
