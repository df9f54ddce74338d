"""What a data set of classes is: image names, the class of each, and pictures that are opened one at a time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Callable, ClassVar, Dict, List, Optional, Sequence, Set, Type

import numpy as np
from torch.utils.data import Dataset

from mlvl_fairseq.data.classification.pictures import Pictures
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.registry import registering

PROMPT = "photo of {}"  # what LilT's evaluation asks (ImageNet V2, ImageNet-A, CIFAR-100)


@dataclass(frozen=True)
class LabelledImages:
    """Images of n names, each of one class.

    Attributes:
        path: the folder or file that they are from, for messages.
        pictures: opens them by name.
        images: n unique names.
        labels: int64 [n], the class of each.
        keys: what files of names call the classes: their folders, or what the data set calls them. Unique.
        names: what prompts call them, in English; two may share one (ImageNet's "missile").
        numbers: what files of labels call them; ImageNet's class numbers, otherwise 0, 1, ...
    """

    path: str
    pictures: Pictures
    images: List[str]
    labels: np.ndarray
    keys: List[str]
    names: List[str]
    numbers: List[int]

    def __len__(self) -> int:
        return len(self.images)

    def dataset(self, transform: Callable, images: Optional[Sequence[str]] = None) -> Dataset:
        """Pictures as the network takes them: :class:`~mlvl_fairseq.data.images.reading.LoadedImage`, one each.

        Args:
            transform: picture -> pixels. images: names; None: all, in order.
        """
        return self.pictures.dataset(self.images if images is None else images, transform)

    def of_classes(self, classes: Sequence[int]) -> "LabelledImages":
        """The images of some classes, which are numbered in the order given."""
        position = np.full(len(self.keys), -1)
        position[np.asarray(classes, np.int64)] = np.arange(len(classes))
        rows = np.flatnonzero(position[self.labels] >= 0)
        chosen = {name: [getattr(self, name)[one] for one in classes] for name in ("keys", "names", "numbers")}
        return replace(self._rows(rows), labels=position[self.labels[rows]], **chosen)

    def without(self, images: Set[str]) -> "LabelledImages":
        """Less some images; the classes stay, though one may have no image left."""
        return self._rows(np.flatnonzero([name not in images for name in self.images]))

    def _rows(self, rows: np.ndarray) -> "LabelledImages":
        return replace(self, images=[self.images[row] for row in rows], labels=self.labels[rows])


def labelled(
    path,
    pictures: Pictures,
    images: List[str],
    labels,
    keys: List[str],
    names: Optional[List[str]] = None,
    numbers: Optional[List[int]] = None,
) -> LabelledImages:
    """:class:`LabelledImages`, checked; without `names` they are the keys, `numbers` 0, 1, ...

    Raises:
        DataError: fewer than two classes, no image, or a label without a class.
    """
    labels = np.asarray(labels).astype(np.int64)
    if len(keys) < 2:
        raise DataError(f"holds {len(keys)} class{'es' * (not keys)}: nothing is to be told apart", path)
    if not len(images):
        raise DataError(f"holds no image of its {len(keys)} classes", path)
    outside = np.flatnonzero((labels < 0) | (labels >= len(keys)))
    if len(outside):
        row = outside[0]
        raise DataError(f"image {images[row]!r} is of class {labels[row]}, and there are {len(keys)}", path)
    numbers = list(range(len(keys))) if numbers is None else numbers
    return LabelledImages(str(path), pictures, images, labels, keys, names or list(keys), numbers)


class DataSet(ABC):
    """A kind of data set. The docstring of a subclass says which files it needs and where they are from.

    Attributes:
        name: on the command line; `register_data_set` sets it.
        prompt: the template that its published zero-shot score was made with.
        reference_prompt: that of the published code, where it is a mistake; None: `prompt`.
        lists: which of a file's lists of templates are for it, the first that is there.
        reference_top_k: of the published code: only so many best classes of an image count; None: all.
    """

    name: ClassVar[str]
    prompt: ClassVar[str] = PROMPT
    reference_prompt: ClassVar[Optional[str]] = None
    lists: ClassVar[Sequence[str]] = ()
    reference_top_k: ClassVar[Optional[int]] = None

    @abstractmethod
    def read(self, root: str, split: str) -> LabelledImages:
        """The images of one split below a folder.

        Args:
            root: the folder. split: ``test`` or ``train`` where the files have both; else only a name.

        Raises:
            DataError: a file is missing (and where it is from), damaged or not as published.
            UserError: there is no such split.
        """


DATA_SETS: Dict[str, Type[DataSet]] = {}


def register_data_set(name: str) -> Callable[[Type[DataSet]], Type[DataSet]]:
    """Class decorator: make a kind of data set available as ``--data-set NAME``."""
    return registering(DATA_SETS, "a data set", name, name=name)


def data_set_names() -> List[str]:
    return sorted(DATA_SETS)


def file_of_split(files: Dict[str, str], split: str, data_set: str) -> str:
    """The file of a split. Raises UserError: the data set has none of that name."""
    if split not in files:
        raise UserError(f"{data_set} has the splits {' and '.join(sorted(files))}, not '{split}'; say --split")
    return files[split]
