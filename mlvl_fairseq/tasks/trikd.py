"""TriKD (Chen et al. 2023): projectors that bring a frozen multilingual text encoder and a frozen CLIP together."""

import logging
from dataclasses import dataclass, field, replace
from typing import List, Optional

import numpy as np
from fairseq.tasks import register_task
from omegaconf import MISSING
from torch.utils.data import ConcatDataset

from mlvl_fairseq.checkpoints.source import fingerprint_of
from mlvl_fairseq.data.caption_dataset import MultilingualCaptionDataset
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.text_states import CorpusStates
from mlvl_fairseq.data.corpus.vocabularies import CorpusVocabulary, GivenVocabulary
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.data.images.corpus_images import CorpusImages, CroppedCorpusImages
from mlvl_fairseq.data.images.policy import PictureOptions
from mlvl_fairseq.data.images.transforms import CLIP_TRANSFORM
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.tasks._base import CaptionTask, CaptionTaskConfig, selected, split_languages
from mlvl_fairseq.tasks._limit import LimitOptions, LimitsSamples
from mlvl_fairseq.tasks._validation import RecallScores

logger = logging.getLogger(__name__)

STORED_FEATURES = {"teacher": "image", "features": "inputs"}  # --image-tower -> kind of features in the corpus
PAIR = "im-"


@dataclass
class TrikdTaskConfig(LimitOptions, PictureOptions, CaptionTaskConfig):
    max_length: int = field(
        default=77,
        metadata={
            "help": "cut captions to this many pieces, <s> and </s> included; </s> is kept. The published pre-training "
            "has 78 (76 pieces), its fine-tuning no limit (XLM-R's is 512)"
        },
    )
    sentencepiece: str = field(
        default=MISSING,
        metadata={"help": "XLM-R folder with sentencepiece.bpe.model and dict.txt, as given to mlvl-prepare"},
    )
    langs: str = field(default="en", metadata={"help": "languages to train on, e.g. en or en,ja,de"})
    lang_pairs: str = field(
        default="", metadata={"help": "the same in the manner of the published commands: im-en,im-ja,im-de"}
    )
    valid_langs: str = field(
        default="", metadata={"help": "languages to validate on, also such that are not trained; empty: the trained"}
    )
    sampling_temperature: float = field(
        default=1.0,
        metadata={
            "help": "share of a language in an epoch: in proportion to its captions ** (1 / this). 1: every caption "
            "once; the published recipe has 5"
        },
    )
    single_language_batches: bool = field(
        default=False, metadata={"help": "every batch is of one language (as published); by default they mix"}
    )
    cached_states: bool = field(
        default=False,
        metadata={"help": "read the text encoder's states as `mlvl-prepare --mte` stored them, instead of running it"},
    )
    image_root: str = field(default="", metadata={"help": "folder of the images; empty: as given to mlvl-prepare"})
    allow_outside_root: bool = field(
        default=False, metadata={"help": "open images whose names are absolute or lead out of the image root"}
    )
    random_crop: float = field(
        default=0.0,
        metadata={
            "help": "with --image-tower vit: train on random parts of the pictures, of at least this share of their "
            "area, e.g. 0.9; 0: on their centres, as CLIP's own preprocessing cuts them"
        },
    )


