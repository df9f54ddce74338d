"""Streams as one data set of fairseq, each batch of which is of one stream."""

from dataclasses import dataclass
from typing import Dict, List, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mlvl_fairseq.data.drawn_dataset import DrawnDataset
from mlvl_fairseq.data.streams.base import Item, Row, StreamKind
from mlvl_fairseq.data.streams.order import epoch_stream_record
from mlvl_fairseq.data.streams.pictures import identity
from mlvl_fairseq.data.streams.records import Records
from mlvl_fairseq.errors import DataError

NO_LABEL = -100  # of positions that are not real


@dataclass(frozen=True)
class Stream:
    """What a data set reads of a kind.

    Attributes:
        kind: makes rows. number: of the stream. records: all of its files. rows: of a batch, at most.
    """

    kind: StreamKind
    number: int
    records: Records
    rows: int


@dataclass(frozen=True)
class PlacedItem:
    """What a batch is made of: an item and the place (:func:`~mlvl_fairseq.data.streams.order.places`) it is at."""

    place: int
    item: Item


class StreamsDataset(DrawnDataset):
    """Place -> what its record gives, drawn by a generator that the place alone seeds.

    Args:
        streams: of one split. pad: id of padding. seed: of what is drawn.
        form: ``fixed``, or ``reference``: batches of regions have exactly as many rows as they are to have, some twice
            where there are too few; and no two rows are taken to show the same thing.
    """

    def __init__(self, streams: Sequence[Stream], pad: int, seed: int, form: str = "fixed"):
        self.streams = {stream.number: stream for stream in streams}
        self.pad, self.seed, self.form = pad, seed, form

    def __len__(self) -> int:
        return sum(len(stream.records) for stream in self.streams.values())

    def __getitem__(self, place: int) -> PlacedItem:
        _, number, record = epoch_stream_record(place)
        stream = self.streams[number]
        try:
            return PlacedItem(int(place), stream.kind.item(stream.records[record], self._generator(place)))
        except DataError as error:  # whoever trains decides about it; raised in a worker it would come as a traceback
            return PlacedItem(int(place), Item(problems=[str(error)]))

    def _generator(self, place: int, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *epoch_stream_record(place), *more])

    def collater(self, samples: List[PlacedItem]) -> Dict:
        """A batch, as the task's documentation has it; without a row, where no record can be used."""
        if not samples:
            return {}
        stream = self.streams[epoch_stream_record(samples[0].place)[1]]
        rows = [(number, row) for number, sample in enumerate(samples) for row in sample.item.rows]
        chosen = self._choose(rows, stream, samples[0].place)
        batch = {
            "id": torch.tensor([samples[number].place for number, _ in chosen], dtype=torch.long),
            "nsentences": len(chosen),
            "ntokens": sum(len(row.tokens) for _, row in chosen),
            "stream": stream.kind.stream,
            "records": stream.kind.name,
            "problems": [problem for sample in samples for problem in sample.item.problems],
            "unused_rows": max(0, len(rows) - stream.rows),
            "absent_rows": max(0, stream.rows - len(rows)),
            "clipped_boxes": sum(sample.item.clipped_boxes for sample in samples),
        }
        return {**batch, **self._inputs(samples, chosen)} if chosen else batch

    def _choose(self, rows: List[tuple], stream: Stream, place: int) -> List[tuple]:
        """At most so many of the rows as a batch has, in the order of images; as published exactly so many."""
        size, generator = stream.rows, self._generator(place, len(rows))
        if len(rows) > size:
            return [rows[i] for i in np.sort(generator.choice(len(rows), size, replace=False))]
        if self.form == "reference" and stream.kind.repeats_rows and rows:
            return rows + [rows[i] for i in np.sort(generator.integers(len(rows), size=size - len(rows)))]
        return rows

    def _inputs(self, samples: List[PlacedItem], chosen: List[tuple]) -> Dict:
        rows: List[Row] = [row for _, row in chosen]
        net_input = {
            **self._padded("", [row.tokens for row in rows]),
            **self._padded("masked_", [row.masked.tokens for row in rows]),
            "ids": self._ids(samples, chosen),
            "masked_positions": _stacked([row.masked.positions for row in rows], 0),
        }
        labels = _stacked([row.masked.labels for row in rows], NO_LABEL)
        places = torch.from_numpy(np.flatnonzero(labels.numpy() != NO_LABEL))
        batch = {"net_input": net_input, "masked_ids": labels, "masked_places": places}
        if not rows[0].masks_both:  # they end where those without masks do
            del net_input["masked_eos_positions"]
        if rows[0].view is not None:
            net_input.update(self._padded("view_", [row.view for row in rows]))
            return batch
        if rows[0].second is not None:
            net_input.update(self._padded("second_", [row.second for row in rows]))
        shown = sorted({number for number, _ in chosen})
        net_input["images"] = torch.stack([samples[number].item.image for number in shown])
        if rows[0].box is not None:
            net_input["image_of"] = torch.tensor([shown.index(number) for number, _ in chosen])
            net_input["patches"] = torch.stack([row.patches for row in rows])
            batch["boxes"] = torch.tensor([row.box for row in rows], dtype=torch.float32)
            batch["whole"] = torch.tensor([row.whole for row in rows])
        return batch

    def _ids(self, samples: List[PlacedItem], chosen: List[tuple]) -> Tensor:
        """int64 [rows]: equal for rows that show the same thing, in whichever batch; as published for none."""
        if self.form == "reference":
            own = [identity(samples[number].place, position) for position, (number, _) in enumerate(chosen)]
        else:
            own = [row.identity for _, row in chosen]
        return torch.tensor(own, dtype=torch.long)

    def _padded(self, name: str, texts: Sequence) -> Dict:
        """Ids of texts [rows, longest], where each ends [rows], and as an array how long each is [rows]."""
        lengths = np.array([len(text) for text in texts])
        given = {
            "tokens": _stacked(texts, self.pad),
            "eos_positions": torch.from_numpy(lengths - 1),
            "lengths": lengths,
        }
        return {name + part: value for part, value in given.items()}


def _stacked(numbers: Sequence, fill: int) -> Tensor:
    """int64 [rows, longest]."""
    parts = [torch.as_tensor(np.asarray(part, np.int64)) for part in numbers]
    return pad_sequence(parts, batch_first=True, padding_value=fill)
