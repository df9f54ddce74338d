"""Pre-training of CCLM (Zeng et al. 2023) on streams: images with captions, images with boxes, parallel text."""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Tuple, Type

import numpy as np
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import register_task
from omegaconf import II

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions
from mlvl_fairseq.data.streams import STREAM_KINDS, Records, Stream, StreamKind, StreamsDataset, Tools
from mlvl_fairseq.data.streams.masking_options import MaskingOptions, masking_of
from mlvl_fairseq.data.streams.order import StreamOrder, TrainingOrder, ValidationOrder
from mlvl_fairseq.data.streams.pictures import Pictures, PictureSourceOptions
from mlvl_fairseq.data.streams.policy import BadRecords, RecordOptions
from mlvl_fairseq.data.streams.records import held_out
from mlvl_fairseq.data.streams.sides import SideOptions
from mlvl_fairseq.data.streams.texts import FORMS, CaptionOptions, Texts
from mlvl_fairseq.data.text import Tokenizer, load_tokenizer
from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary
from mlvl_fairseq.distributed import first_rank_first, on_any_rank
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import check_number, with_options
from mlvl_fairseq.tasks._base import MlvlTask

logger = logging.getLogger(__name__)

TOLD = ("bad_records", "unused_rows", "absent_rows", "clipped_boxes")  # of a batch, beside its losses
ORDER, DRAWS, HELD_OUT, NEGATIVES = 1, 2, 3, 4  # purposes that a run's seed is for


@dataclass
class CclmTaskOptions(FairseqDataclass):
    tokenizer_folder: str = field(
        default="", metadata={"help": "XLM-R folder with sentencepiece.bpe.model and dict.txt"}
    )
    stream_form: str = field(
        default="fixed",
        metadata={
            "help": "how streams become batches: fixed, or reference with what is wrong in the published code (boxes "
            "cut to whole pixels, attributes to their first letter, pictures mirrored though a caption tells a side, "
            "regions that come twice in a batch, epochs whose last batch takes records of the next)",
            "choices": FORMS,
        },
    )
    index_folder: str = field(
        default="", metadata={"help": "where the indices of the streams' files are; empty: beside the files"}
    )
    epoch_records: int = field(
        default=0,
        metadata={"help": "an epoch has so many images of --image-text; 0: as many as there are", "least": 0},
    )
    held_out: float = field(
        default=0.0,
        metadata={"help": "share of the records of each stream to validate on, where no --valid-... is given"},
    )
    seed: int = II("common.seed")
    batch_size: Optional[int] = II("dataset.batch_size")
    update_freq: List[int] = II("optimization.update_freq")


CclmPretrainingConfig = with_options(
    CclmTaskOptions,
    [
        *(kind.options for _, kind in sorted(STREAM_KINDS.items())),
        CaptionOptions,
        MaskingOptions,
        SideOptions,
        PictureSourceOptions,
        AugmentationOptions,
        RecordOptions,
    ],
)


