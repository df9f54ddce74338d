"""Results of long work, one file each, in a folder that knows what they are results of: done parts are not repeated."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import read_object
from mlvl_fairseq.process.locks import locked
from mlvl_fairseq.version import __version__

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
def result_folder(
    folder, settings: Dict[str, object], earlier: Optional[Dict[str, object]] = None
) -> Iterator[ResultFolder]:
    """Make a folder for results computed with `settings`, or go on in one; one process at a time.

    Args:
        settings: for JSON.
        earlier: settings that folders of an earlier version do not hold, and what they were then.

    Raises:
        UserError: its results were computed with other settings, or another process is at work in it.
        DataError: its settings cannot be read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=False):
        path = folder / SETTINGS
        theirs = {**(earlier or {}), **read_object(path)} if path.exists() else settings
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


_EARLIER = {"evaluator": "retrieval"}  # there was no other


def scores_folder(folder, evaluator: str, model: str, settings: Dict[str, object]):
    """A :func:`result_folder` of ``mlvl-evaluate --output-dir``: ``<language>.<split>.json``, ranks beside them.

    Args:
        evaluator: its name. model: fingerprint of the weights.
        settings: what else the scores share, ``split`` among them.
    """
    return result_folder(folder, {"evaluator": evaluator, "model": model, **settings, "version": __version__}, _EARLIER)


def read_scores_settings(folder) -> Optional[Dict[str, object]]:
    """The settings of a :func:`scores_folder`; None: it is none. Raises DataError: they are damaged."""
    path = Path(folder) / SETTINGS
    settings = {**_EARLIER, **read_object(path)} if path.is_file() else {}
    return settings if {"model", "split"} <= settings.keys() else None
