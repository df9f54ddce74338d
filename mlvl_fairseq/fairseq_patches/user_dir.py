"""``--user-dir`` may name this package by another spelling of the path it was imported from already."""

import importlib
import os
from typing import Optional

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap

_PACKAGE = __name__.partition(".")[0]


@patches("fairseq.utils")
def import_once(module) -> None:
    """fairseq compares path strings and refuses a second spelling (a symbolic link, ``$(mlvl-path)`` against a
    checkout on PYTHONPATH); and what was imported before fairseq has registered nothing yet."""

    def make(import_user_module):
        def import_unless_here(args):
            user_dir = getattr(args, "user_dir", None)
            if user_dir is None or os.path.basename(os.path.abspath(user_dir)) != _PACKAGE:
                return import_user_module(args)
            folder = _find(user_dir, os.path.dirname(module.__file__))
            package = importlib.import_module(_PACKAGE)
            if folder is None:
                return import_user_module(args)  # which says that there is no such folder
            if not any(os.path.samefile(folder, known) for known in package.__path__):
                raise UserError(
                    f"--user-dir {user_dir}: {_PACKAGE} was already imported from {list(package.__path__)[0]}; "
                    'give --user-dir "$(mlvl-path)", or uninstall one of the two'
                )
            package.register()

        return import_unless_here

    wrap(module, "import_user_module", make)


def _find(user_dir: str, fairseq_dir: str) -> Optional[str]:
    """The folder that fairseq takes `user_dir` for: from the working directory, inside fairseq, or beside it."""
    folders = (os.path.join(base, user_dir) for base in (os.getcwd(), fairseq_dir, os.path.dirname(fairseq_dir)))
    return next(filter(os.path.isdir, folders), None)
