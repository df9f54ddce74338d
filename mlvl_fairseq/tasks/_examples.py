"""What tasks share that a network of images and texts is fine-tuned for, example by example."""

import logging
from dataclasses import dataclass, field, replace
from typing import ClassVar, List, Optional, Tuple

from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.examples import (
    Example,
    ExampleImageOptions,
    ExampleImages,
    ExampleOptions,
    Examples,
    example_files,
    read_examples,
)
from mlvl_fairseq.data.examples.dataset import ExamplesDataset, Shown, readable
from mlvl_fairseq.data.examples.targets import Targets
from mlvl_fairseq.data.examples.texts import ExampleTextOptions, ExampleTexts
from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions
from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.data.language_files import told_what_is_there
from mlvl_fairseq.data.streams.sides import SideOptions, tells_sides, tells_sides_as_published
from mlvl_fairseq.data.streams.texts import FORMS
from mlvl_fairseq.data.text import Tokenizer, load_tokenizer
from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import with_options
from mlvl_fairseq.tasks._base import MlvlTask, split_languages

logger = logging.getLogger(__name__)

DRAWS = 1  # what a run's seed is for


@dataclass
class ExampleTaskOptions(FairseqDataclass):
    examples: str = field(
        default="",
        metadata={
            "help": "files of examples to train on, with commas; {lang} in a name stands for each of --langs. Formats "
            "are told by content: XVNLI, GQA, xGQA, NLVR2 and MaRVL as published"
        },
    )
    valid_examples: str = field(default="", metadata={"help": "files of examples to validate on, likewise"})
    langs: str = field(default="", metadata={"help": "languages that {lang} stands for, e.g. en,de"})
    example_form: str = field(
        default="fixed",
        metadata={
            "help": "how examples become batches: fixed, or reference as the published code has it, which mirrors "
            "pictures though a hypothesis or statement tells a side, lets all answers to a question count the same, "
            "and their first piece twice where it chooses one",
            "choices": FORMS,
        },
    )
    seed: int = II("common.seed")


EXAMPLE_PARTS = (
    ExampleOptions,
    ExampleImageOptions,
    ExampleTextOptions,
    SideOptions,
    AugmentationOptions,
    PictureOptions,
)
ExampleTaskConfig = with_options(ExampleTaskOptions, EXAMPLE_PARTS)


