"""Results of long work, one file each, in a folder that knows what they are results of: done parts are not repeated."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import read_object, write_json
from mlvl_fairseq.process.locks import locked

SETTINGS = "settings.json"


@dataclass(frozen=True)
class ResultFolder:
    """JSON objects by name; open it with :func:`result_folder`."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def get(self, name: str) -> Optional[dict]:
        """A finished part, or None. Raises DataError: its file is damaged."""
        return read_object(self.path(name)) if self.path(name).exists() else None

    def put(self, name: str, result: dict) -> None:
        """Keep a finished part (atomically)."""
        write_json(self.path(name), result)

    def once(self, name: str, compute: Callable[[], dict]) -> dict:
        """A part, computed and kept if it is not there yet."""
        found = self.get(name)
        if found is None:
            found = compute()
            self.put(name, found)
        return found


@contextlib.contextmanager
def result_folder(folder, settings: Dict[str, object]) -> Iterator[ResultFolder]:
    """Make a folder for results computed with `settings`, or go on in one; one process at a time.

    Raises:
        UserError: its results were computed with other settings, or another process is at work in it.
        DataError: its settings cannot be read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=False):
        path = folder / SETTINGS
        theirs = read_object(path) if path.exists() else settings
        differ = [
            f"{key} is {theirs.get(key)!r} there, {settings.get(key)!r} here"
            for key in {**settings, **theirs}
            if theirs.get(key) != settings.get(key)
        ]
        if differ:
            raise UserError(f"{folder} holds results with other settings ({'; '.join(differ)}): choose another folder")
        if not path.exists():
            write_json(path, settings)
        yield ResultFolder(folder)
