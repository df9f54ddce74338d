"""``--cache-frozen``: what towers that do not train make of pictures and captions is computed once and kept in the
corpus folder; training reads it."""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import torch
from omegaconf import II
from torch.utils.data import ConcatDataset

from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.data.corpus.image_vectors import CorpusImageVectors
from mlvl_fairseq.data.corpus.text_states import CorpusVectors
from mlvl_fairseq.data.feature_manifest import array_path
from mlvl_fairseq.data.features import computing_once
from mlvl_fairseq.data.images.corpus_images import CorpusImages
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import require_room
from mlvl_fairseq.networks.frozen_tower import FrozenTower
from mlvl_fairseq.tasks._base import selected

logger = logging.getLogger(__name__)

CHOICES = ("auto", "off", "require")
SIDES = {"image": "pictures", "text": "captions"}
FLOAT = 4  # bytes


@dataclass
class CacheOptions:
    cache_frozen: str = field(
        default="auto",
        metadata={
            "help": "a tower in which nothing trains gives the same vectors in every epoch. auto: compute them once, "
            "keep them in the corpus folder, and read them instead of running the tower; not those of pictures with "
            "--augment, nor where the folder is read-only or lacks room, and with --limit-samples only such as are "
            "there; off: run the tower; require: end with a line that says why, where that cannot be",
            "choices": CHOICES,
        },
    )
    cpu: bool = II("common.cpu")
    num_workers: int = II("dataset.num_workers")