@register_task("cclm_pretraining", dataclass=CclmPretrainingConfig)
class CclmPretrainingTask(MlvlTask):
    """Train model ``cclm`` with criterion ``cclm_pretraining``.

    A batch is of one stream, ``stream``: ``image``, ``region``, ``text`` or ``mono``. Its ``net_input`` is what
    :meth:`~mlvl_fairseq.networks.cclm.CclmNetwork.pretrain` takes; beside it are ``masked_ids`` int64 [B, M] (-100
    where nothing is to be told) and, of regions, ``boxes`` float32 [B, 4] (centre, width, height in shares of the
    image) and ``whole`` bool [B].

    Attributes:
        streams: the kinds that it trains on.
        stream_features_shape: of given features of an image, ``(positions, dimensions)``; None: there are pictures.
        preprocess: what makes pictures to the model's input, once there is a model that takes pictures.
        side: patches a row and a column of an image, likewise.
    """

    stream_features_shape: Optional[Tuple[int, int]] = None

    def __init__(self, cfg, tokenizer: Tokenizer):
        super().__init__(cfg, tokenizer.dictionary)
        self.tokenizer = tokenizer
        self.pictures = Pictures(cfg)
        self.texts = Texts(cfg, tokenizer, str(cfg.stream_form))
        self.masking = masking_of(cfg, tokenizer)
        self.bad_records = BadRecords(cfg)
        self.stream_features_shape = self.pictures.shape
        self.preprocess, self.side = None, 0
        self._records: Dict[str, Records] = {}
        self.state.merge_state_dict(tokenizer.prepared(str(cfg.cleaning)).checkpoint_state())

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        """Raises UserError: options that do not go together. DataError: the tokenizer or given features are damaged."""
        Augmentation.of(cfg)
        check_number(cfg, "held_out", 0, 1)
        if cfg.stream_form not in FORMS:
            raise UserError(f"--stream-form {cfg.stream_form}: choose one of {', '.join(FORMS)}")
        if not cfg.tokenizer_folder:
            raise UserError("say with --tokenizer-folder which XLM-R folder cuts texts")
        refuse_remote(cfg.tokenizer_folder, "--tokenizer-folder")
        if not given_kinds(cfg):
            options = " or ".join(f"--{name.replace('_', '-')}" for name in sorted(STREAM_KINDS))
            raise UserError(f"give what to train on: {options}")
        for name in given_kinds(cfg):
            STREAM_KINDS[name].check(cfg)
        return cls(cfg, load_tokenizer(cfg.tokenizer_folder))

    @classmethod
    def load_dictionary(cls, filename) -> Dictionary:
        return load_xlmr_dictionary(filename)

    def max_positions(self) -> int:
        return self._kind_of_longest_texts.longest_text(self.cfg)

    @property
    def length_option(self) -> str:
        return self._kind_of_longest_texts.length_option(self.cfg)

    @property
    def _kind_of_longest_texts(self) -> Type[StreamKind]:
        kinds = [STREAM_KINDS[name] for name, _, _ in (*self.parts(True), *self.parts(False))]
        return max(kinds, key=lambda kind: kind.longest_text(self.cfg))

    @property
    def streams(self) -> List[str]:
        return given_kinds(self.cfg)

    # The model says what it takes.
    def build_model(self, cfg, from_checkpoint=False):
        """Raises UserError: the model's images are not the streams'."""
        model = super().build_model(cfg, from_checkpoint)
        if (model.preprocess is None) != (self.stream_features_shape is not None):
            what = "pictures, not features: leave --image-features out" if model.preprocess else "--image-features"
            raise UserError(f"--arch {cfg._name} with this image tower takes {what}")
        if model.preprocess:
            self.preprocess = replace(model.preprocess, high_bit_depth=str(self.cfg.high_bit_depth))
        if any(STREAM_KINDS[name].needs_patches for name, _, _ in (*self.parts(True), *self.parts(False))):
            self.side = patches_a_row(model, self.stream_features_shape)
            if not self.side:
                raise UserError("--regions needs images whose patches are a square of rows and columns")
        return model

    # Data.
    def load_dataset(self, split, **kwargs):
        training = split == "train"
        tools = Tools(
            self.cfg,
            self.texts,
            self.pictures,
            self.masking,
            str(self.cfg.stream_form),
            self.preprocess,
            Augmentation.of(self.cfg) if training else None,
            self.side,
        )
        streams = [
            Stream(STREAM_KINDS[name](tools), number, self.records(name, paths, training), self.rows_of(name))
            for name, number, paths in self.parts(training)
        ]
        if not streams:
            raise UserError("there is nothing to validate on: give --valid-..., --held-out, or --disable-validation")
        self.datasets[split] = StreamsDataset(
            streams, self.dictionary.pad(), self.seed_for(DRAWS), str(self.cfg.stream_form)
        )
        for stream in streams:
            logger.info("%s: %d records of %s", split, len(self.chosen(stream, training)), stream.kind.name)

    def parts(self, training: bool) -> List[Tuple[str, int, str]]:
        """Kind, number and files of each stream of a split."""
        numbers = {name: number for number, name in enumerate(sorted(STREAM_KINDS))}
        if training:
            return [(name, numbers[name], getattr(self.cfg, name)) for name in given_kinds(self.cfg)]
        given = {name: getattr(self.cfg, f"valid_{name}") for name in STREAM_KINDS}
        paths = {
            name: given[name] or (getattr(self.cfg, name) if self.cfg.held_out else "") for name in sorted(STREAM_KINDS)
        }
        return [(name, numbers[name], path) for name, path in paths.items() if path]

    def records(self, name: str, paths: str, training: bool) -> Records:
        if paths not in self._records:
            option = name if training or not getattr(self.cfg, f"valid_{name}") else f"valid_{name}"
            with first_rank_first():  # it makes the indices that are missing
                self._records[paths] = Records(paths, f"--{option.replace('_', '-')}", self.cfg.index_folder)
        return self._records[paths]

    def chosen(self, stream: Stream, training: bool) -> np.ndarray:
        """int64: the records of a stream that take part, without those held out, or only those."""
        name, every = stream.kind.name, len(stream.records)
        if not self.cfg.held_out or getattr(self.cfg, f"valid_{name}"):
            return np.arange(every)
        return held_out(every, self.cfg.held_out, [self.seed_for(HELD_OUT), stream.number])[0 if training else 1]

    def rows_of(self, name: str) -> int:
        """Rows of a batch of a stream. Raises UserError: nothing says how many."""
        rows = getattr(self.cfg, STREAM_KINDS[name].batch) or self.cfg.batch_size
        if not rows:
            option = STREAM_KINDS[name].batch.replace("_", "-")
            raise UserError(f"say with --batch-size, or for each stream (--{option}), how many rows a batch has")
        return rows

    def order(self, dataset: StreamsDataset, ranks: int):
        """Batches of every epoch. Raises UserError: there is not one, or ``--update-freq`` does not fit."""
        training = dataset is self.datasets.get("train")
        streams = [
            StreamOrder(
                kind.name,
                stream.number,
                self.chosen(stream, training),
                kind.records_a_batch(self.cfg, stream.rows),
                kind.share(self.cfg),
                kind.is_main,
            )
            for stream in sorted(dataset.streams.values(), key=lambda stream: stream.kind.turn)
            for kind in [stream.kind]
        ]
        if not training:
            order = ValidationOrder(streams, ranks)
            for name, left in order.left.items():
                logger.warning("validation leaves out %d records of %s: %d ranks have one each", left, name, ranks)
            return order
        whole, updates = str(self.cfg.stream_form) == "fixed", max(self.cfg.update_freq)
        order = TrainingOrder(streams, ranks, self.seed_for(ORDER), self.cfg.epoch_records, whole, updates)
        logger.info(
            "an epoch: %d iterations; %d records of %s are left to the next one",
            order.iterations,
            order.left,
            order.leading.name,
        )
        return order

    def get_batch_iterator(
        self, dataset, max_tokens=None, max_sentences=None, num_shards=1, shard_id=0, num_workers=0, epoch=1, **kwargs
    ):
        """fairseq's iterator over the batches of :meth:`order`, which is made anew in every epoch.

        Raises:
            UserError: ``--max-tokens`` is given.
        """
        if max_tokens is not None:
            raise UserError(f"--max-tokens {max_tokens} says nothing to streams: give --batch-size")
        if dataset in self.dataset_to_epoch_iter and not kwargs.get("disable_iterator_cache"):
            return self.dataset_to_epoch_iter[dataset]
        order = self.order(dataset, num_shards)
        iterator = self.dataset_to_epoch_iter[dataset] = EpochBatchIterator(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=lambda _, number: order.batches(number),
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            epoch=epoch,
            buffer_size=kwargs.get("data_buffer_size", 0),
            disable_shuffling=True,
            reuse_dataloader=True,
        )
        return iterator

    # What cannot be used, and losses of each stream.
    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        told = self._look_at(sample)
        loss, size, log = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        return loss, size, {**log, **told}

    def valid_step(self, sample, model, criterion):
        told = self._look_at(sample)
        with utils.set_torch_seed(self.seed_for(NEGATIVES)):  # whatever has been drawn before
            loss, size, log = super().valid_step(sample, model, criterion)
        return loss, size, {**log, **told, f"{sample['stream']}_loss": log["loss"]}

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log losses, and how much of the batches of all ranks was not used as it is."""
        for name in TOLD:
            value = sum(log.get(name, 0) for log in logging_outputs)
            if value:
                metrics.log_scalar_sum(name, value)
        losses = [{name: value for name, value in log.items() if name not in TOLD} for log in logging_outputs]
        super().reduce_metrics(losses, criterion)

    def score_names(self) -> List[str]:
        return [f"{STREAM_KINDS[name].stream}_loss" for name, _, _ in self.parts(False)]

    def _look_at(self, sample: Dict) -> Dict[str, int]:
        """Tell what of a batch could not be used, whatever process has met it; gives how much by the names of
        :data:`TOLD`.

        Raises:
            DataError: it is to be an error, or there is too much. UserError: there is not one row; or another rank has
                such a batch, whose training ends.
        """
        told, error = {}, None
        try:
            told = self._told(sample)
        except UserError as found:
            error = found
        if on_any_rank(error is not None):
            raise error or UserError("training ends: another rank has a batch that cannot be used, and says why")
        return told

    def _told(self, sample: Dict) -> Dict[str, int]:
        known = len(self.bad_records.known)
        self.bad_records.tell(sample["problems"])
        if not sample["nsentences"]:
            raise UserError(
                f"no record of a batch of --{sample['records'].replace('_', '-')} can be used: make batches larger, or "
                f"mend the records ({sample['problems'][0] if sample['problems'] else 'no box is shown'})"
            )
        return {**{name: sample[name] for name in TOLD[1:]}, "bad_records": len(self.bad_records.known) - known}


def given_kinds(cfg) -> List[str]:
    """The kinds of streams that training files are given of."""
    return [name for name in sorted(STREAM_KINDS) if getattr(cfg, name)]


def patches_a_row(model, shape: Optional[Tuple[int, int]]) -> int:
    """Patches a row and a column of an image, as the model's image tower has them; 0: they are in no square.

    Args:
        shape: of given features of an image; None: it takes pictures.
    """
    if shape is None:
        training, size = model.training, model.preprocess.size
        weight = next(model.parameters())
        with torch.no_grad():
            model.eval()
            states = model.encode_image(torch.zeros(1, 3, size, size, device=weight.device)).states
            model.train(training)
        shape = (states.shape[1] - 1,)
    side = math.isqrt(shape[0])
    return side if side**2 == shape[0] else 0