class ExamplesTask(MlvlTask):
    """Base of the tasks on examples. A subclass says what a batch asks for.

    A batch's ``net_input`` has ``tokens``, ``eos_positions``, ``images`` [B * V, ...] of V images a text, ``head`` and
    what this head takes.

    Args:
        cfg: options. tokenizer: cuts texts. images: opens images. train: what is trained on, of each file.

    Attributes:
        heads: what stands on the network's fusion encoder, for ``--heads``.
        images_per_text: how many images an example has.
        stream_features_shape: of given features of an image, ``(positions, dimensions)``; None: there are pictures.
        preprocess: what makes pictures to the model's input, once there is a model that takes pictures.
        trained_on: checksums of the files; a folder with a training on others does not go on with these.

    Raises:
        UserError: files do not go together.
    """

    heads: str = ""
    images_per_text: int = 1
    stream_features_shape: Optional[Tuple[int, int]] = None
    mirrors_as_published: ClassVar[bool] = True  # whether pictures are mirrored there whatever a text tells

    def __init__(self, cfg, tokenizer: Tokenizer, images: ExampleImages, train: List[Examples]):
        super().__init__(cfg, tokenizer.dictionary)
        self.tokenizer, self.images, self.train, self.preprocess = tokenizer, images, train, None
        self.images_per_text = train[0].images_per_text
        self.trained_on = sorted(file_sha256(examples.path) for examples in train)
        self.stream_features_shape = images.shape
        self.check(train)
        self.state.merge_state_dict(tokenizer.prepared(str(cfg.cleaning)).checkpoint_state())

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        """Raises UserError: options that do not go together. DataError: a file is missing or damaged."""
        if Augmentation.of(cfg) and cfg.image_features:
            raise UserError("--augment changes pictures, and --image-features are features of them")
        if cfg.example_form not in FORMS:
            raise UserError(f"--example-form {cfg.example_form}: choose one of {', '.join(FORMS)}")
        if not cfg.tokenizer_folder:
            raise UserError("say with --tokenizer-folder which XLM-R folder cuts texts")
        refuse_remote(cfg.tokenizer_folder, "--tokenizer-folder")
        BadImagePolicy.of(cfg)
        tokenizer, images = load_tokenizer(cfg.tokenizer_folder), ExampleImages(cfg)
        return cls(cfg, tokenizer, images, cls.read(cfg, images, cfg.examples, "--examples"))

    @classmethod
    def read(cls, cfg, images: ExampleImages, pattern: str, option: str) -> List[Examples]:
        """The examples of each file. Raises UserError, DataError: see :func:`read_examples`."""
        found = []
        for path, lang in example_files(pattern, split_languages(cfg.langs), option).items():
            with told_what_is_there(lang or "", *map(str.strip, pattern.split(","))):
                examples = read_examples(
                    path,
                    images,
                    format=str(cfg.examples_format),
                    lang=lang,
                    classes=cls.given_classes(cfg),
                    on_problem=str(cfg.on_problem),
                    max_problems=cfg.max_problems,
                )
            found.append(examples)
        return found

    @classmethod
    def given_classes(cls, cfg) -> List[str]:
        """Labels that options name, in the order of their numbers."""
        return []

    def check(self, files: List[Examples]) -> None:
        """Raises UserError: files are of another kind than the task, or than those of training."""
        for file in files:
            if file.images_per_text != self.images_per_text:
                raise UserError(
                    f"{file.path}: {file.images_per_text} images a text, in {self.train[0].path} "
                    f"{self.images_per_text}: train a model for each"
                )

    def targets(self, training: bool) -> Targets:
        """What a batch asks for."""
        raise NotImplementedError

    def usable(self, examples: List[Example], training: bool, path: str) -> List[Example]:
        """Those that the task can use; how many it cannot is told. Raises UserError: there is none."""
        kept, empty = ExampleTexts(self.cfg, self.tokenizer, training).without_empty(examples)
        if empty:
            logger.warning("%s: %d texts are empty once they are cleaned; they are left out", path, empty)
        if not kept:
            raise UserError(f"{path}: --cleaning {self.cfg.cleaning} leaves nothing of any text")
        return kept

    @classmethod
    def load_dictionary(cls, filename) -> Dictionary:
        return load_xlmr_dictionary(filename)

    def max_positions(self) -> int:
        return max(self.cfg.max_length, self.cfg.eval_max_length)

    def build_model(self, cfg, from_checkpoint=False):
        """Raises UserError: the model's images are not those of the examples."""
        model = super().build_model(cfg, from_checkpoint)
        if (model.preprocess is None) != (self.stream_features_shape is not None):
            what = "pictures, not features: leave --image-features out" if model.preprocess else "--image-features"
            raise UserError(f"--arch {cfg._name} with this image tower takes {what}")
        if model.preprocess:
            self.preprocess = replace(model.preprocess, high_bit_depth=str(self.cfg.high_bit_depth))
        return model

    def load_dataset(self, split, **kwargs):
        training = split == "train"
        if not training and not self.cfg.valid_examples:
            raise UserError("there is nothing to validate on: give --valid-examples, or --disable-validation")
        files = self.train
        if not training:
            files = self.read(self.cfg, self.images, self.cfg.valid_examples, "--valid-examples")
            self.check(files)
        shown = Shown(self.images, self.preprocess, Augmentation.of(self.cfg) if training else None, self.may_mirror)
        found = [one for file in files for one in self.usable(file.examples, training, file.path)]
        found = readable(found, shown, BadImagePolicy.of(self.cfg), f"{split} images")
        self.datasets[split] = ExamplesDataset(
            found,
            ExampleTexts(self.cfg, self.tokenizer, training),
            shown,
            self.targets(training),
            self.dictionary.pad(),
            self.seed_for(DRAWS),
            shuffle=training,
        )
        logger.info("%s: %d examples of %d files", split, len(found), len(files))

    def may_mirror(self, example: Example) -> bool:
        """Whether pictures may be mirrored: not where text or answers tell a side."""
        told = [example.text, *example.answers]
        if self.cfg.example_form == "reference":
            return self.mirrors_as_published or not tells_sides_as_published(told)
        return not tells_sides(told, self.cfg)

    def get_batch_iterator(self, dataset, max_tokens=None, max_sentences=None, **kwargs):
        """fairseq's iterator over batches in an order that is drawn anew every epoch; the last one may be smaller, and
        the only one where there are fewer examples. Consecutive ones go to the ranks, so that N ranks see what one
        process with N times the batch would.

        Raises:
            UserError: ``--max-tokens`` is given.
        """
        if max_tokens is not None:
            raise UserError(f"--max-tokens {max_tokens} says nothing to examples with images: give --batch-size")
        kwargs["required_batch_size_multiple"] = 1
        iterator = super().get_batch_iterator(dataset, None, max_sentences, **kwargs)
        iterator.disable_shuffling = True
        return iterator
