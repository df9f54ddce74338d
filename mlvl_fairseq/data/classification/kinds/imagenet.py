"""ImageNet and the test sets that share its classes.

Names are those of OpenAI's CLIP (``lists/imagenet_names.json``), as in the published evaluations: 998 distinct ones of
1,000 classes ("missile" and "sunglasses" are two each). A class's number is its place among the sorted wnids.
"""

import logging
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, List

from mlvl_fairseq.data.classification.base import DataSet, LabelledImages, labelled, register_data_set
from mlvl_fairseq.data.classification.folders import class_folders, pictures_below
from mlvl_fairseq.data.classification.names import read_names
from mlvl_fairseq.data.classification.pictures import FolderPictures
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import read_json

logger = logging.getLogger(__name__)

CLASSES = 1000
_WNID = re.compile(r"n\d{8}")
_FILE = Path(__file__).parents[1] / "lists" / "imagenet_names.json"


@dataclass
class _Names:
    classes: Dict[str, str]


@lru_cache(maxsize=1)
def imagenet_names() -> Dict[str, str]:
    """wnid -> name, in the order of the class numbers."""
    return read_json(_FILE, _Names, advice="install the plugin again").classes


@register_data_set("imagenet")
class ImageNet(DataSet):
    """A folder ``nXXXXXXXX`` for each of ImageNet's 1,000 classes or some of them: validation images sorted into
    folders (ILSVRC 2012, image-net.org), ImageNet-R, ImageNet-Sketch."""

    lists = ("imagenet", "imagenet1k")
    reference_top_k = 128

    def read(self, root: str, split: str) -> LabelledImages:
        keys = self._folders(root)
        images, labels = pictures_below(root, keys)
        place = {wnid: number for number, wnid in enumerate(imagenet_names())}
        names = self._names(root, keys)
        return labelled(root, FolderPictures(root), images, labels, keys, names, [place[key] for key in keys])

    def _folders(self, root: str) -> List[str]:
        advice = "give the folder that holds the folders nXXXXXXXX"
        found = class_folders(root, advice)
        wnids = [name for name in found if _WNID.fullmatch(name)]
        unknown = [name for name in wnids if name not in imagenet_names()]
        if not wnids:
            raise DataError(f"holds no folder of a wnid (but {', '.join(map(repr, found[:3]))}); {advice}", root)
        if unknown:
            raise DataError(f"{unknown[0]} is none of ImageNet's {CLASSES} classes; --data-set folder reads it", root)
        if len(wnids) < len(found):
            logger.warning("%s: %d folders are of no class and not read", root, len(found) - len(wnids))
        return wnids

    def _names(self, root: str, keys: List[str]) -> List[str]:
        return [imagenet_names()[key] for key in keys]


@register_data_set("imagenet_a")
class ImageNetA(ImageNet):
    """ImageNet-A: the 200 folders ``nXXXXXXXX`` of imagenet-a.tar (github.com/hendrycks/natural-adv-examples) beside
    its README.txt, which names them; without it classes have CLIP's names."""

    def _names(self, root: str, keys: List[str]) -> List[str]:
        readme = os.path.join(root, "README.txt")
        if os.path.exists(readme):
            return read_names(readme, keys)
        logger.warning("%s: there is none; classes are called as in CLIP's list for ImageNet", readme)
        return super()._names(root, keys)


@register_data_set("imagenet_v2")
class ImageNetV2(DataSet):
    """ImageNet V2: the folders ``0`` to ``999`` of imagenetv2-matched-frequency.tar.gz or another of its variants
    (huggingface.co/datasets/vaishaal/ImageNetV2); the number of a folder is the class."""

    lists = ("imagenet", "imagenet1k")
    reference_top_k = 128

    def read(self, root: str, split: str) -> LabelledImages:
        advice = f"give the folder that holds the folders 0 to {CLASSES - 1}"
        found = class_folders(root, advice)
        wrong = [name for name in found if not (name.isascii() and name.isdecimal() and int(name) < CLASSES)]
        if wrong:
            raise DataError(f"holds a folder {wrong[0]!r}, which is no class number; {advice}", root)
        folder_of = {int(name): name for name in found}
        if len(folder_of) < len(found):
            raise DataError("two folders have the same number; unpack it again", root)
        if len(folder_of) < CLASSES:
            logger.warning("%s: %d of %d classes have no folder", root, CLASSES - len(folder_of), CLASSES)
        numbers = sorted(folder_of)
        images, of_folder = pictures_below(root, [folder_of[number] for number in numbers])
        names = list(imagenet_names().values())
        keys = list(map(str, range(CLASSES)))
        labels = [numbers[position] for position in of_folder]
        return labelled(root, FolderPictures(root), images, labels, keys, names)
