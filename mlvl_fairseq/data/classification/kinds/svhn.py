"""SVHN, cropped digits."""

import os

from mlvl_fairseq.data.classification.base import (
    DataSet,
    LabelledImages,
    file_of_split,
    labelled,
    register_data_set,
)
from mlvl_fairseq.data.classification.mat_files import read_mat
from mlvl_fairseq.data.classification.pictures import ArrayPictures
from mlvl_fairseq.errors import DataError

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_FILES = {"test": "test_32x32.mat", "train": "train_32x32.mat", "extra": "extra_32x32.mat"}


@register_data_set("svhn")
class Svhn(DataSet):
    """SVHN, format 2: ``test_32x32.mat`` (ufldl.stanford.edu/housenumbers); of its arrays only numbers are read."""

    prompt = "photo of the number {}"
    lists = ("svhn",)

    def read(self, root: str, split: str) -> LabelledImages:
        file = file_of_split(_FILES, split, self.name)
        path, advice = os.path.join(root, file), f"put {file} of ufldl.stanford.edu/housenumbers there"
        arrays = read_mat(path, ("X", "y"), advice)
        pixels, labels = arrays["X"], arrays["y"].ravel()
        if pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.dtype != "uint8" or pixels.shape[3] != len(labels):
            what = f"X is {pixels.dtype} {list(pixels.shape)}, y has {len(labels)} labels"
            raise DataError(f"{what}: not [32, 32, 3, pictures] with a label each; {advice}", path)
        pictures = ArrayPictures(path, pixels.transpose(3, 0, 1, 2))
        labels = labels.astype(int)
        if labels.min() < 1 or labels.max() > 10:  # 10 stands for the digit 0
            raise DataError(f"labels are from {labels.min()} to {labels.max()}, not 1 to 10; {advice}", path)
        return labelled(path, pictures, pictures.names(), labels % 10, _DIGITS)
