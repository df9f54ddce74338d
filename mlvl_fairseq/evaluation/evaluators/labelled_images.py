"""Options of evaluators whose images have a class each, and how such images are encoded."""

import os
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.data.classification import DATA_SETS, LabelledImages, data_set_names
from mlvl_fairseq.data.feature_arrays import import_features
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import PICTURES, GivenFeatures, ImageFeatures, option
from mlvl_fairseq.evaluation.signature import data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder

Given = Tuple[str, str]  # a file of features, and the list of its rows' names
_DATA = "data"
SET, CLASSES = "set", "classes"  # keys of signatures
KEYS = {
    SET: "kind of data set",
    CLASSES: "how many classes there are",
    PICTURES: "how pictures of more than 8 bits were read, where it is not as CLIP's preprocessing does",
}


@dataclass(kw_only=True)
class LabelledOptions(GivenFeatures):
    """Which images."""

    data_set: str = option(
        "kind of data set; 'folder' is any folder with a folder for each class", choices=data_set_names, group=_DATA
    )
    root: str = option(
        "folder of the data set; nothing is downloaded", metavar="DIR", identity=os.path.abspath, group=_DATA
    )
    split: str = option("test or train where the data set's files have both; else only a name", "test", group=_DATA)

    def read_images(self) -> LabelledImages:
        """Raises: see :meth:`mlvl_fairseq.data.classification.DataSet.read`; UserError: half of a pair of options."""
        if bool(self.image_list) != bool(self.image_features):
            raise UserError("--image-features FILE.npy and --image-list FILE.txt are given together")
        return DATA_SETS[self.data_set]().read(self.root, self.split)

    def signature_keys(self, classes: int) -> Dict[str, object]:
        """What signatures say of the data."""
        return {SET: self.data_set, CLASSES: classes, **self.picture_keys()}

    @property
    def given(self) -> Optional[Given]:
        """Features that the user has."""
        return (self.image_features, self.image_list) if self.image_features else None

    def encode(
        self, encoder: Encoder, images: LabelledImages, names: Sequence[str], given: Optional[Given] = None
    ) -> ImageFeatures:
        """Features in the encoder's space of those of `names` that can be used.

        Args:
            given: where the user has features of them; None: pictures are opened.

        Raises:
            UserError: the model has no image tower, or takes features of another dimension; or no image can be used.
            DataError: an image cannot be read, and ``--bad-image`` does not allow it.
        """
        features, bad = self._features(encoder, images, list(names), given)
        return ImageFeatures.usable(names, features, bad, str(images.path))

    def _features(self, encoder: Encoder, images: LabelledImages, names: List[str], given: Optional[Given]):
        policy = BadImagePolicy.of(self)
        if given:
            features, bad = import_features(*given, names, policy)
            return encoder.encode_features(features), bad
        transform = replace(encoder.preprocess, high_bit_depth=self.high_bit_depth)
        dataset = images.dataset(transform, names)
        features = encoder.encode_image_dataset(dataset, names, self.batch_size, self.num_workers, policy, images.path)
        return features, np.flatnonzero(~features.any(axis=1))


def images_fingerprint(images: LabelledImages) -> str:
    """Changes with any image's name or class, or their order; not with what classes are called."""
    return data_fingerprint(images.images, [images.keys[label] for label in images.labels], range(len(images)))
