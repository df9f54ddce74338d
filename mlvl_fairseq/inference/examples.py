"""What a network's heads say of examples, each a text about one or more images: scores of labels, and answers in order.

An image is encoded once for all its texts, as long as there is room, and texts of like length share a batch.
"""

from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.inference.matching import MEMORY, MIB
from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.networks.cclm_heads import HEADS

Batch = Tuple[np.ndarray, Encoded, Encoded]  # rows, their texts, and images, those of a text one after the other


def require_head(encoder: Encoder, name: str, how: str) -> None:
    """Raises UserError: the network has no such head, which `how` trains."""
    if getattr(encoder.network, HEADS[name].attribute, None) is None:
        raise UserError(f"{encoder.source}: this model has no head '{name}': {how} trains one")


class EncodedImages:
    """Images by name, as the network encodes them.

    Args:
        encoder: its network. opened: name -> the network's input, float tensor. memory: MiB of states that are kept.

    Attributes:
        again: how often an image was encoded that had not been kept.
    """

    def __init__(self, encoder: Encoder, opened: Callable[[str], Tensor], memory: float = MEMORY):
        self.encoder, self.opened, self.free = encoder, opened, memory * MIB
        self.kept: Dict[str, Encoded] = {}
        self.again = 0

    def read(self, names: Sequence[str], policy: BadImagePolicy, batch_size: int = 64) -> List[str]:
        """Those of the images that can be used; as many as there is room for are encoded.

        Raises:
            DataError: one cannot be read, and the policy does not allow it.
        """
        usable, bad = [], 0
        for start in tqdm(range(0, len(names), batch_size), desc="images", unit=" batches"):
            good, pixels = [], []
            for name in names[start : start + batch_size]:
                try:
                    pixels.append(self.opened(name))
                except DataError as error:
                    bad += 1
                    policy.accept(str(error), bad)
                else:
                    good.append(name)
            usable += good
            if pixels and self.free > 0:
                self._keep(good, self._encode(pixels))
        return usable

    def __call__(self, names: Sequence[str]) -> Encoded:
        """[len(names)]. Raises DataError: a picture cannot be read any more."""
        missing = [name for name in dict.fromkeys(names) if name not in self.kept]
        found = {}
        if missing:
            self.again += len(missing)
            found = dict(zip(missing, _rows(self._encode([self.opened(name) for name in missing]))))
        parts = [found[name] if name in found else self.kept[name] for name in names]
        return Encoded(*(None if every[0] is None else torch.cat(every) for every in zip(*(p[:3] for p in parts))))

    def _encode(self, pixels: List[Tensor]) -> Encoded:
        with torch.inference_mode():
            return self.encoder.network.encode_image(self.encoder.placed(torch.stack(pixels)))

    def _keep(self, names: Sequence[str], images: Encoded) -> None:
        for name, image in zip(names, _rows(images)):
            self.free -= sum(part.nbytes for part in image[:3] if part is not None)
            if self.free < 0:
                return
            self.kept[name] = Encoded(*(None if part is None else part.clone() for part in image[:3]))


def _rows(images: Encoded) -> List[Encoded]:
    """Each image by itself, [1, ...]."""
    count = len(images.vector)
    return [Encoded(*(None if part is None else part[k : k + 1] for part in images[:3])) for k in range(count)]


def _batches(
    encoder: Encoder,
    images: EncodedImages,
    texts: Sequence[str],
    names: Sequence[Sequence[str]],
    lang: Optional[str],
    batch_size: int,
    progress: Optional[str],
) -> Iterator[Batch]:
    tokens = encoder.tokenize(texts, lang)
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, desc=progress, disable=progress is None, unit=" batches"):
        rows = order[start : start + batch_size]
        batch, ends = (part.to(encoder.device) for part in pad_right([tokens[r] for r in rows], encoder.tokenizer.pad))
        text = encoder.network.encode_text(batch, ends, lang)
        yield rows, text, images([name for row in rows for name in names[row]])


@torch.inference_mode()
def label_scores(
    encoder: Encoder,
    images: EncodedImages,
    texts: Sequence[str],
    names: Sequence[Sequence[str]],
    lang: Optional[str] = None,
    batch_size: int = 64,
    progress: Optional[str] = None,
) -> np.ndarray:
    """Logits float32 [texts, labels] of head ``labels``.

    Args:
        encoder: its network has the head. images: opens and encodes images. texts: of language `lang`.
        names: of the images of each text, as many as the network reads. batch_size: texts at a time.
        progress: title of a progress bar; None shows none.

    Raises:
        UserError: a score is not finite. DataError: a picture cannot be read any more.
    """
    found: List[np.ndarray] = [np.empty(0)] * len(texts)
    for rows, text, image in _batches(encoder, images, texts, names, lang, batch_size, progress):
        logits = HEADS["labels"].run(encoder.network, text, image)["logits"].float().cpu().numpy()
        for row, one in zip(rows, logits):
            found[row] = one
    return _finite(np.stack(found), encoder)


@torch.inference_mode()
def rank_answers(
    encoder: Encoder,
    images: EncodedImages,
    questions: Sequence[str],
    names: Sequence[Sequence[str]],
    tree: AnswerTree,
    k: int,
    first_twice: bool = False,
    lang: Optional[str] = None,
    batch_size: int = 64,
    progress: Optional[str] = None,
) -> np.ndarray:
    """Numbers int64 [questions, k] of answers, the best first, by head ``answers``; see
    :meth:`mlvl_fairseq.modules.answer_decoder.AnswerDecoder.rank`.

    Args:
        tree: of all answers. k: how many are compared, at most all. first_twice: as published. Others:
            :func:`label_scores`.
    """
    found, network = np.empty((len(questions), min(k, len(tree))), np.int64), encoder.network
    for rows, text, image in _batches(encoder, images, questions, names, lang, batch_size, progress):
        ranked = network.rank_answers(network.question(text, image), tree, k, first_twice)
        _finite(ranked.scores.float().cpu().numpy(), encoder)
        found[rows] = ranked.answers.cpu().numpy()
    return found


def _finite(scores: np.ndarray, encoder: Encoder) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise UserError(f"{encoder.source}: some scores are not finite: the weights are damaged, or training diverged")
    return scores
