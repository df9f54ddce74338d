"""Which records make up which batch: an epoch as a list of batches, a function of seed and epoch.

All ranks are on one stream at a time: batches of a stream come in groups of as many as there are ranks, which fairseq
deals out one after the other.
"""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np

from mlvl_fairseq.data.sampling import of_rounds
from mlvl_fairseq.errors import UserError

# A place in a batch is one number: epoch, stream and record. What is drawn depends on it alone, so that it does not
# matter which process reads a record.
_RECORD_BITS, _STREAM_BITS = 38, 5
_TURNS = 1 << _STREAM_BITS  # draws of their own, beside those of the streams


def places(epoch: int, stream: int, records: np.ndarray) -> np.ndarray:
    """int64 numbers of records of a stream as an epoch draws from them."""
    return (((epoch << _STREAM_BITS) + stream) << _RECORD_BITS) + np.asarray(records, np.int64)


def epoch_stream_record(place: int) -> tuple:
    """What :func:`places` made a number of."""
    rest, record = divmod(int(place), 1 << _RECORD_BITS)
    return (*divmod(rest, 1 << _STREAM_BITS), record)


@dataclass(frozen=True)
class StreamOrder:
    """What an order knows of a stream.

    Attributes:
        name: for messages. number: of the stream. records: int64, those that take part. batch: records a batch.
        share: probability of a batch in an iteration; None: whenever no other main stream has one.
        is_main: whether it takes turns with the other main ones.
    """

    name: str
    number: int
    records: np.ndarray
    batch: int
    share: Optional[float]
    is_main: bool


class TrainingOrder:
    """Batches of training (Zeng et al. 2023, section 4.1): an iteration has one batch of each stream beside the main
    one, each with its probability, then one of a main stream. Streams are gone through again and again: none of the
    records comes again before all have come, and where an epoch ends the next one goes on.

    Args:
        streams: in the order of an iteration, the main ones last.
        ranks: how many there are. seed: of the run.
        epoch_records: of the leading stream an epoch; 0: all of it.
        whole_batches: whether an epoch ends before its last batch, if that is not full (else after it, with records of
            the next round).
        updates: batches an update is made of.

    Attributes:
        iterations: of an epoch. left: records of the leading stream that an epoch leaves to the next one.

    Raises:
        UserError: there is not one full batch, or updates would mix batches of several iterations.
    """

    def __init__(
        self,
        streams: Sequence[StreamOrder],
        ranks: int,
        seed: int,
        epoch_records: int = 0,
        whole_batches: bool = True,
        updates: int = 1,
    ):
        self.aside = [stream for stream in streams if not stream.is_main]
        self.main = [stream for stream in streams if stream.is_main]
        self.streams, self.ranks, self.seed = [*self.aside, *self.main], ranks, seed
        leading = self.leading
        size, batch = epoch_records or len(leading.records), leading.batch * ranks
        self.iterations = iterations_of(size, batch, whole_batches)
        self.left = max(0, size - self.iterations * batch)
        if not self.iterations:
            raise UserError(
                f"{leading.name}: {size:,} records are no batch of {leading.batch} on each of {ranks} ranks: make "
                "batches smaller"
            )
        self._require_whole_updates(updates)

    @property
    def leading(self) -> StreamOrder:
        """The stream whose size is an epoch's: the main one that fills up, or what there is."""
        return next((stream for stream in self.main if stream.share is None), (*self.main, *self.aside)[0])

    def _require_whole_updates(self, updates: int) -> None:
        certain = all(stream.share in (None, 1) for stream in self.aside)
        number = len(self.aside) + bool(self.main)
        if updates > 1 and not (certain and updates == number):
            of = f"{number} batches" if certain else "more batches at one time than at another"
            raise UserError(
                f"--update-freq {updates}: an iteration has {of}, and an update would mix those of several: give 1"
                + (f" or {number}, and one update is made of all" if certain and number > 1 else "")
            )

    def turns(self, epoch: int) -> np.ndarray:
        """bool [streams, iterations]: which streams have a batch in which iteration."""
        drawn = np.random.default_rng([self.seed, _TURNS, epoch]).random((len(self.streams), self.iterations))
        turns = np.zeros(drawn.shape, bool)
        free = np.ones(self.iterations, bool)
        rows = {stream.number: row for row, stream in enumerate(self.streams)}
        for stream in self.aside:
            turns[rows[stream.number]] = drawn[rows[stream.number]] < (1 if stream.share is None else stream.share)
        sharing = [stream for stream in self.main if stream.share is not None and len(self.main) > 1]
        for stream in sharing:
            turns[rows[stream.number]] = free & (drawn[rows[stream.number]] < stream.share)
            free &= ~turns[rows[stream.number]]
        for stream in self.main:
            if stream not in sharing:
                turns[rows[stream.number]] = free
        return turns

    def batches(self, epoch: int) -> List[np.ndarray]:
        """:func:`places` of each batch, the batches of an iteration's stream for all ranks one after the other."""
        turns = self.turns(epoch)
        before = sum((self.turns(earlier).sum(1) for earlier in range(1, epoch)), np.zeros(len(self.streams), int))
        parts = []
        for row, stream in enumerate(self.streams):
            if not turns[row].any():
                parts.append(iter(()))
                continue
            first, size = int(before[row]), self.ranks * stream.batch
            numbers = np.arange(first * size, (first + int(turns[row].sum())) * size)
            drawn = stream.records[of_rounds(len(stream.records), numbers, [self.seed, stream.number])]
            parts.append(iter(places(epoch, stream.number, drawn).reshape(-1, stream.batch)))
        rows = (row for iteration in turns.T for row in np.flatnonzero(iteration))
        return [next(parts[row]) for row in rows for _ in range(self.ranks)]


class ValidationOrder:
    """Every record once, one stream after the other. The last batches of a stream are made even, so that all ranks have
    one.

    Attributes:
        left: by stream, records that cannot be dealt out to all ranks.
    """

    def __init__(self, streams: Sequence[StreamOrder], ranks: int):
        self.streams, self.ranks = list(streams), ranks
        few = {stream.name: len(stream.records) % (stream.batch * ranks) for stream in self.streams}
        self.left = {name: rest for name, rest in few.items() if rest < ranks and rest}

    def batches(self, epoch: int) -> List[np.ndarray]:
        """As :meth:`TrainingOrder.batches`; the same in every epoch."""
        found = []
        for stream in self.streams:
            size = stream.batch * self.ranks
            for start in range(0, len(stream.records), size):
                part = places(0, stream.number, stream.records[start : start + size])
                found += np.array_split(part, self.ranks) if len(part) >= self.ranks else []
        return found


def iterations_of(records: int, batch: int, whole_batches: bool = True) -> int:
    """Batches of an epoch; `whole_batches`: whether one that is not full is none (published: it is one)."""
    return records // batch if whole_batches else -(-records // batch)
