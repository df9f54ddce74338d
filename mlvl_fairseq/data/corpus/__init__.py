"""A corpus folder: captions, images and teacher features of several languages, prepared once for training."""

from mlvl_fairseq.data.corpus.corpus import SPLITS, TEACHER_FEATURES, Corpus

__all__ = ["SPLITS", "TEACHER_FEATURES", "Corpus"]
