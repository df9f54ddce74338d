"""Contrastive training of a dual encoder: from scratch, from CLIP's weights, or with frozen parts."""

import shlex
from dataclasses import dataclass, field, replace
from typing import List, Optional, Tuple

from fairseq.tasks import register_task

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import CorpusVocabulary, GivenVocabulary, GrownVocabulary
from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions
from mlvl_fairseq.data.images.corpus_images import CorpusImages, DrawnCorpusImages
from mlvl_fairseq.data.images.policy import PictureOptions
from mlvl_fairseq.data.text import TextOptions, load_tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.tasks._base import CaptionTask, CaptionTaskConfig, split_languages
from mlvl_fairseq.tasks._frozen_vectors import CacheOptions, CachesFrozenTowers
from mlvl_fairseq.tasks._limit import LimitOptions, LimitsSamples


@dataclass
class ImageTextRetrievalConfig(
    CacheOptions, AugmentationOptions, TextOptions, LimitOptions, PictureOptions, CaptionTaskConfig
):
    langs: str = field(default="en", metadata={"help": "languages to train on, e.g. en or en,de,fr"})
    vocabulary: str = field(
        default="", metadata={"help": "languages that CLIP's vocabulary is grown by, in order; empty: CLIP's own"}
    )
    tokenizer_folder: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder of a tokenizer that came with a text tower, such as BERT's or XLM-R's, as given to "
            "mlvl-prepare; default: CLIP's tokens, see --vocabulary"
        },
    )
    eval_max_length: int = field(
        default=0,
        metadata={"help": "cut captions to this many tokens in validation and evaluation; 0: as in training"},
    )
    image_root: str = field(default="", metadata={"help": "folder of the images; empty: as given to mlvl-prepare"})
    allow_outside_root: bool = field(
        default=False, metadata={"help": "open images whose names are absolute or lead out of the image root"}
    )


@register_task("image_text_retrieval", dataclass=ImageTextRetrievalConfig)
class ImageTextRetrievalTask(CachesFrozenTowers, LimitsSamples, CaptionTask):
    """Train both towers of a dual encoder on one or several languages; gives a teacher where no CLIP is at hand."""

    trains_image_tower = True

    @classmethod
    def setup_task(cls, cfg: ImageTextRetrievalConfig, **kwargs):
        Augmentation.of(cfg)  # says what is wrong with its options before anything is read
        corpus, langs = Corpus(cfg.data), split_languages(cfg.langs)
        for lang in langs:
            corpus.require("train", lang)
        return cls(cfg, vocabulary_of(cfg, corpus, langs), langs)

    @property
    def stream_features_shape(self) -> Optional[Tuple[int, ...]]:
        """Shape of an image's given features; None: there are pictures."""
        return (self.image_feature_dim,) if self.image_feature_dim else None

    @property
    def growth(self) -> GrowthOptions:
        return GrowthOptions(seed=self.seed_for(0))

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        self.preprocess = model.preprocess and replace(model.preprocess, high_bit_depth=self.cfg.high_bit_depth)
        return model

    def load_dataset(self, split, **kwargs):
        images = self._images(split)
        if split == "valid":
            self.check_validation_images(self.usable_images(split))
        langs, longest = split_languages(self.cfg.langs), self._longest(split)
        states = self.text_vectors(split, langs, longest)
        self.datasets[split] = self.load_captions(split, langs, images=images, max_length=longest, states=states)

    def _longest(self, split: str) -> int:
        return self.cfg.max_length if split == "train" else self.cfg.eval_max_length or self.cfg.max_length

    def max_positions(self) -> int:
        return max(self.cfg.max_length, self.cfg.eval_max_length)

    def feature_kinds(self, split):
        return ("inputs",) if self.preprocess is None else ()

    def _images(self, split):
        augmentation = Augmentation.of(self.cfg)
        if self.preprocess is None:
            if augmentation:
                raise UserError("--augment changes pictures, and the model takes features of them")
            advice = "give mlvl-prepare --image-features features of one kind for all splits"
            return self.corpus_features(split, "inputs", self.image_feature_dim, advice)
        where, outside = (self.corpus, split, self.preprocess, self.cfg.image_root), self.cfg.allow_outside_root
        images = CorpusImages(*where, outside)
        vectors = self.image_vectors(split, images, "--augment shows other pictures each time" if augmentation else "")
        if vectors is not None:
            return vectors
        if split == "train" and augmentation:
            images = DrawnCorpusImages(*where, augmentation, self.seed_for(1), outside)
        self.look_at_pictures(split, images)
        return images


def vocabulary_of(cfg: ImageTextRetrievalConfig, corpus: Corpus, langs: List[str]) -> CorpusVocabulary:
    """What captions are cut with: a given tokenizer, or CLIP's.

    Raises:
        UserError: the options do not go together. DataError: the tokenizer is damaged.
    """
    grown = split_languages(cfg.vocabulary)
    if cfg.tokenizer_folder:
        tokenizer = load_tokenizer(cfg.tokenizer_folder)
        if tokenizer.comes_with_a_model:
            if grown:
                raise UserError(f"--vocabulary {cfg.vocabulary} grows CLIP's: it does not go with --tokenizer-folder")
            return GivenVocabulary(corpus, TextOptions.prepare(cfg, tokenizer), cfg.tokenizer_folder)
        raise UserError(
            f"--tokenizer-folder {cfg.tokenizer_folder} holds CLIP's tokens: leave it out, and give --vocabulary LANGS"
        )
    TextOptions.refuse(cfg, "without --tokenizer-folder")
    if not grown and langs != [corpus.source_lang]:
        raise UserError(
            f"CLIP's own vocabulary is for {corpus.source_lang}: for {cfg.langs} give --vocabulary {cfg.langs} and "
            f"prepare it with: mlvl-prepare {shlex.quote(cfg.data)} --joint {cfg.langs}; or the --tokenizer-folder of "
            "a text tower"
        )
    return GrownVocabulary(corpus, grown)
