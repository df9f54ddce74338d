"""Folders of classes: a folder is a class, and all pictures below it are of it (the layout of torchvision's
ImageFolder)."""

import logging
import os
from typing import List, Sequence, Tuple

from mlvl_fairseq.data.image_names import image_name
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
EXAMPLES = 3  # named in messages


def class_folders(root, advice: str = "give a folder with a folder for each class") -> List[str]:
    """Names of the folders in a folder, sorted; those that begin with a dot are none.

    Raises:
        DataError: it is not there or cannot be listed, or holds none.
    """
    try:
        with os.scandir(root) as entries:
            found = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{error.strerror or error}; {advice}", root) from None
    if not found:
        raise DataError(f"holds no folders; {advice}", root)
    return found


def pictures_below(root, folders: Sequence[str], require: bool = True) -> Tuple[List[str], List[int]]:
    """Names of all pictures below some folders, sorted within each, and the folder of each. Files of other names are
    counted and told; those that begin with a dot are not looked at.

    Args:
        require: every folder must hold one.

    Raises:
        DataError: a folder holds no picture.
    """
    images, labels, others = [], [], []
    for label, folder in enumerate(folders):
        before = len(images)
        for place, inner, files in os.walk(os.path.join(root, folder)):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            below = os.path.relpath(place, root)
            for file in sorted(name for name in files if not name.startswith(".")):
                known = file.lower().endswith(SUFFIXES)
                (images if known else others).append(image_name(os.path.join(below, file)))
        labels += [label] * (len(images) - before)
        if require and len(images) == before:
            message = f"holds no picture ({', '.join(SUFFIXES)}); remove it, or look whether it was unpacked whole"
            raise DataError(message, os.path.join(root, folder))
    if others:
        logger.warning("%s: %d files are no pictures: %s", root, len(others), ", ".join(others[:EXAMPLES]))
    return images, labels


def require_folder(root, *names: str, advice: str) -> str:
    """The first of some folders below `root` that is there; ``""`` stands for `root` itself.

    Raises:
        DataError: none is.
    """
    for name in names:
        path = os.path.join(root, name) if name else str(root)
        if os.path.isdir(path):
            return path
    raise DataError(f"no such folder; {advice}", os.path.join(root, names[0]))
