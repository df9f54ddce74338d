"""A folder called ``fairseq`` in the working directory hides the real package (fairseq issues of the kind
``ImportError: cannot import name ... from 'fairseq' (unknown location)``).

Breaks without it: any ``mlvl-*`` command in a directory that holds a clone of fairseq, which is to say so in one line.
"""

import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Optional

from mlvl_fairseq.errors import UserError

_DISTRIBUTIONS = ("fairseq-fixed", "fairseq")


def refuse_shadowed_fairseq(spec: Optional[ModuleSpec]) -> None:
    """Raise UserError if `spec`, found for ``fairseq``, is a folder that only has its name. A missing package is fine:
    its import says so by itself."""
    folder = shadowing_folder(spec)
    if folder is not None:
        raise UserError(
            f"the folder {folder} hides the fairseq package: rename the folder, or run the command in another directory"
        )


def shadowing_folder(spec: Optional[ModuleSpec]) -> Optional[Path]:
    """The folder that hides fairseq, or None if `spec` is the real package or nothing was found at all."""
    if spec is None:
        return None
    if spec.origin is None or not spec.has_location:  # a namespace package: a folder without __init__.py
        return Path(next(iter(spec.submodule_search_locations or []), "fairseq"))
    used = Path(spec.origin).resolve().parent
    in_working_directory = used == Path(os.getcwd()).resolve() / "fairseq"
    return used if in_working_directory and _installed_elsewhere(used) else None


def _installed_elsewhere(used: Path) -> bool:
    from importlib import metadata

    for name in _DISTRIBUTIONS:
        try:
            installed = Path(metadata.distribution(name).locate_file("fairseq/__init__.py"))
        except metadata.PackageNotFoundError:
            continue
        if installed.exists() and installed.resolve().parent != used:
            return True
    return False
