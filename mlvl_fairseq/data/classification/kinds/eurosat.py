"""EuroSAT, RGB."""

from mlvl_fairseq.data.classification.base import DataSet, LabelledImages, labelled, register_data_set
from mlvl_fairseq.data.classification.folders import class_folders, pictures_below, require_folder
from mlvl_fairseq.data.classification.pictures import FolderPictures
from mlvl_fairseq.errors import DataError

# OpenAI CLIP, data/prompts.md (MIT, (c) 2021 OpenAI)
_NAMES = {
    "AnnualCrop": "annual crop land",
    "Forest": "forest",
    "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road",
    "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "River": "river",
    "SeaLake": "lake or sea",
}


@register_data_set("eurosat")
class EuroSat(DataSet):
    """EuroSAT: ``2750/CLASS/*.jpg`` of EuroSAT.zip (github.com/phelber/EuroSAT), all 27,000 pictures; classes have
    CLIP's names."""

    lists = ("eurosat",)

    def read(self, root: str, split: str) -> LabelledImages:
        advice = "unpack EuroSAT.zip of github.com/phelber/EuroSAT there (RGB version)"
        where = require_folder(root, "2750", "eurosat/2750", "EuroSAT/2750", "EuroSAT_RGB", advice=advice)
        keys = class_folders(where, advice)
        if set(keys) != set(_NAMES):
            differ = sorted(set(keys) ^ set(_NAMES))
            raise DataError(f"its folders are not EuroSAT's ten classes ({differ[0]}); {advice}", where)
        images, labels = pictures_below(where, keys)
        return labelled(where, FolderPictures(where), images, labels, keys, [_NAMES[key] for key in keys])