class CachesFrozenTowers:
    """Mixin in front of a :class:`CaptionTask` whose config has :class:`CacheOptions`. Captions and pictures of a split
    are asked for when it is loaded; where a checkpoint brings other frozen weights, it is loaded anew.

    Attributes:
        frozen: towers whose vectors are kept, by side.
    """

    def build_model(self, cfg, from_checkpoint=False):
        """Raises UserError: with ``--cache-frozen require``, there is nothing to keep."""
        if self.cfg.cache_frozen not in CHOICES:
            raise UserError(f"--cache-frozen {self.cfg.cache_frozen}: choose one of {', '.join(CHOICES)}")
        model = super().build_model(cfg, from_checkpoint)
        self.frozen: Dict[str, FrozenTower] = {}
        if self.cfg.cache_frozen != "off":
            self._find_frozen(model)
        return model

    def _find_frozen(self, model) -> None:
        reasons = []
        for side in SIDES:
            try:
                tower = model.frozen_tower(side)
            except UserError as error:
                reasons.append(str(error))
            else:
                if tower is not None:
                    self.frozen[side] = tower
                    self._reload_with(tower.tower)
        if reasons:
            self._do_without("; ".join(reasons))
        elif not self.frozen and self.cfg.cache_frozen == "require":
            self._do_without("something trains in each tower whose vectors this model takes")

    def _do_without(self, reason: str) -> None:
        """Raises UserError: it is required."""
        if self.cfg.cache_frozen == "require":
            raise UserError(f"--cache-frozen require: {reason}")
        logger.info("--cache-frozen %s: %s", self.cfg.cache_frozen, reason)

    def _reload_with(self, tower: torch.nn.Module) -> None:
        """Load what is loaded anew if a checkpoint changes the weights of a tower."""
        changed: List[str] = []

        def before(module: torch.nn.Module, state: Tensors, prefix: str, *_: Any) -> None:
            own = {prefix + name: tensor for name, tensor in module.state_dict().items()}
            changed[:] = [n for n, t in own.items() if n in state and not torch.equal(state[n].to(t), t)]

        def after(module: torch.nn.Module, _: Any) -> None:
            if changed:
                changed.clear()
                for split in list(self.datasets):
                    self.load_dataset(split)

        tower.register_load_state_dict_pre_hook(before)
        tower.register_load_state_dict_post_hook(after)

    # What a task asks for when it loads a split.
    def image_vectors(self, split: str, images: CorpusImages, reason: str = "") -> Optional[np.ndarray]:
        """Vectors of the pictures of a split, [images, width]; None: the tower runs. Unreadable ones are noted.

        Args:
            images: the pictures. reason: why their vectors are not to be kept.

        Raises:
            DataError, UserError: see :class:`CorpusImageVectors`; or they are required and cannot be.
        """
        tower, policy = self.frozen.get("image"), BadImagePolicy.of(self.cfg)
        if tower is None:
            return None
        if reason:
            return self._do_without(reason)
        kept = CorpusImageVectors(self.corpus, images.transform, tower.fingerprint)

        def write() -> None:
            root, outside = images.folder.root, self.cfg.allow_outside_root
            kept.write(
                split, tower.of_images, tower.width, tower.name, root, outside, policy, int(self.cfg.num_workers)
            )

        if not self._keep(tower, split, kept.stem(split), lambda: kept.is_finished(split), len(images), write):
            return None
        stored = kept.open(split, policy)
        self.unreadable[split] = stored.unusable
        return stored.array

    def text_vectors(self, split: str, langs: Sequence[str], max_length: int) -> Optional[Sequence[np.ndarray]]:
        """Vectors of the captions of a split that are `usable`, [width] each, one language after the other; None: the
        tower runs.

        Raises:
            DataError, UserError: see :class:`CorpusVectors`; or they are required and cannot be.
        """
        tower, parts = self.frozen.get("text"), []
        if tower is None:
            return None
        kept = CorpusVectors(self.vocabulary, max_length, tower.fingerprint)
        for lang in langs:
            self._load_tokens(split, lang, self.vocabulary)  # which says what is missing

            def write(lang: str = lang) -> None:
                kept.write(split, lang, tower.of_captions, tower.width, tower.name)

            rows, stem = len(self.corpus.rows(split, lang)), kept.stem(split, lang)
            if not self._keep(tower, split, stem, lambda: kept.is_finished(split, lang), rows, write):
                return None
            parts.append(selected(kept.open(split, lang), self.usable(split, lang)))
        return ConcatDataset(parts)

    def _keep(
        self,
        tower: FrozenTower,
        split: str,
        stem: Path,
        finished: Callable[[], bool],
        rows: int,
        write: Callable[[], None],
    ) -> bool:
        """See to it that vectors are there, computed by one process if need be; False: do without, which is told.

        Raises:
            UserError: they are required and cannot be.
        """
        size = f"{rows:,} x {tower.width} numbers, {rows * tower.width * FLOAT / 2**20:,.1f} MiB"
        what = f"{split}: vectors of the frozen {tower.side} tower in {array_path(stem)} ({size})"
        if not finished():
            if self._obstacle(split, stem, rows * tower.width * FLOAT):
                return False
            logger.info("%s are computed once", what)
            began = time.monotonic()
            with computing_once(stem, finished) as is_mine:  # other ranks, and other trainings, wait
                if is_mine:
                    with tower.on(None if self.cfg.cpu or not torch.cuda.is_available() else "cuda"):
                        write()
            what += f", computed in {time.monotonic() - began:.1f} s,"
        logger.info("%s are read instead of %s", what, SIDES[tower.side])
        return True

    def _obstacle(self, split: str, stem: Path, size: int) -> bool:
        """Whether vectors of so many bytes cannot, or by default should not, be made; told. Raises: see `_keep`."""
        required, place = self.cfg.cache_frozen == "require", stem.parent
        there = place if place.exists() else place.parent
        if not os.access(there, os.W_OK | os.X_OK):
            self._do_without(f"{there} is read-only, the {split} vectors cannot be kept there")
            return True
        try:
            require_room(there, size, f"{split} vectors of a frozen tower")
        except UserError as error:
            self._do_without(str(error))
            return True
        if self.cfg.limit_samples and split == "train" and not required:
            self._do_without("with --limit-samples, the vectors of all training data are not made")
            return True
        return False
