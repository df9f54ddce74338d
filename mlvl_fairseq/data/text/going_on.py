"""Weights that a training starts from were learned with a tokenizer, and mean nothing to the ids of another one."""

import logging
from pathlib import Path
from typing import Any, Mapping, Optional

from mlvl_fairseq.data.text.base import Tokenizer, find_tokenizer
from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)


def tokenizer_to_go_on(state: Mapping[str, Any], source, own: Tokenizer, folder=None, option="--init-from"):
    """The tokenizer of a checkpoint that a training goes on from.

    Args:
        state: the checkpoint's task state. source: the checkpoint. own: of the training.
        folder: where the checkpoint's was. option: what names the checkpoint.

    Returns:
        the checkpoint's; where it does not say which that was, `own`, with a warning.

    Raises:
        UserError: an id stands for something else here. DataError: the state is damaged.
    """
    try:
        found = find_tokenizer(state, source, folder)
    except UserError:  # its files are not there any more: are they those at hand?
        found = find_tokenizer(state, source, own.folder)
    if found is None:
        said = "%s %s does not say how its texts were cut: this run's tokenizer (%s) is taken to be the same"
        logger.warning(said, option, source, own.fingerprint[:12])
        return own
    require_same(own, found, f"{option} {source}", folder)
    return found


def require_same(own: Tokenizer, other: Tokenizer, weights: str, folder=None) -> None:
    """Raises UserError: `weights` were trained with `other`, whose ids stand for something else in `own`; `folder`:
    where `other` is."""
    if own.continues(other):
        return
    advice = "grow this run's by the same languages first"
    if other.comes_with_a_model:
        advice = f"give its own, {folder or 'as --tokenizer-folder'}"
    raise UserError(
        f"{weights} was trained with another tokenizer ({other.option} {other.fingerprint[:12]}) than this run's "
        f"({own.option} {own.fingerprint[:12]}): {advice}, or other weights"
    )


def require_tokenizer_of_folder(own: Tokenizer, path, option: str) -> None:
    """Compare with a tokenizer that lies beside weights, if there is one of this kind.

    Args:
        path: of the weights, which may be no folder. option: what names them.

    Raises:
        UserError: an id stands for something else there.
    """
    path = Path(path)
    if not path.is_dir() or not type(own).detect(path):
        return
    other: Optional[Tokenizer] = None
    try:
        other = type(own).load(path)
    except DataError as error:
        logger.warning("%s %s: the tokenizer beside these weights cannot be compared: %s", option, path, error)
    if other is not None:
        require_same(own, other, f"{option} {path}", path)
