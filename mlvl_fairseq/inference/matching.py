"""Scores of pairs of an image and a text by a network that offers `match`, such as one with a fusion encoder.

What a pair costs beyond its own layers is paid once:

* Keys and values are those of an image; they are computed once for all its texts (of a block of texts, see below).
* Texts of one length (in tokens) go together: there is no padding.
* Texts of the same tokens are one text, so that equal captions get equal scores.

Memory is bounded: states of images and of texts have a limit each (images beyond it are encoded again when their turn
comes, texts beyond it go in blocks, shortest first, and each image's keys and values are computed once a block); beside
them there are the keys and values of a few images, and one batch, with copies of those unless they are of one image.
"""

from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.networks.base import Encoded

MIB = 2**20
MEMORY = 4096  # MiB
# Keys and values of the images whose texts go together. More images give larger batches of texts of one length, whose
# pairs need copies of them.
VIEWS_MIB, CPU_VIEWS_MIB = 512, 64


def require_match(encoder: Encoder) -> None:
    """Raises UserError: the network only compares vectors."""
    if encoder.network.match is None:
        raise UserError(
            f"{encoder.source}: this model has no fusion encoder with a head that scores pairs: "
            "mlvl-evaluate retrieval ranks by its vectors"
        )


class ImageStates:
    """Images as their network encodes them, by row.

    Args:
        encoder: its network. dataset: a `LoadedImage` for each row, as :meth:`Encoder.image_files` gives it.
        memory: MiB of states that are kept.
    """

    def __init__(self, encoder: Encoder, dataset: Dataset, memory: float):
        self.encoder, self.dataset, self.free = encoder, dataset, memory * MIB
        self.kept: Dict[int, Encoded] = {}
        self.again = 0  # images that were encoded once more

    def keep(self, rows: np.ndarray, images: Encoded) -> None:
        """Keep images [g] of these rows, as long as there is room."""
        for place, row in enumerate(rows):
            self.free -= sum(part[place].nbytes for part in images if part is not None)
            if self.free < 0:
                return
            self.kept[int(row)] = _take(images, torch.tensor([place], device=images.vector.device))

    def __call__(self, rows: Sequence[int]) -> Encoded:
        """Images [len(rows)], encoded again where they are not kept.

        Raises:
            DataError: a picture cannot be read any more.
        """
        missing = [row for row in rows if row not in self.kept]
        found = {row: self.kept[row] for row in rows if row in self.kept}
        if missing:
            self.again += len(missing)
            encoded = self.encoder.network.encode_image(torch.stack(list(map(self._pixels, missing))))
            device = encoded.vector.device
            found.update((row, _take(encoded, torch.tensor([k], device=device))) for k, row in enumerate(missing))
        return _join([found[row] for row in rows])

    def _pixels(self, row: int) -> Tensor:
        image = self.dataset[row]
        if image.pixels is None:
            raise DataError(f"{image.problem} (it could be read before)")
        return self.encoder.placed(image.pixels)


class TextStates:
    """Texts as a network encodes them, those of one length together and without padding.

    Args:
        tokens: of each text, see :meth:`Encoder.tokenize`. rows: which of them. lang: their language.
        batch_size: texts encoded at a time.
    """

    def __init__(self, encoder: Encoder, tokens: Sequence, rows: np.ndarray, lang: Optional[str], batch_size: int):
        self.length, self.place = np.array([len(ids) for ids in tokens]), np.zeros(len(tokens), np.int64)
        self.encoded: Dict[int, Encoded] = {}
        for length in np.unique(self.length[rows]):
            same = rows[self.length[rows] == length]
            self.place[same] = np.arange(len(same))
            batches = (same[start : start + batch_size] for start in range(0, len(same), batch_size))
            self.encoded[length] = _join([encode_same([tokens[row] for row in b], encoder, lang) for b in batches])

    def __call__(self, rows: np.ndarray) -> Encoded:
        """Some of them, of one length."""
        encoded = self.encoded[self.length[rows[0]]]
        return _take(encoded, torch.from_numpy(self.place[rows]).to(encoded.vector.device))


def encode_same(tokens: List[List[int]], encoder: Encoder, lang: Optional[str]) -> Encoded:
    """Texts of one length."""
    batch, ends = (part.to(encoder.device) for part in pad_right(tokens, encoder.tokenizer.pad))
    return encoder.network.encode_text(batch, ends, lang)


