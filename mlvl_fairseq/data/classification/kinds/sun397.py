"""SUN397."""

import logging
import os

from mlvl_fairseq.data.classification.base import DataSet, LabelledImages, labelled, register_data_set
from mlvl_fairseq.data.classification.folders import pictures_below, require_folder
from mlvl_fairseq.data.classification.pictures import FolderPictures
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_text

logger = logging.getLogger(__name__)


@register_data_set("sun397")
class Sun397(DataSet):
    """SUN397: ``SUN397/ClassName.txt`` and the pictures below it (SUN397.tar.gz of vision.princeton.edu/projects/2010/
    SUN), all of them, sorted; ``/a/abbey`` is the class "abbey"."""

    lists = ("sun397",)

    def read(self, root: str, split: str) -> LabelledImages:
        advice = "unpack SUN397.tar.gz of vision.princeton.edu/projects/2010/SUN there"
        where = require_folder(root, "SUN397", "", advice=advice)
        path = os.path.join(where, "ClassName.txt")
        folders = [line.strip().lstrip("/") for line in read_text(path, advice).splitlines() if line.strip()]
        wrong = [name for name in folders if not name[2:] or name[1] != "/" or ".." in name.split("/")]
        if wrong or len(set(folders)) < len(folders):
            raise DataError(f"line {wrong[0]!r} is no class, as /a/abbey" if wrong else "names a class twice", path)
        keys = [name[2:] for name in folders]  # without the letter
        images, labels = pictures_below(where, folders)
        chosen = [row for row, name in enumerate(images) if os.path.basename(name).startswith("sun_")]
        if len(chosen) < len(images):
            logger.warning("%s: %d pictures are not called sun_*", where, len(images) - len(chosen))
        names = [key.replace("_", " ").replace("/", " ") for key in keys]
        of_images, of_labels = [images[row] for row in chosen], [labels[row] for row in chosen]
        return labelled(where, FolderPictures(where), of_images, of_labels, keys, names)
