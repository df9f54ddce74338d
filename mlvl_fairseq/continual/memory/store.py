"""The memory of replay: which captions of earlier languages are kept, and batches drawn from them.

It holds places in the corpus (language, caption), and where a method asks for it the student's features: kilobytes,
where texts and the teacher's features would take gigabytes. Captions are cut with the vocabulary as it is now, like
those in evaluation. What is done with a batch of the memory is a method's to say: ``continual/plugins``.
"""

from dataclasses import dataclass, field
from typing import Dict, Optional

import numpy as np
import torch
from fairseq import utils as fairseq_utils
from fairseq.dataclass import ChoiceEnum
from torch import Tensor

from mlvl_fairseq.continual.memory import SELECTIONS, Selection
from mlvl_fairseq.continual.memory.captions import MemoryCaptions
from mlvl_fairseq.continual.plugin import PLUGINS, ContinualPlugin, register_plugin
from mlvl_fairseq.distributed import gather_values, gather_with_grad
from mlvl_fairseq.errors import UserError

BATCH = 256  # captions at once where only features are computed


@dataclass
class MemoryOptions:
    memory_size: int = field(default=0, metadata={"help": "captions of earlier languages kept for replay; 0: off"})
    memory_selection: ChoiceEnum(list(SELECTIONS)) = field(
        default="reservoir", metadata={"help": "; ".join(f"{name}: {s.about}" for name, s in SELECTIONS.items())}
    )
    memory_label: ChoiceEnum(["teacher", "student"]) = field(
        default="teacher",
        metadata={
            "help": "what the memory has beside a caption: the teacher's English features (ER), or the student's own "
            "features when the caption came into the memory (DER)"
        },
    )
    memory_every_epoch: bool = field(
        default=False,
        metadata={
            "help": "offer captions to the reservoir in every epoch, as published; they then are in it several times. "
            "Default: in the first one"
        },
    )
    memory_counts_as_use: bool = field(
        default=False,
        metadata={"help": "replaying a token raises its frequency f in TEIR, as published. Default: learning it does"},
    )
    replay_method: str = field(
        default="auto",
        metadata={
            "help": "what replayed captions are for: a method of docs/methods.md, e.g. derpp; auto: er, or with "
            "--memory-label student der"
        },
    )
    replay_scale: float = field(default=1.0, metadata={"help": "weight of the loss on replayed captions"})
    replay_batch_size: int = field(
        default=0, metadata={"help": "replayed captions beside every batch; 0: as many as the batch has"}
    )


