"""Supervised training of an image tower on images of classes, as towers are trained that LilT aligns."""

import logging
import os
from dataclasses import dataclass, field, replace
from typing import List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import II, MISSING

from mlvl_fairseq.data.classification import DATA_SETS, LabelledImages, data_set_names
from mlvl_fairseq.data.classification.batches import LabelledDataset, readable
from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions
from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.tasks._base import MlvlTask

logger = logging.getLogger(__name__)
OWN_SPLITS = {"train": "train", "valid": "test"}  # of data sets whose files have both


@dataclass
class ImageClassificationTaskConfig(AugmentationOptions, PictureOptions, FairseqDataclass):
    data: str = field(
        default=MISSING,
        metadata={
            "help": "folder with folders 'train' and 'valid', a data set each; or of a data set whose files have the "
            "splits train and test, on the second of which it is validated"
        },
    )
    data_set: str = field(
        default="folder",
        metadata={"help": f"kind of data set: {', '.join(data_set_names())}; folder: a folder for each class"},
    )
    seed: int = II("common.seed")


@register_task("image_classification", dataclass=ImageClassificationTaskConfig)
class ImageClassificationTask(MlvlTask):
    """Train model ``image_classifier``, whose checkpoints are files for ``--image-weights``.

    Attributes:
        data_set: what it trains on.
        classes: what the data set calls them, in the order of the classifier's rows.
        preprocess: what makes pictures to the model's input, once there is a model.
    """

    data_set: Optional[LabelledImages] = None
    classes: List[str] = []

    def __init__(self, cfg: ImageClassificationTaskConfig, train: LabelledImages):
        super().__init__(cfg, None)
        self.data_set, self.classes, self.preprocess = train, train.keys, None
        self.state.merge_state_dict({"classes": train.keys})

    @classmethod
    def setup_task(cls, cfg: ImageClassificationTaskConfig, **kwargs):
        """Raises UserError: options that do not go together. DataError: the data set is not there, or damaged."""
        Augmentation.of(cfg)  # says what is wrong with its options before anything is read
        if cfg.data_set not in DATA_SETS:
            raise UserError(f"--data-set {cfg.data_set}: choose one of {', '.join(data_set_names())}")
        return cls(cfg, read_split(cfg, "train"))

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        self.preprocess = replace(model.preprocess, high_bit_depth=self.cfg.high_bit_depth)
        return model

    def load_dataset(self, split, **kwargs):
        images = self.data_set if split == "train" else read_split(self.cfg, split)
        if images.keys != self.classes:
            other = sorted(set(images.keys) ^ set(self.classes))
            raise DataError(f"has other classes than those of training, such as {other[:1]}", images.path)
        images = readable(images, self.preprocess, BadImagePolicy.of(self.cfg), f"{split} pictures")
        draw = Augmentation.of(self.cfg) if split == "train" else None
        self.datasets[split] = LabelledDataset(images, self.preprocess, draw, self.seed_for(1), split == "train")
        logger.info("%s: %d images of %d classes", split, len(images), len(self.classes))

    def max_positions(self):
        return None


def read_split(cfg: ImageClassificationTaskConfig, split: str) -> LabelledImages:
    """The images of ``train`` or ``valid``: of the folder of this name, where it is there.

    Raises:
        DataError: the data set is not there, or damaged. UserError: it has no such split.
    """
    below = os.path.join(cfg.data, split)
    if os.path.isdir(below):
        return DATA_SETS[cfg.data_set]().read(below, OWN_SPLITS.get(split, split))
    if cfg.data_set == "folder":
        raise DataError("no such folder; it holds a folder for each class", below)
    return DATA_SETS[cfg.data_set]().read(cfg.data, OWN_SPLITS.get(split, split))
