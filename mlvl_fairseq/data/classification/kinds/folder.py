"""Any folder of classes."""

from mlvl_fairseq.data.classification.base import DataSet, LabelledImages, labelled, register_data_set
from mlvl_fairseq.data.classification.folders import class_folders, pictures_below
from mlvl_fairseq.data.classification.pictures import FolderPictures


@register_data_set("folder")
class ClassFolders(DataSet):
    """A folder of pictures for each class, to any depth; a class is called as its folder, ``_`` being a space."""

    lists = ("folder", "imagenet")

    def read(self, root: str, split: str) -> LabelledImages:
        keys = class_folders(root)
        images, labels = pictures_below(root, keys)
        names = [key.replace("_", " ").strip() or key for key in keys]
        return labelled(root, FolderPictures(root), images, labels, keys, names)
