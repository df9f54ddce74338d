"""What our commands need of fairseq's fork, of torch, numpy and clip: one problem a file, which names the command that
breaks without it.

Each patch does nothing where it is not needed. :func:`apply` waits for fairseq's modules instead of importing them, so
that commands which need no fairseq start at once.
"""

from importlib import import_module
from pkgutil import iter_modules

from mlvl_fairseq.fairseq_patches.clip_import import import_clip
from mlvl_fairseq.fairseq_patches.import_messages import silence_import_messages
from mlvl_fairseq.fairseq_patches.patching import install_patches
from mlvl_fairseq.process.exit_status import install_excepthook

for _module in iter_modules(__path__):  # each registers its patches
    import_module(f"{__name__}.{_module.name}")

__all__ = ["apply", "import_clip"]


def apply() -> None:
    """Patch fairseq's modules: those imported already now, the others right after their import. Safe to call twice.

    Raises:
        UserError: what was imported as ``fairseq`` is some folder of that name, not the package.
    """
    silence_import_messages()
    install_patches()
    install_excepthook()