def _take(encoded: Encoded, rows: Tensor) -> Encoded:
    return Encoded(*(None if part is None else part[rows] for part in encoded[:3]))


def _join(parts: List[Encoded]) -> Encoded:
    """One batch of several of the same shape."""
    return Encoded(*(None if every[0] is None else torch.cat(every) for every in zip(*(part[:3] for part in parts))))


@torch.inference_mode()
def match_pairs(
    encoder: Encoder,
    image_states: Callable[[Sequence[int]], Encoded],
    captions: Sequence[str],
    lang: Optional[str],
    images: np.ndarray,
    texts: np.ndarray,
    batch_size: int = 64,
    memory: float = MEMORY / 2,
    progress: Optional[str] = None,
) -> np.ndarray:
    """Scores of pairs.

    Args:
        encoder: its network offers `match` (:func:`require_match`).
        image_states: rows of images -> what the network's `encode_image` makes of them.
        captions: texts of language `lang`.
        images, texts: int64 [P], rows of images and of captions; a pair may occur several times.
        batch_size: pairs at a time. memory: MiB of the texts' states.
        progress: title of a progress bar; None shows none.

    Returns:
        float32 [P].

    Raises:
        UserError: a score is not finite.
    """
    tokens, text_of = _distinct(encoder.tokenize(captions, lang))
    numbers, pair_of = np.unique(images * len(tokens) + text_of[texts], return_inverse=True)
    pairs = np.stack(np.divmod(numbers, len(tokens)), axis=1)  # image by image
    lengths, few = np.array([len(ids) for ids in tokens]), _images_at_once(encoder, image_states, pairs)
    network, scores = encoder.network, np.empty(len(pairs), np.float32)
    with tqdm(total=len(pairs), desc=progress, disable=progress is None, unit=" pairs") as bar:
        for block in _text_blocks(encoder, tokens, np.unique(pairs[:, 1]), lengths, lang, memory):
            text_states = TextStates(encoder, tokens, block, lang, batch_size)
            for rows in _image_blocks(pairs, np.flatnonzero(np.isin(pairs[:, 1], block)), few):
                own, place = np.unique(pairs[rows, 0], return_inverse=True)
                views = network.image_keys_values(image_states(own.tolist()))
                for batch in _batches(lengths[pairs[rows, 1]], place, batch_size):
                    text = text_states(pairs[rows[batch], 1])
                    at = torch.from_numpy(place[batch]).to(encoder.device)
                    scores[rows[batch]] = network.match_views(text, views[at]).float().cpu().numpy()
                    bar.update(len(batch))
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise UserError(f"{encoder.source}: {bad} of {len(scores)} scores are NaN or infinite (did training diverge?)")
    return scores[pair_of]


def _distinct(tokens: List[List[int]]) -> Tuple[List[Tuple[int, ...]], np.ndarray]:
    """Texts of different tokens, and which of them each text is."""
    number: Dict[Tuple[int, ...], int] = {}
    of = np.array([number.setdefault(tuple(ids), len(number)) for ids in tokens], np.int64)
    return list(number), of


def _text_blocks(
    encoder: Encoder, tokens: Sequence, rows: np.ndarray, lengths: np.ndarray, lang: Optional[str], memory: float
) -> List[np.ndarray]:
    """Rows of texts, shortest first, cut so that the states of a block take so many MiB, or one text's more."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    states = encode_same([tokens[rows[0]]], encoder, lang).states
    bytes_a_token = states.nbytes / states.shape[1]
    ends = np.cumsum(lengths[rows] * bytes_a_token)
    return np.split(rows, np.flatnonzero(np.diff(ends // (memory * MIB))) + 1)


def _images_at_once(encoder: Encoder, image_states: Callable, pairs: np.ndarray) -> int:
    one = encoder.network.image_keys_values(image_states(pairs[:1, 0].tolist())).nbytes
    return max(1, (CPU_VIEWS_MIB if encoder.device.type == "cpu" else VIEWS_MIB) * MIB // one)


def _image_blocks(pairs: np.ndarray, rows: np.ndarray, images: int) -> List[np.ndarray]:
    """`rows` of pairs [P, 2], whose images ascend, cut into those of so many images each."""
    _, starts = np.unique(pairs[rows, 0], return_index=True)
    return np.split(rows, starts[images::images])


def _batches(lengths: np.ndarray, places: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Numbers of pairs of texts of one length, those of one image beside each other."""
    order = np.lexsort((places, lengths))
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        for start in range(0, len(same), size):
            yield same[start : start + size]
