"""A corpus folder: captions, images and teacher features of several languages, prepared once for training."""

from mlvl_fairseq.data.corpus.corpus import SPLITS, TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.corpus.vocabularies import CLIP_VOCABULARY, vocabulary_name

__all__ = ["CLIP_VOCABULARY", "SPLITS", "TEACHER_FEATURES", "Corpus", "vocabulary_name"]
