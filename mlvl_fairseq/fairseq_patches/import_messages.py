"""Importing fairseq is not silent. One of its modules (wav2vec's classification) turns the root logger to DEBUG, which
makes every library report what it does; torch deprecates ``torch.jit.script``, which fairseq's models use; its speech
synthesis advertises tensorboardX. These three are stopped, nothing else. fairseq's own commands import fairseq before
this package, and keep their levels.

Breaks without it: ``python -c "import mlvl_fairseq.inference"``, and any ``mlvl-*`` command that imports fairseq.
"""

import contextlib
import logging
import warnings
from typing import Iterator

from mlvl_fairseq.fairseq_patches.patching import around_import

_SPEECH = "fairseq.tasks.text_to_speech"


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
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script(_method)?` is ")
    logging.getLogger(_SPEECH).addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Please install tensorboardX")
