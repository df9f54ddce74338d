"""Pre-training of mCLIP's text encoder by translation in many directions (Chen et al. 2023)."""

import logging
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import get_available_dataset_impl
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import II, MISSING, open_dict
from torch import Tensor

from mlvl_fairseq.data.parallel import (
    Direction,
    DirectionSampler,
    ParallelDataset,
    SentenceOptions,
    find_directions,
    load_dictionaries,
    load_direction,
    parse_directions,
    sources_for_inference,
)
from mlvl_fairseq.data.text.dictionaries import symbols_fingerprint
from mlvl_fairseq.data.text.sentencepiece import join_pieces, load_xlmr_dictionary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.tasks._base import MlvlTask
from mlvl_fairseq.tasks._translations import TranslationCollector

logger = logging.getLogger(__name__)

LONGEST = {"max_len_a": 1.5, "max_len_b": 20}  # of a translation in validation: 1.5 times the source and 20 tokens


@dataclass
class MtePretrainingConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "folder written by fairseq-preprocess"})
    lang_pairs: str = field(
        default="",
        metadata={
            "help": "directions to train, e.g. de-en,en-de,cs-en,en-cs; empty: both directions of all train files"
        },
    )
    langs: str = field(
        default="",
        metadata={"help": "languages in the order of their ids, e.g. en,cs,de; empty: those of the directions, sorted"},
    )
    source_lang: Optional[str] = field(
        default=None, metadata={"help": "language to translate from", "argparse_alias": "-s"}
    )
    target_lang: Optional[str] = field(
        default=None, metadata={"help": "language to translate into", "argparse_alias": "-t"}
    )
    sampling_temperature: float = field(
        default=5.0, metadata={"help": "share of a direction in an epoch: in proportion to its pairs ** (1 / this)"}
    )
    virtual_epoch_size: int = field(
        default=0, metadata={"help": "sentence pairs an epoch, drawn anew in each; 0: as many as there are"}
    )
    no_source_bos: bool = field(
        default=False, metadata={"help": "put no <s> before the sentences to translate (as published)"}
    )
    truncate: int = field(
        default=0,
        metadata={
            "help": "cut both sides to so many tokens, </s> included and <s> not; 0: leave pairs longer than "
            "--max-source-positions or --max-target-positions out. Published: 508"
        },
    )
    max_source_positions: int = field(default=512, metadata={"help": "longest source, <s> and </s> included"})
    max_target_positions: int = field(default=512, metadata={"help": "longest target, </s> included"})
    bleu_sentences: int = field(
        default=200,
        metadata={
            "help": "translate the first so many validation sentences of each direction and log their bleu and chrf "
            "(--best-checkpoint-metric bleu --maximize-best-checkpoint-metric); 0: none"
        },
    )
    bleu_beam: int = field(default=5, metadata={"help": "beam of these translations"})
    dataset_impl: Optional[ChoiceEnum(get_available_dataset_impl())] = II("dataset.dataset_impl")
    seed: int = II("common.seed")