@register_task("trikd", dataclass=TrikdTaskConfig)
class TrikdTask(LimitsSamples, CaptionTask):
    """Train model ``trikd`` on captions in one or several languages.

    Attributes:
        langs, valid_langs: languages of training and validation.
        cached_states: whether the text encoder's states are read, not computed.
    """

    dataset_class = MultilingualCaptionDataset
    tokenizer_class = SentencePieceTokenizer
    cached_states = False

    def __init__(self, cfg: TrikdTaskConfig, vocabulary: CorpusVocabulary):
        self.langs = training_languages(cfg.langs, cfg.lang_pairs)
        super().__init__(cfg, vocabulary, self.langs)
        self.valid_langs = split_languages(cfg.valid_langs) or self.langs
        self.cached_states = cfg.cached_states
        for lang in self.langs:
            self.corpus.require("train", lang)
        if cfg.sampling_temperature <= 0:
            raise UserError(f"--sampling-temperature {cfg.sampling_temperature} is not positive")
        if not 0 <= cfg.random_crop <= 1:
            raise UserError(f"--random-crop {cfg.random_crop} is no share of a picture")
        self.state.merge_state_dict({"langs": self.langs})

    @classmethod
    def setup_task(cls, cfg: TrikdTaskConfig, **kwargs):
        tokenizer = cls.tokenizer_class.load(cfg.sentencepiece)
        return cls(cfg, GivenVocabulary(Corpus(cfg.data), tokenizer, cfg.sentencepiece))

    # What the model asks for when it is built.
    @property
    def image_feature_dim(self) -> int:
        """Dimension of the stored image features that are trained on."""
        return self._stored_features("train").shape[1]

    @property
    def teacher_fingerprint(self) -> Optional[str]:
        """Of the CLIP whose features are stored; None: another network's features are trained on."""
        if self.image_tower != "teacher":
            return None
        self.corpus.require_one_teacher()
        return read_feature_manifest(self.corpus.feature_stem("train", "image")).weights_fingerprint

    def build_model(self, cfg, from_checkpoint=False):
        self.image_tower = str(getattr(cfg, "image_tower", None))  # models without are refused next
        model = super().build_model(cfg, from_checkpoint)
        self.preprocess = model.preprocess and replace(model.preprocess, high_bit_depth=self.cfg.high_bit_depth)
        self._check_clip(model)
        self._check_transform(model.transform)
        self.mte_fingerprint = fingerprint_of(model.mte_fingerprint)
        return model

    def _check_clip(self, model) -> None:
        """Raises UserError: the stored features are those of another CLIP than the model's."""
        stems = [self.corpus.feature_stem(s, kind) for s in ("train", "valid") for kind in self._kinds_of_clip(s)]
        for stem in stems:
            digest = read_feature_manifest(stem).weights_fingerprint
            if digest != fingerprint_of(model.clip_fingerprint):
                raise UserError(f"{stem}.npy holds features of another CLIP than --clip: give the one that made them")

    def _check_transform(self, transform: str) -> None:
        """Raises UserError: the pictures behind the stored features were not cut as ``--transform`` says."""
        if self.image_tower == "features" and transform != CLIP_TRANSFORM:
            raise UserError(f"--transform {transform} cuts pictures, and --image-tower features takes none")
        if self.image_tower != "teacher":
            return
        for split in ("train", "valid"):
            stored = (self.corpus.image_transform(split) or CLIP_TRANSFORM).partition("@")[0]
            if self.corpus.has_features(split, "image") and stored != transform:
                raise UserError(
                    f"{self.corpus.feature_stem(split, 'image')}.npy holds features of pictures cut by {stored}: give "
                    f"--transform {stored}, or a corpus made with mlvl-prepare --teacher CLIP --transform {transform}"
                )

    def feature_kinds(self, split: str) -> List[str]:
        stored = STORED_FEATURES.get(self.image_tower)
        return list(dict.fromkeys([*([stored] if stored else []), *self._kinds_of_clip(split)]))

    def _kinds_of_clip(self, split: str) -> List[str]:
        """Which of CLIP's stored features are trained on."""
        kinds = {"teacher": ["image", "text"], "vit": ["text"], "features": []}[self.image_tower]
        return [kind for kind in kinds if self.corpus.has_features(split, kind)]

    # Data.
    def load_dataset(self, split, **kwargs):
        langs = self.valid_langs if split == "valid" else self.langs
        images = self._images(split)
        if split == "valid":
            self.check_validation_images(self.usable_images(split))
        has_text = "text" in self._kinds_of_clip(split)
        states = ConcatDataset([self._states(split, lang) for lang in langs]) if self.cached_states else None
        self.datasets[split] = dataset = self.load_captions(
            split,
            langs,
            images=images,
            english=self.corpus.features(split, "text") if has_text else None,
            lang_sizes=[len(self.usable(split, lang)) for lang in langs],
            temperature=self.cfg.sampling_temperature,
            one_language=self.cfg.single_language_batches,
            states=states,
        )
        if has_text:
            known = int((dataset.rows[:, 1] >= 0).sum())
            logger.info("%s: %d of %d captions have an English partner", split, known, len(dataset))

    def _images(self, split: str):
        if self.image_tower in STORED_FEATURES:
            return self._stored_features(split)
        where, outside = (self.corpus, split, self.preprocess, self.cfg.image_root), self.cfg.allow_outside_root
        if split == "train" and self.cfg.random_crop:
            images = CroppedCorpusImages(*where, self.cfg.random_crop, self.seed_for(0), outside)
        else:
            images = CorpusImages(*where, outside)
        self.look_at_pictures(split, images)
        return images

    def _stored_features(self, split: str) -> np.ndarray:
        kind = STORED_FEATURES[self.image_tower]
        if not self.corpus.has_features(split, kind):
            option = {"image": "--teacher CLIP", "inputs": "--image-features"}[kind]
            raise UserError(
                f"{self.corpus.folder} has no such features of the {split} images: run mlvl-prepare "
                f"{self.corpus.folder} {option}"
            )
        dims = 0 if split == "train" else self.image_feature_dim
        return self.corpus_features(split, kind, dims, "extract those of all splits with one model")

    def _states(self, split: str, lang: str):
        states = CorpusStates(self.vocabulary, self.cfg.max_length, self.mte_fingerprint).open(split, lang)
        return selected(states, self.usable(split, lang))

    # Training and validation.
    def new_recall(self) -> RecallScores:
        return RecallScores(self.valid_langs)


def training_languages(langs: str, lang_pairs: str) -> List[str]:
    """The languages of ``--langs`` or ``--lang-pairs``.

    Raises:
        UserError: no language, one twice, or pairs that are not of an image and a language.
    """
    pairs = split_languages(lang_pairs)
    wrong = [pair for pair in pairs if not pair.startswith(PAIR) or pair == PAIR]
    if wrong:
        raise UserError(f"--lang-pairs {','.join(wrong)}: write {PAIR}LANG, e.g. {PAIR}en,{PAIR}ja")
    languages = [pair[len(PAIR) :] for pair in pairs] or split_languages(langs)
    if not languages or len(set(languages)) < len(languages):
        raise UserError(f"'{lang_pairs or langs}' should name one or several different languages")
    return languages
