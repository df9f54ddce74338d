"""MNIST and FashionMNIST: grey pictures of 28 x 28, which become three equal channels."""

import os
from typing import ClassVar, List

from mlvl_fairseq.data.classification.base import (
    DataSet,
    LabelledImages,
    file_of_split,
    labelled,
    register_data_set,
)
from mlvl_fairseq.data.classification.folders import require_folder
from mlvl_fairseq.data.classification.idx_files import read_idx
from mlvl_fairseq.data.classification.pictures import ArrayPictures
from mlvl_fairseq.errors import DataError

_FILES = {"test": "t10k", "train": "train"}


class _Idx(DataSet):
    """What both have in common.

    Attributes:
        folder: where torchvision keeps the files below its root. origin: where they are from. classes: names.
    """

    folder: ClassVar[str]
    origin: ClassVar[str]
    classes: ClassVar[List[str]]

    def read(self, root: str, split: str) -> LabelledImages:
        stem = file_of_split(_FILES, split, self.name)
        advice = f"put {stem}-images-idx3-ubyte.gz and {stem}-labels-idx1-ubyte.gz of {self.origin} there"
        where = require_folder(root, self.folder, "", advice=advice)
        path = os.path.join(where, f"{stem}-images-idx3-ubyte")
        pictures = ArrayPictures(path, read_idx(path, 3, advice))
        labels = read_idx(os.path.join(where, f"{stem}-labels-idx1-ubyte"), 1, advice)
        if len(labels) != len(pictures):
            raise DataError(f"holds {len(pictures)} pictures for {len(labels)} labels; {advice}", path)
        return labelled(path, pictures, pictures.names(), labels, self.classes)


@register_data_set("fashion_mnist")
class FashionMnist(_Idx):
    """FashionMNIST: ``t10k-images-idx3-ubyte.gz``, ``t10k-labels-idx1-ubyte.gz`` (github.com/zalandoresearch/
    fashion-mnist), in the folder itself or in torchvision's FashionMNIST/raw."""

    reference_prompt = "photo of the number {}"  # copied from SVHN's script
    folder, origin = "FashionMNIST/raw", "github.com/zalandoresearch/fashion-mnist"
    classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip


@register_data_set("mnist")
class Mnist(_Idx):
    """MNIST: ``t10k-images-idx3-ubyte.gz``, ``t10k-labels-idx1-ubyte.gz`` (yann.lecun.com/exdb/mnist), in the folder
    itself or in torchvision's MNIST/raw."""

    prompt = "photo of the number {}"
    lists = ("mnist",)
    folder, origin = "MNIST/raw", "yann.lecun.com/exdb/mnist"
    classes = list("0123456789")
