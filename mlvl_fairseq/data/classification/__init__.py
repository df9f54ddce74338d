"""Images with a class each: data sets as published, folders of classes, names of classes and prompts.

A kind of data set is one file of ``kinds/``; lists of prompts and names that come with the plugin are in ``lists/``.
"""

from mlvl_fairseq.data.classification import kinds as _kinds  # noqa: F401  (registers them)
from mlvl_fairseq.data.classification.base import DATA_SETS, DataSet, LabelledImages, data_set_names, register_data_set

__all__ = ["DATA_SETS", "DataSet", "LabelledImages", "data_set_names", "register_data_set"]