@register_plugin("replay", MemoryOptions)
class Memory(ContinualPlugin):
    """The one memory of a run. What is drawn from it is the memory as the previous language left it; what this language
    adds is gathered beside it. All ranks keep the same memory: each draws its share of one common draw, and what enters
    is gathered from all.

    Buffers, one row an entry: ``items`` int64 [M, 2] (place of the language in the order, caption) and ``labels``
    float32 [M, D] (with ``--memory-label student``, else [M, 0]) are drawn from; ``next_items`` and ``next_labels`` are
    being gathered; ``seen`` counts the captions that were offered, ``draws`` the batches drawn.

    Raises:
        UserError: there is no such ``--replay-method``.
    """

    switches = {"memory_size": 0}

    needs_all_rows = True  # replayed captions use rows that the current language does not

    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        methods = sorted(plugin.name for plugin in PLUGINS.values() if plugin.family == self.name != plugin.name)
        if str(cfg.replay_method) not in ("auto", *methods):
            raise UserError(f"no --replay-method {cfg.replay_method}; there are: auto, {', '.join(methods)}")
        self.selection: Selection = SELECTIONS[str(cfg.memory_selection)](cfg.memory_size, task.seed_for(10_000))
        width = task.embed_dim if self.keeps_features else 0
        for name in ("", "next_"):
            self.register_buffer(f"{name}items", torch.zeros(0, 2, dtype=torch.int64))
            self.register_buffer(f"{name}labels", torch.zeros(0, width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        self.position, self.seed = task.position, task.seed_for(20_000)
        self.captions: Optional[MemoryCaptions] = None

    @property
    def keeps_features(self) -> bool:
        return str(self.cfg.memory_label) == "student"

    def begin_language(self, task, model) -> None:
        """What the previous language gathered is replayed from now on."""
        self.next_items, self.next_labels = self.selection.at_the_end(self, task, model)
        self.items, self.labels = self.next_items.clone(), self.next_labels.clone()
        if self.cfg.memory_counts_as_use:
            self.begin_run(task, model)
            model.language_state.current_tokens += self.current_tokens().to(model.language_state.current_tokens)

    def begin_run(self, task, model) -> None:
        self.task = task
        self.captions = MemoryCaptions(task, self.items.cpu().numpy()) if len(self.items) else None

    def current_tokens(self) -> Tensor:
        if self.captions is None:
            return torch.tensor(0)
        return torch.from_numpy(self.captions.languages_of_tokens())

    def draw(self, sample: Dict) -> Optional[Dict]:
        """The next batch of the memory for this rank, as :class:`CaptionDataset` collates it, on `sample`'s device.

        Args:
            sample: a batch of the current language, of which the memory's has the size (or ``--replay-batch-size``).

        Returns:
            ``net_input``, ``image_ids``, ``image_features``, ``text_features`` (the teacher's), ``nsentences``,
            ``ntokens``, and with ``--memory-label student`` ``student_features`` float32 [n, D], the student's own
            features when the captions came into the memory. None: the memory is empty, as in the first language.
        """
        if self.captions is None:
            return None
        rows = self._next_rows(self.cfg.replay_batch_size or sample["nsentences"], "counts" not in sample)
        batch = self.captions.batch(rows)
        if self.keeps_features:
            batch["student_features"] = self.labels[rows]
        device = sample["id"].device
        batch = fairseq_utils.apply_to_sample(lambda tensor: tensor.to(device), batch)
        return {**batch, "image_features": batch["image_features"].to(sample["image_features"])}

    def _next_rows(self, number: int, counts: bool) -> np.ndarray:
        """Rows of the memory for this rank's batch, from a permutation of the memory that is common to all ranks; a
        rank whose batch does not count takes nothing from it."""
        numbers = gather_values([number if counts else 0])  # in an epoch's last step, ranks may have fewer than others
        start = int(self.draws) * sum(numbers) + sum(numbers[: self.task.rank])
        self.draws += 1
        places = np.arange(start, start + number)
        cycles, offsets = np.divmod(places, len(self.items))
        orders = {c: np.random.default_rng([self.seed, self.position, c]) for c in np.unique(cycles)}
        permutations = {c: generator.permutation(len(self.items)) for c, generator in orders.items()}
        return np.array([permutations[c][offset] for c, offset in zip(cycles, offsets)])

    def label(self, task, model, rows: np.ndarray) -> Tensor:
        """Labels of captions of the previous language, float [rows, D or 0]."""
        return self.student_features(task, model, rows) if self.keeps_features else self.labels.new_zeros(len(rows), 0)

    @torch.no_grad()
    def student_features(self, task, model, rows: np.ndarray) -> Tensor:
        """float32 [rows, D] of captions of the previous language, as it has handed its weights over."""
        was_training = model.training
        model.eval()
        batches = task.previous_batches(model, BATCH, "features for the memory", rows, shared=False)
        features = [model(**sample["net_input"])["text"].float() for sample in batches]
        model.train(was_training)
        return torch.cat(features)

    def after_backward(self, sample: Dict) -> None:
        """Offer the batch's captions, of all ranks, to the memory."""
        if not (self.cfg.memory_every_epoch or self.task.is_first_epoch):
            return
        counted = sample.get("counts", slice(None))
        ids = gather_with_grad(sample["id"][counted])
        labels = ids.new_zeros(len(ids), 0)
        if self.keeps_features:
            labels = gather_with_grad(sample["text_output"][counted].float())
        items = torch.stack([torch.full_like(ids, self.position), ids], dim=1)
        self.selection.offer(self, items, labels.to(self.labels.dtype))
        self.seen += len(ids)
