"""A network at work, read from any checkpoint: what commands and `mlvl_fairseq.load_model` encode with.

encoder = Encoder.load("checkpoint_best.pt")
encoder.encode_texts(["ein roter Ball"]) @ encoder.encode_features(features).T
"""

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from mlvl_fairseq.checkpoints.source import WeightSource, add_prefix, fingerprint, format_of
from mlvl_fairseq.data.feature_extraction import encode_image_batch, image_batches
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset, tell_of_doubts
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.networks import NETWORKS, Network
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.runs.folder import refuse_run_folder

logger = logging.getLogger(__name__)
Keep = Callable[[np.ndarray, Encoded], None]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def frozen_files() -> Dict[str, str]:
    """The options of :meth:`Encoder.load` that say where frozen files of any network are now: name -> help."""
    return {name: about for network in NETWORKS.values() for name, about in network.frozen_files.items()}


@dataclass
class Encoder:
    """A network with its tokenizer.

    Attributes:
        network: in evaluation mode.
        tokenizer: cuts captions as training did.
        fingerprint: sha256 of the weights; two encoders with the same one give the same features.
        languages: the languages learned in sequence; empty for a model that was not trained so.
        source: the file or folder it was read from.
        choices: labels or answers that a head chooses from, in the order of its rows; none: its file names none.
        architecture: the ``--arch`` of mlvl-cll that can start from it; None: there is no such, or it is not known.
        device: where it computes.
        transform: name of what cuts pictures instead of what the network names; None: as the network was trained.
        dtype: of its weights, and of what it computes with.
        autocast: of what torch computes products with, where it is another; None: it is not.
    """

    network: Network
    tokenizer: Tokenizer
    fingerprint: str
    languages: List[str]
    source: str
    choices: Sequence[str] = ()
    architecture: Optional[str] = None
    device: torch.device = torch.device("cpu")
    transform: Optional[str] = None
    dtype: torch.dtype = torch.float32
    autocast: Optional[torch.dtype] = None
    _told: Set[str] = field(default_factory=set, init=False, repr=False)  # languages whose warning was given

    @classmethod
    def load(cls, path, device: str = "cpu", dtype: str = "float32", **frozen) -> "Encoder":
        """Read a checkpoint of this plugin, an official CLIP file, or a Hugging Face folder.

        Args:
            path: file or folder.
            device: where to compute.
            dtype: of weights and computation, a name in :data:`PRECISIONS`; features are float32 in any case.
            frozen: where frozen files are now (names of :func:`frozen_files`), e.g. ``init_from`` of a CLIP; None: not
                moved since training.

        Raises:
            DataError: the file is missing, damaged, refused, or of no known format.
            UserError: frozen weights differ, an option is not for this kind of model, there is no such type or device,
                or it is the folder of a run, which holds several models.
        """
        if dtype not in PRECISIONS:
            raise UserError(f"dtype {dtype}: choose one of {', '.join(PRECISIONS)}")
        if Path(path).is_dir():
            refuse_run_folder(path)
        source = WeightSource(path)
        file = format_of(source)
        network = NETWORKS[file.family]
        given = {name: value for name, value in frozen.items() if value is not None}
        for name in given.keys() - network.frozen_files.keys():
            raise UserError(f"{path}: there is no --{name.replace('_', '-')} for this kind of model")
        restored = network.restore(file, source, **given)
        try:
            restored.network.to(device, PRECISIONS[dtype])
        except (RuntimeError, AssertionError) as error:  # no such device, or this torch is not made for it
            raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
        return cls(**vars(restored), source=str(path), device=torch.device(device), dtype=PRECISIONS[dtype])

    @property
    def family(self) -> str:
        """What kind of network it is, as it is registered."""
        names = {network: name for name, network in NETWORKS.items()}
        return next(names[kind] for kind in type(self.network).__mro__ if kind in names)

    @property
    def embed_dim(self) -> int:
        """Dimension of the space of captions and images."""
        return self.network.embed_dim

    @property
    def max_length(self) -> int:
        """Longest caption in tokens, BOS and EOS included; longer ones are cut."""
        return self.network.max_length

    @property
    def own_languages(self) -> List[str]:
        """The languages that texts are encoded by in ways of their own: an adapter, or cuts, of each; empty: the
        language of a text does not matter."""
        return list(dict.fromkeys([*self.network.text_languages, *self.tokenizer.own_languages]))

    @property
    def preprocess(self) -> ImageTransform:
        """What makes pictures to the network's input. Raises UserError: it takes no pictures."""
        self.require_image_tower()
        own = self.network.preprocess
        return ImageTransform(self.transform, own.size) if self.transform else own

    @property
    def other_transform(self) -> Optional[str]:
        """``name@size`` of :attr:`preprocess` where it is not the one that the network names; None: it is."""
        own = self.network.preprocess
        return None if own is None or self.preprocess == own else str(self.preprocess)

    def require_image_tower(self) -> None:
        """Raises UserError: the network takes no pictures."""
        if self.network.preprocess is None:
            raise UserError(f"{self.source} has no image tower; give image features instead of images")

    def require_grids(self, shape: Sequence[int], source) -> None:
        """Raises UserError: the network takes no grids of this shape, ``(positions, dimensions)``, of an image."""
        expected = self.network.grid_shape
        if tuple(shape) != expected:
            wanted = f"grids of {expected[0]} x {expected[1]}" if expected else "no grids of states"
            raise UserError(f"{source} has grids of {shape[0]} x {shape[1]}, and {self.source} takes {wanted}")

    def tokenize(self, captions: Sequence[str], lang: Optional[str] = None) -> List[List[int]]:
        """Token ids with BOS and EOS; longer captions are cut to `max_length` and keep their EOS.

        Args:
            captions: texts. lang: their language, where each keeps the tokens it was learned with. A warning tells,
                once, of one that was not learned.
        """
        known = [*self.languages, *self._told]
        if lang and self.languages and lang not in known and not self.network.text_languages:  # whose adapter tells it
            self._told.add(lang)
            how = "with the whole vocabulary" if self.tokenizer.own_languages else "as any other text"
            message = "%s: language '%s' was not learned by this model (learned: %s); it is encoded %s"
            logger.warning(message, self.source, lang, ", ".join(self.languages), how)
        return self.tokenizer.of_language(lang).tokenize(captions, self.max_length)

    def text_features(self, tokens: List[List[int]], lang: Optional[str] = None) -> torch.Tensor:
        """One batch of :meth:`tokenize`'s lists to features [B, embed_dim] where it computes, differentiable."""
        batch, ends = (part.to(self.device) for part in pad_right(tokens, self.tokenizer.pad))
        with self._computing():
            return self.network.encode_text(batch, ends, lang).vector

    @torch.no_grad()
    def encode_texts(
        self,
        captions: Sequence[str],
        lang: Optional[str] = None,
        batch_size: int = 256,
        progress: Optional[str] = None,
    ) -> np.ndarray:
        """Encode captions of one language.

        Args:
            captions: texts.
            lang: their language; models with an adapter for each language need it, and do without adapter where it
                is unknown or was not learned. With frozen segmentation it says how captions are cut, too.
            batch_size: captions a batch.
            progress: title of a progress bar; None shows none.

        Returns:
            float32 [captions, embed_dim], not normalised.

        Raises:
            UserError: one caption is given instead of a list.
        """
        if isinstance(captions, str):
            raise UserError("give a list of captions, not one: each of its letters would be encoded")
        tokens = self.tokenize(captions, lang)
        features = np.empty((len(captions), self.embed_dim), np.float32)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")  # little padding: neighbours are alike
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=progress, disable=progress is None, unit=" batches"):
            rows = order[start : start + batch_size]
            features[rows] = as_array(self.text_features([tokens[row] for row in rows], lang))
        return features

    @torch.no_grad()
    def text_fingerprint(self, captions: Sequence[str], lang: Optional[str] = None) -> str:
        """sha256 (hex) of all that :meth:`encode_texts` computes with: equal ones, equal features on one machine.

        Args:
            captions: texts. lang: their language.
        """
        tokens = [torch.as_tensor(ids) for ids in self.tokenize(captions, lang)]
        ends = torch.tensor([len(ids) for ids in tokens]).cumsum(0)
        ids = torch.cat([*tokens, torch.tensor([self.tokenizer.pad])])
        weights = self.network.text_weights(ids.unique().to(self.device), lang)
        return fingerprint({**add_prefix(weights, "weights."), "ids": ids, "ends": ends})

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor) -> np.ndarray:
        """Pictures [B, 3, H, W] after :attr:`preprocess` to float32 [B, embed_dim], not normalised.

        Raises:
            UserError: the model has no image tower.
        """
        self.require_image_tower()
        return as_array(self._encode_pixels(images))

    def placed(self, numbers: torch.Tensor) -> torch.Tensor:
        """Pixels or given features where, and in the type in which, the network computes."""
        return numbers.to(self.device, self.dtype, non_blocking=numbers.is_pinned())

    def _computing(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)

    def encode_image_files(
        self,
        root,
        names: Sequence[str],
        batch_size: int = 64,
        num_workers: int = 0,
        policy: BadImagePolicy = BadImagePolicy(),
        high_bit_depth: str = "clip",
        allow_outside_root: bool = False,
        keep: Optional[Keep] = None,
    ) -> np.ndarray:
        """Image files under `root` to float32 [names, embed_dim], with the network's preprocessing and a progress bar.

        Args:
            batch_size: images at a time. num_workers: processes that read them.
            policy: what to do about files that cannot be read; with ``skip`` their features are zeros.
            high_bit_depth, allow_outside_root: see :meth:`image_files`. keep: see :meth:`encode_image_dataset`.

        Raises:
            UserError: the model has no image tower.
            DataError: a file cannot be read and `policy` does not allow it, or its name leaves `root`.
        """
        images = self.image_files(root, names, high_bit_depth, allow_outside_root)
        return self.encode_image_dataset(images, names, batch_size, num_workers, policy, str(root), keep)

    def image_files(
        self, root, names: Sequence[str], high_bit_depth: str = "clip", allow_outside_root: bool = False
    ) -> ImageDataset:
        """Image files under `root`, made to the network's input.

        Args:
            high_bit_depth: see :class:`ImageTransform`. allow_outside_root: whether names may leave `root`.

        Raises:
            UserError: the model has no image tower.
        """
        return ImageDataset(root, names, self.transform_of(high_bit_depth), allow_outside=allow_outside_root)

    def transform_of(self, high_bit_depth: str = "clip") -> ImageTransform:
        """:attr:`preprocess`, with a way to read pictures of more than 8 bits. Raises UserError: see there."""
        return replace(self.preprocess, high_bit_depth=high_bit_depth)

    def encode_image_dataset(
        self,
        images: Dataset,
        names: Sequence[str],
        batch_size: int = 64,
        num_workers: int = 0,
        policy: BadImagePolicy = BadImagePolicy(),
        source: str = "images",
        keep: Optional[Keep] = None,
        progress: Optional[str] = "images",
    ) -> np.ndarray:
        """Pictures from anywhere to float32 [names, embed_dim], a batch in memory at a time.

        Args:
            images: a `LoadedImage` for each name, made by :attr:`preprocess`. names: for messages.
            batch_size, num_workers, policy: see :meth:`encode_image_files`. source: what the images are of.
            keep: is called with what the network makes of the images of each batch that could be read, on its device,
                and their rows (int64 [g]); None: nothing but vectors is kept.
            progress: title of a progress bar; None shows none.

        Raises:
            UserError: the model has no image tower.
            DataError: an image cannot be read and `policy` does not allow it.
        """
        batches = image_batches(images, batch_size, num_workers, self.device.type == "cuda")
        features, doubts, bad, done = np.zeros((len(names), self.embed_dim), np.float32), [], 0, 0
        for batch in tqdm(batches, desc=progress, disable=progress is None, unit=" batches"):
            rows = slice(done, done + len(batch.problems))
            readable = done + np.flatnonzero([problem is None for problem in batch.problems])
            encode = partial(self._encode_pixels, keep=keep and partial(keep, readable))
            features[rows], problems = encode_image_batch(batch, names[rows], encode, self.embed_dim)
            for bad, problem in enumerate(filter(None, problems), bad + 1):
                policy.accept(problem, bad)
            doubts += filter(None, batch.doubts)
            done = rows.stop
        tell_of_doubts(doubts, len(doubts), len(names), source)
        return features

    def _encode_pixels(self, pixels: torch.Tensor, keep: Optional[Callable[[Encoded], None]] = None) -> torch.Tensor:
        with self._computing():
            encoded = self.network.encode_image(self.placed(pixels))
        if keep is not None:
            keep(encoded)
        return encoded.vector

    @torch.no_grad()
    def encode_features(self, features, batch_size: int = 4096) -> np.ndarray:
        """Given image features [n, dims] to float32 [n, embed_dim]: through the model's head; a model without head
        takes features of its own space.

        Raises:
            UserError: the dimension fits neither.
        """
        expected = self.network.feature_dim
        if features.shape[1] != expected:
            raise UserError(f"{self.source} takes image features of {expected} dimensions, not {features.shape[1]}")
        starts = range(0, len(features), batch_size)
        parts = (np.array(features[start : start + batch_size], np.float32) for start in starts)
        encoded = (self.network.encode_features(self.placed(torch.from_numpy(part))).vector for part in parts)
        return np.concatenate([as_array(part) for part in encoded])


def as_array(features: torch.Tensor) -> np.ndarray:
    """float32, whatever the network computes with: numpy has no bfloat16."""
    return features.float().cpu().numpy()


def pad_right(captions: Sequence[Sequence[int]], pad: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Ids with BOS and EOS to tokens [B, T] and EOS positions [B]."""
    lengths = torch.tensor([len(ids) for ids in captions])
    tokens = torch.full((len(captions), int(lengths.max())), pad)
    for row, ids in zip(tokens, captions):
        row[: len(ids)] = torch.as_tensor(ids)
    return tokens, lengths - 1
