"""The memory of replay: which captions of earlier languages are kept, and batches drawn from them.

It holds places in the corpus (language, caption), and where a method asks for it the student's features: kilobytes,
where texts and the teacher's features would take gigabytes. Captions are cut with the vocabulary as it is now, like
those in evaluation. What is done with a batch of the memory is a method's to say: ``continual/plugins``.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable, Dict, Optional, Tuple

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
from mlvl_fairseq.process.threads import one_thread

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
        self._seen = self._draws = 0  # what the buffers count: to ask them would be to wait for their device

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
        self.task, self._seen, self._draws = task, int(self.seen), int(self.draws)
        self.captions = MemoryCaptions(task, self.items.cpu().numpy()) if len(self.items) else None
        self._coming = _Ahead(self._collated) if len(self.items) else None
        self._permutations: Dict[int, np.ndarray] = {}

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
        number, device = self.cfg.replay_batch_size or sample["nsentences"], sample["id"].device
        start, step = self._next_place(number, "counts" not in sample)
        batch = self._coming.get((start, number), (start + step, number))
        batch = fairseq_utils.apply_to_sample(lambda tensor: tensor.to(device, non_blocking=True), batch)
        rows = batch.pop("rows")
        if self.keeps_features:
            batch["student_features"] = self.labels[rows]
        return {**batch, "image_features": batch["image_features"].to(sample["image_features"])}

    def _next_place(self, number: int, counts: bool) -> Tuple[int, int]:
        """Where the rows of this rank's batch begin in an endless row of permutations of the memory that is common to
        all ranks, and how far from there the next ones do; a rank whose batch does not count takes nothing."""
        numbers = gather_values([number if counts else 0])  # in an epoch's last step, ranks may have fewer than others
        start = self._draws * sum(numbers) + sum(numbers[: self.task.rank])
        self.draws += 1
        self._draws += 1
        return start, sum(numbers)

    def _collated(self, start: int, number: int) -> Dict:
        """The captions at these places of the endless row, and ``rows``, int64 [number], of the memory."""
        cycles, offsets = np.divmod(np.arange(start, start + number), len(self.items))
        known = {c: self._permutations.get(c) for c in np.unique(cycles).tolist()}
        self._permutations = {c: self._permutation(c) if order is None else order for c, order in known.items()}
        rows = np.empty(number, np.int64)
        for cycle, order in self._permutations.items():
            rows[cycles == cycle] = order[offsets[cycles == cycle]]
        return {**self.captions.batch(rows), "rows": torch.from_numpy(rows)}

    def _permutation(self, cycle: int) -> np.ndarray:
        return np.random.default_rng([self.seed, self.position, cycle]).permutation(len(self.items))

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
        counted = slice(0 if "counts" in sample else None)
        ids = gather_with_grad(sample["id"][counted])
        labels = ids.new_zeros(len(ids), 0)
        if self.keeps_features:
            labels = gather_with_grad(sample["text_output"][counted].float())
        items = torch.stack([torch.full_like(ids, self.position), ids], dim=1)
        self.selection.offer(self, items, labels.to(self.labels.dtype), self._seen)
        self.seen += len(ids)
        self._seen += len(ids)


class _Ahead:
    """A function of some arguments, computed in another thread before it is asked for.

    The next call is only guessed: what is guessed wrong is computed when it is asked for, and is the same then.
    """

    def __init__(self, function: Callable):
        self._function, self._thread = function, ThreadPoolExecutor(1, initializer=one_thread)
        self._arguments: Tuple = ()
        self._result: Optional[Future] = None

    def get(self, arguments: Tuple, coming: Tuple):
        """The result for these arguments; those for `coming` are begun with."""
        if self._result is None or self._arguments != arguments:
            self._begin(arguments)
        result = self._result.result()
        self._begin(coming)
        return result

    def _begin(self, arguments: Tuple) -> None:
        self._arguments, self._result = arguments, self._thread.submit(self._function, *arguments)
