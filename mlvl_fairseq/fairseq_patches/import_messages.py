"""Importing fairseq is not silent. One of its modules (wav2vec's classification) turns the root logger to DEBUG, which
makes every library report what it does; torch deprecates ``torch.jit.script``, which fairseq's models use; its speech
synthesis advertises tensorboardX. Its trainer then calls what torch has renamed (``torch.cuda.amp.autocast``,
``GradScaler``), and asks for pinned memory where there is no GPU. These are stopped, nothing else. fairseq's own
commands import fairseq before this package: they keep their levels, and the first two of these lines.

Breaks without it: ``python -c "import mlvl_fairseq.inference"``, and any ``mlvl-*`` command that imports fairseq.
"""

import contextlib
import logging
import warnings
from typing import Iterator

from mlvl_fairseq.fairseq_patches.patching import around_import

_SPEECH = "fairseq.tasks.text_to_speech"
_NOTHING_TO_DO_ABOUT = (
    r"`torch\.jit\.script(_method)?` is ",
    r"`torch\.cuda\.amp\.(autocast|GradScaler)\(args\.\.\.\)` is deprecated",
    r"'pin_memory' argument is set as true but no accelerator is found",
)


@around_import("fairseq")
@contextlib.contextmanager
def leave_logging_alone() -> Iterator[None]:
    configure = logging.basicConfig
    logging.basicConfig = lambda **options: None
    try:
        yield
    finally:
        logging.basicConfig = configure


def silence_import_messages() -> None:
    """To be called before fairseq is imported; safe to call twice."""
    for message in _NOTHING_TO_DO_ABOUT:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger(_SPEECH).addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Please install tensorboardX")
