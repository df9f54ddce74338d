"""Contrastive training of a dual encoder: from scratch, from CLIP's weights, or with frozen parts."""

from dataclasses import dataclass, field, replace

from fairseq.tasks import register_task

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary
from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions
from mlvl_fairseq.data.images.corpus_images import CorpusImages, DrawnCorpusImages
from mlvl_fairseq.data.images.policy import PictureOptions
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.tasks._base import CaptionTask, CaptionTaskConfig, split_languages


@dataclass
class ImageTextRetrievalConfig(AugmentationOptions, PictureOptions, CaptionTaskConfig):
    langs: str = field(default="en", metadata={"help": "languages to train on, e.g. en or en,de,fr"})
    vocabulary: str = field(
        default="", metadata={"help": "languages that CLIP's vocabulary is grown by, in order; empty: CLIP's own"}
    )
    image_root: str = field(default="", metadata={"help": "folder of the images; empty: as given to mlvl-prepare"})
    allow_outside_root: bool = field(
        default=False, metadata={"help": "open images whose names are absolute or lead out of the image root"}
    )


@register_task("image_text_retrieval", dataclass=ImageTextRetrievalConfig)
class ImageTextRetrievalTask(CaptionTask):
    """Train both towers of a dual encoder on one or several languages; gives a teacher where no CLIP is at hand."""

    trains_image_tower = True

    @classmethod
    def setup_task(cls, cfg: ImageTextRetrievalConfig, **kwargs):
        Augmentation.of(cfg)  # says what is wrong with its options before anything is read
        corpus, langs = Corpus(cfg.data), split_languages(cfg.langs)
        for lang in langs:
            corpus.require("train", lang)
        vocabulary = split_languages(cfg.vocabulary)
        if not vocabulary and langs != [corpus.source_lang]:
            raise UserError(
                f"CLIP's own vocabulary is for {corpus.source_lang}: for {cfg.langs} give --vocabulary {cfg.langs} and "
                f"prepare it with: mlvl-prepare {cfg.data} --joint {cfg.langs}"
            )
        return cls(cfg, GrownVocabulary(corpus, vocabulary), langs)

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
        self.datasets[split] = self.load_captions(split, split_languages(self.cfg.langs), images=images)

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
        if split == "train" and augmentation:
            images = DrawnCorpusImages(*where, augmentation, self.seed_for(1), outside)
        else:
            images = CorpusImages(*where, outside)
        self.look_at_pictures(split, images)
        return images
