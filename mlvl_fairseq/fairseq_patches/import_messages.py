"""Importing fairseq says two things that are not the user's business: torch deprecates ``torch.jit.script``, which
fairseq's models use, and fairseq's speech synthesis advertises tensorboardX. These two are not shown, nothing else."""

import logging
import warnings

_SPEECH = "fairseq.tasks.text_to_speech"


def silence_import_messages() -> None:
    """To be called before fairseq is imported; safe to call twice."""
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script(_method)?` is ")
    logging.getLogger(_SPEECH).addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Please install tensorboardX")
