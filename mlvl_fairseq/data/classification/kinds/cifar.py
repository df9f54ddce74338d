"""CIFAR-10 and CIFAR-100, the binary versions. The Python versions are pickles, which can run code: they are not
read."""

import os
from typing import ClassVar, Dict, List, Sequence

import numpy as np

from mlvl_fairseq.data.classification.base import (
    DataSet,
    LabelledImages,
    file_of_split,
    labelled,
    register_data_set,
)
from mlvl_fairseq.data.classification.pictures import ArrayPictures
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import read_text, require_file

_PIXELS = 3 * 32 * 32  # a picture's three planes of 32 x 32


class _Cifar(DataSet):
    """What both have in common.

    Attributes:
        folder: that of the archive. archive: its name at the data set's page. python: folder of the Python version.
        classes: how many. names_file: where their names are.
        label_bytes: before a picture's pixels; the last of them is the label.
        files: split -> its files.
    """

    folder: ClassVar[str]
    archive: ClassVar[str]
    python: ClassVar[str]
    classes: ClassVar[int]
    names_file: ClassVar[str]
    label_bytes: ClassVar[int]
    files: ClassVar[Dict[str, str]]

    def read(self, root: str, split: str) -> LabelledImages:
        where = os.path.join(root, self.folder) if os.path.isdir(os.path.join(root, self.folder)) else str(root)
        parts = [_records(os.path.join(where, name), self.label_bytes, self._advice(root)) for name in self._of(split)]
        planes = [part[:, self.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for part in parts]
        pictures = ArrayPictures(os.path.join(where, self._of(split)[0]), *planes)
        keys = self._keys(os.path.join(where, self.names_file), root)
        names = [key.replace("_", " ") for key in keys]
        labels = np.concatenate([part[:, self.label_bytes - 1] for part in parts])
        return labelled(pictures.path, pictures, pictures.names(), labels, keys, names)

    def _of(self, split: str) -> Sequence[str]:
        return file_of_split(self.files, split, self.name).split()

    def _advice(self, root: str) -> str:
        python = os.path.isdir(os.path.join(root, self.python))
        found = "what is there is the Python version, pickles that are not read; " if python else ""
        return f"{found}unpack {self.archive} (the binary version) of www.cs.toronto.edu/~kriz/cifar.html there"

    def _keys(self, path: str, root: str) -> List[str]:
        keys = read_text(path, self._advice(root)).split()
        if len(keys) != self.classes or len(set(keys)) != self.classes:
            raise DataError(f"names {len(set(keys))} classes, not {self.classes}; {self._advice(root)}", path)
        return keys


@register_data_set("cifar10")
class Cifar10(_Cifar):
    """CIFAR-10: ``cifar-10-batches-bin`` of cifar-10-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html); the Python
    version holds pickles and is not read."""

    lists = ("cifar10",)
    folder, archive, python = "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "cifar-10-batches-py"
    classes, names_file, label_bytes = 10, "batches.meta.txt", 1
    files = {"test": "test_batch.bin", "train": " ".join(f"data_batch_{i}.bin" for i in range(1, 6))}


@register_data_set("cifar100")
class Cifar100(_Cifar):
    """CIFAR-100, fine labels: ``cifar-100-binary`` of cifar-100-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html);
    the Python version holds pickles and is not read."""

    lists = ("cifar100",)
    folder, archive, python = "cifar-100-binary", "cifar-100-binary.tar.gz", "cifar-100-python"
    classes, names_file, label_bytes = 100, "fine_label_names.txt", 2
    files = {"test": "test.bin", "train": "train.bin"}


def _records(path: str, label_bytes: int, advice: str) -> np.ndarray:
    """uint8 [pictures, label_bytes + 3072], mapped into memory."""
    require_file(path, advice)
    size, width = os.path.getsize(path), label_bytes + _PIXELS
    if not size or size % width:
        raise DataError(f"has {size:,} bytes, no multiple of {width}: it is truncated or another file; {advice}", path)
    try:
        return np.memmap(path, np.uint8, "r").reshape(-1, width)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
