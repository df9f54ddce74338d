"""``--user-dir`` names this package by another path, or another name, than it was imported from already.

fairseq compares path strings and names: it refuses a symbolic link, ``$(mlvl-path)`` against a checkout on PYTHONPATH,
and a spawned rank that has imported the package before ``--user-dir``; and what was imported before fairseq has
registered nothing yet. (A link that is the first to import the package: see ``mlvl_fairseq/__init__.py``.)

Breaks without it: ``PYTHONPATH=. fairseq-train --distributed-world-size 2 --user-dir LINK/mlvl_fairseq``.
"""

import importlib
import os
from typing import Optional

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap

_PACKAGE = __name__.partition(".")[0]


@patches("fairseq.utils")
def import_once(module) -> None:
    def make(import_user_module):
        def import_unless_here(args):
            user_dir = getattr(args, "user_dir", None)
            folder = _find(user_dir, os.path.dirname(module.__file__)) if user_dir else None
            if folder is None:
                return import_user_module(args)  # which says that there is no such folder
            package = importlib.import_module(_PACKAGE)
            if any(os.path.samefile(folder, known) for known in package.__path__):
                return package.register()
            if os.path.basename(os.path.realpath(folder)) == _PACKAGE:
                raise UserError(
                    f"--user-dir {user_dir}: {_PACKAGE} was already imported from {list(package.__path__)[0]}; "
                    'give --user-dir "$(mlvl-path)", or uninstall one of the two'
                )
            return import_user_module(args)

        return import_unless_here

    wrap(module, "import_user_module", make)


def _find(user_dir: str, fairseq_dir: str) -> Optional[str]:
    """The folder that fairseq takes `user_dir` for: from the working directory, inside fairseq, or beside it."""
    folders = (os.path.join(base, user_dir) for base in (os.getcwd(), fairseq_dir, os.path.dirname(fairseq_dir)))
    return next(filter(os.path.isdir, folders), None)