@register_task("mte_pretraining", dataclass=MtePretrainingConfig)
class MtePretrainingTask(MlvlTask):
    """Train model ``mte``; translate with it by ``fairseq-generate`` and ``fairseq-interactive`` (``-s de -t en``)."""

    def __init__(self, cfg: MtePretrainingConfig, directions: List[Direction], languages: List[str]):
        super().__init__(cfg, load_dictionaries(cfg.data, languages))
        self.directions = directions
        self.generator = None
        dictionary = symbols_fingerprint(self.dictionary.symbols)
        self.state.merge_state_dict(
            {"languages": languages, "source_bos": not cfg.no_source_bos, "dictionary": dictionary}
        )

    @classmethod
    def setup_task(cls, cfg: MtePretrainingConfig, **kwargs):
        directions = chosen_directions(cfg)
        return cls(cfg, directions, chosen_languages(cfg.langs, directions))

    @classmethod
    def load_dictionary(cls, filename) -> Dictionary:
        """XLM-R's ``dict.txt``, for ``fairseq-preprocess``."""
        return load_xlmr_dictionary(filename)

    @property
    def languages(self) -> List[str]:
        """In the order of their ids, of which the first is 1. A checkpoint brings its own."""
        return self.state.languages

    def language_id(self, language: str) -> int:
        """Raises UserError: the model was not trained with it."""
        if language not in self.languages:
            raise UserError(f"the model knows {','.join(self.languages)}, not {language}")
        return 1 + self.languages.index(language)

    def max_positions(self):
        return self.cfg.max_source_positions, self.cfg.max_target_positions

    # Data.
    @property
    def sentence_options(self) -> SentenceOptions:
        return SentenceOptions(self.state.source_bos, self.cfg.truncate)

    def load_dataset(self, split, **kwargs):
        options, impl = self.sentence_options, self.cfg.dataset_impl
        datasets = {
            direction: load_direction(self.cfg.data, split, direction, self.dictionary, options, impl)
            for direction in self.directions
        }
        sampler = None
        if split == "train":
            sizes = [len(dataset) for dataset in datasets.values()]
            sampler = DirectionSampler(sizes, self.cfg.sampling_temperature, self.cfg.virtual_epoch_size, self.cfg.seed)
            for direction, size, count in zip(datasets, sizes, sampler.counts):
                logger.info("%s: %d pairs, %d an epoch", direction, size, count)
        targets = {direction.target: self.language_id(direction.target) for direction in datasets}
        self.datasets[split] = ParallelDataset(datasets, targets, sampler)

    def build_dataset_for_inference(self, src_tokens, src_lengths, constraints=None):
        return sources_for_inference(src_tokens, src_lengths, self.dictionary, self.sentence_options, constraints)

    # Model, training, translation.
    def build_model(self, cfg, from_checkpoint=False):
        if from_checkpoint:  # all weights come from it; what its training started from may be gone
            with open_dict(cfg):
                cfg.init_from = None
        return super().build_model(cfg, from_checkpoint)

    def inference_step(self, generator, models, sample, prefix_tokens=None, constraints=None):
        """fairseq's search; ``fairseq-interactive`` does not say into which language, ``-t`` does."""
        if "target_lang" not in sample["net_input"]:
            if not self.cfg.target_lang:
                raise UserError("say with -s and -t what to translate, e.g. -s de -t en")
            target = self.language_id(self.cfg.target_lang)
            sample = {**sample, "net_input": {**sample["net_input"], "target_lang": target}}
        return super().inference_step(generator, models, sample, prefix_tokens, constraints)

    # Validation: BLEU and chrF of whole sets, whatever the batches.
    def begin_valid_epoch(self, epoch, model) -> None:
        if self.cfg.bleu_sentences:
            self.generator = self.build_generator([model], Namespace(beam=self.cfg.bleu_beam, **LONGEST))
            self.validation = TranslationCollector(self.directions)

    def score_names(self) -> List[str]:
        return TranslationCollector(self.directions).names if self.cfg.bleu_sentences else []

    def valid_step(self, sample, model, criterion):
        result = super().valid_step(sample, model, criterion)
        if self.validation is not None:
            self._translate(sample)
        return result

    def _translate(self, sample: Dict) -> None:
        """Hand the batch's sentences that are to be scored, and their translations, to the collector."""
        numbers = sample["numbers"]
        rows = (numbers < self.cfg.bleu_sentences).nonzero().flatten()
        if len(rows) == 0:
            return
        inputs = {**sample["net_input"], "src_tokens": sample["net_input"]["src_tokens"][rows]}
        inputs["src_lengths"] = inputs["src_lengths"][rows]
        hypotheses = self.inference_step(self.generator, None, {"net_input": inputs})
        references = [self.detokenize(target, "<unknown word>") for target in sample["target"][rows]]
        texts = [self.detokenize(best[0]["tokens"]) for best in hypotheses]
        self.validation.add(sample["direction"], numbers[rows].tolist(), texts, references)

    def detokenize(self, tokens: Tensor, unknown: str = "<unk>") -> str:
        """Text of ids [T]. References need another `unknown` than hypotheses, so that they never agree on one."""
        symbols = (unknown if i == self.dictionary.unk() else self.dictionary[i] for i in tokens.tolist())
        return join_pieces(symbols)

    def post_validate(self, model, stats, agg) -> None:
        """Say with which signatures the scores were computed."""
        scores = self.validation.scores if self.validation else {}
        for direction, score in scores.items():
            logger.info("%s: %s", direction, score)


def chosen_directions(cfg: MtePretrainingConfig) -> List[Direction]:
    """Directions of ``-s`` and ``-t``, of ``--lang-pairs``, or of all train files.

    Raises:
        UserError: only one of two languages is given, or none is found.
    """
    if cfg.source_lang and cfg.target_lang:
        return [Direction(cfg.source_lang, cfg.target_lang)]
    if cfg.source_lang or cfg.target_lang:
        raise UserError("give both -s and -t, e.g. -s de -t en")
    return parse_directions(cfg.lang_pairs) or find_directions(cfg.data)


def chosen_languages(langs: str, directions: List[Direction]) -> List[str]:
    """Languages in the order of their ids.

    Raises:
        UserError: ``--langs`` lacks one of the directions, or names one twice.
    """
    used = sorted({language for direction in directions for language in direction})
    languages = [language.strip() for language in langs.split(",") if language.strip()] or used
    missing = [language for language in used if language not in languages]
    if missing or len(set(languages)) < len(languages):
        raise UserError(
            f"--langs {langs} should name each language once, {','.join(used)} among them; which directions train, "
            "--lang-pairs says"
        )
    return languages
