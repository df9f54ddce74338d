"""Sentences and their translations."""

from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from mlvl_fairseq.data.streams.base import Item, Row, StreamKind, register_stream_kind
from mlvl_fairseq.data.streams.pictures import identity
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.options import check_number


@dataclass
class ParallelTextOptions:
    parallel_text: str = field(
        default="",
        metadata={
            "help": 'sentences with translations, JSON lines {"source_text": text, "target_text": text}, see '
            "--image-text"
        },
    )
    valid_parallel_text: str = field(default="", metadata={"help": "the same for validation"})
    text_batch_size: int = field(default=0, metadata={"help": "sentence pairs a batch; 0: --batch-size", "least": 0})
    text_probability: float = field(
        default=1.0, metadata={"help": "probability of a batch of sentence pairs in an iteration"}
    )
    text_max_length: int = field(
        default=64, metadata={"help": "cut sentences to this many tokens, <s> and </s> included", "least": 3}
    )
    text_max_masks: int = field(default=20, metadata={"help": "mask at most so many tokens of a sentence", "least": 1})
    tlm: bool = field(
        default=False,
        metadata={
            "help": "mask both sentences, read as one text, and match nothing (TLM, Conneau and Lample 2019, the "
            "ablation of CCLM). Published with 51 for --text-max-masks"
        },
    )
    source_key: str = field(default="source_text", metadata={"help": "field of a pair with the one sentence"})
    target_key: str = field(default="target_text", metadata={"help": "field of a pair with the other"})


@register_stream_kind
class ParallelText(StreamKind):
    """A row: a pair, one of which, drawn by a coin, is the other's view. Masked is the view, which is told beside the
    other; with ``--tlm`` both are, the view before the other."""

    name, stream, batch = "parallel_text", "text", "text_batch_size"
    options = ParallelTextOptions
    is_main, turn = False, 0

    @classmethod
    def share(cls, options) -> Optional[float]:
        return options.text_probability

    @classmethod
    def longest_text(cls, options) -> int:
        return options.text_max_length * (2 if options.tlm else 1)

    @classmethod
    def length_option(cls, options) -> str:
        return "--tlm, twice --text-max-length:" if options.tlm else "--text-max-length"

    @classmethod
    def check(cls, options) -> None:
        check_number(options, "text_probability", 0, 1)

    def item(self, record: Record, generator: np.random.Generator) -> Item:
        tools, options = self.tools, self.tools.options
        fields = [options.source_key, options.target_key]
        if generator.random() < 0.5:
            fields.reverse()
        view, tokens = [tools.texts.ids(record.text(field), options.text_max_length, record, field) for field in fields]
        masked = tools.mask([*view, *tokens[1:]] if options.tlm else view, generator, options.text_max_masks)
        same = identity(*sorted(map(record.text, fields)))
        return Item([Row(tokens, masked, same, view=view, masks_both=options.tlm)])
