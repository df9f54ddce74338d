"""A trained or official model, ready to encode captions and images: the plugin's Python interface.

encoder = Encoder.load("checkpoint_best.pt")
encoder.encode_texts(["ein roter Ball"]) @ encoder.encode_features(features).T

A kind of model is one file of ``kinds/`` with a class under `register_kind`.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Dict, List, Optional, Sequence, Type

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.data.feature_extraction import collate_images
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.runs.folder import refuse_run_folder


@dataclass
class Encoder(ABC):
    """Towers and origin of a model.

    Attributes:
        vision: image tower with an ``image_size``, None where the checkpoint and its origin have none.
        head: module on given image features with an ``input_dim``, None where there is none.
        fingerprint: sha256 of the weights; two encoders with the same one give the same features.
        languages: the languages learned in sequence; empty for a model that was not trained so.
        source: the file or folder it was read from.
        device: where it computes.
    """

    frozen: ClassVar[Dict[str, str]] = {}  # options of `load` that say where frozen files are -> help

    vision: Optional[nn.Module]
    head: Optional[nn.Module]
    fingerprint: str
    languages: List[str]
    source: str

    device: ClassVar[torch.device] = torch.device("cpu")

    @staticmethod
    def load(path, device: str = "cpu", **frozen) -> "Encoder":
        """Read a checkpoint of this plugin, an official CLIP file, or a Hugging Face folder.

        Args:
            path: file or folder.
            device: where to compute.
            frozen: where frozen files are (names of :func:`frozen_files`), if they were moved since training; None: not
                moved.

        Raises:
            DataError: the file is missing, damaged, refused, or of no known format.
            UserError: frozen weights differ, an option is not for this kind of model, or it is the folder of a run,
                which holds several models.
        """
        refuse_run_folder(path)
        kind = _kind_of(WeightSource(path))
        given = {name: value for name, value in frozen.items() if value is not None}
        for name in given.keys() - kind.frozen.keys():
            raise UserError(f"{path}: there is no --{name.replace('_', '-')} for this kind of model")
        return kind.read(path, **given).to(device)

    @classmethod
    @abstractmethod
    def detect(cls, source: WeightSource) -> bool:
        """Whether a file or folder holds a model of this kind."""

    @classmethod
    @abstractmethod
    def read(cls, path, **frozen) -> "Encoder":
        """As :meth:`load`, with the options of this kind."""

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """Dimension of the space of captions and images."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Longest caption in tokens, BOS and EOS included; longer ones are cut."""

    @property
    @abstractmethod
    def tokenization(self) -> str:
        """How captions become tokens, in a word for signatures."""

    @abstractmethod
    def tokenize(self, captions: Sequence[str]) -> List[List[int]]:
        """Token ids with BOS and EOS; longer captions are cut to `max_length` and keep their EOS."""

    @abstractmethod
    def text_features(self, tokens: List[List[int]], lang: Optional[str] = None) -> torch.Tensor:
        """One batch of :meth:`tokenize`'s lists to features [B, embed_dim] on the encoder's device, differentiable."""

    def to(self, device: str) -> "Encoder":
        """Move all towers, and put them into evaluation mode."""
        for part in (getattr(self, entry.name) for entry in fields(self)):
            if isinstance(part, nn.Module):
                part.to(device).eval()
        self.device = torch.device(device)
        return self

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
                is unknown or was not learned.
            batch_size: captions a batch.
            progress: title of a progress bar; None shows none.

        Returns:
            float32 [captions, embed_dim], not normalised.
        """
        tokens = self.tokenize(captions)
        features = np.empty((len(captions), self.embed_dim), np.float32)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")  # little padding: neighbours are alike
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=progress, disable=progress is None, unit=" batches"):
            rows = order[start : start + batch_size]
            features[rows] = self.text_features([tokens[row] for row in rows], lang).cpu().numpy()
        return features

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor) -> np.ndarray:
        """Pictures [B, 3, H, W] to float32 [B, embed_dim], not normalised.

        Raises:
            UserError: the model has no image tower.
        """
        return self._image_tower()(images.to(self.device)).cpu().numpy()

    def encode_image_files(self, root, names: Sequence[str], batch_size: int = 64, num_workers: int = 0) -> np.ndarray:
        """Image files under `root` to float32 [names, embed_dim], with CLIP's preprocessing and a progress bar.

        Raises:
            UserError: the model has no image tower. DataError: a file cannot be read.
        """
        images = ImageDataset(root, names, ImageTransform("clip", self._image_tower().image_size))
        batches = DataLoader(images, batch_size, num_workers=num_workers, collate_fn=collate_images)
        features = []
        for batch in tqdm(batches, desc="images", unit=" batches"):
            for problem in filter(None, batch.problems):
                raise DataError(problem)
            features.append(self.encode_images(batch.pixels))
        return np.concatenate(features)

    def _image_tower(self) -> nn.Module:
        if self.vision is None:
            raise UserError(f"{self.source} has no image tower; give image features instead of images")
        return self.vision

    @torch.no_grad()
    def encode_features(self, features, batch_size: int = 4096) -> np.ndarray:
        """Given image features [n, dims] to float32 [n, embed_dim]: through the model's head; a model without head
        takes features of its own space as they are.

        Raises:
            UserError: the dimension fits neither.
        """
        expected = self.head.input_dim if self.head else self.embed_dim
        if features.shape[1] != expected:
            raise UserError(f"{self.source} takes image features of {expected} dimensions, not {features.shape[1]}")
        if self.head is None:
            return np.asarray(features, np.float32)
        starts = range(0, len(features), batch_size)
        parts = (np.asarray(features[start : start + batch_size], np.float32) for start in starts)
        return np.concatenate([self.head(torch.from_numpy(part).to(self.device)).cpu().numpy() for part in parts])


KINDS: List[Type[Encoder]] = []


def register_kind(kind: Type[Encoder]) -> Type[Encoder]:
    """Class decorator: make :meth:`Encoder.load` recognise a kind of model."""
    KINDS.append(kind)
    return kind


def frozen_files() -> Dict[str, str]:
    """Every option of :meth:`Encoder.load` that says where a frozen file is, of any kind of model -> help."""
    _kinds()
    return {name: about for kind in KINDS for name, about in kind.frozen.items()}


def _kinds():
    package = importlib.import_module("mlvl_fairseq.inference.kinds")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return package


def _kind_of(source: WeightSource) -> Type[Encoder]:
    """What does not belong to any other kind is read as a CLIP, which says what formats there are."""
    package = _kinds()
    return next((kind for kind in KINDS if kind.detect(source)), package.clip.ClipEncoder)
