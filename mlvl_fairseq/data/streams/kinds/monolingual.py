"""Images with captions in one language (published as "not debugged yet")."""

from dataclasses import dataclass, field
from typing import Optional

from mlvl_fairseq.data.streams.base import register_stream_kind
from mlvl_fairseq.data.streams.kinds.image_text import ImageText
from mlvl_fairseq.options import check_number


@dataclass
class MonolingualOptions:
    monolingual: str = field(
        default="",
        metadata={
            "help": 'images with captions in one language, JSON lines {"binary" or "image": ..., "desc": text or '
            "[text, ...]}, see --image-text"
        },
    )
    valid_monolingual: str = field(default="", metadata={"help": "the same for validation"})
    mono_batch_size: int = field(default=0, metadata={"help": "such images a batch; 0: --batch-size", "least": 0})
    mono_probability: float = field(
        default=1.0, metadata={"help": "probability of a batch of such images in an iteration"}
    )


@register_stream_kind
class Monolingual(ImageText):
    """A row: an image and one of its captions."""

    name, stream, batch = "monolingual", "mono", "mono_batch_size"
    options = MonolingualOptions
    caption_field = "desc"
    is_main, turn = False, 1

    @classmethod
    def share(cls, options) -> Optional[float]:
        return options.mono_probability

    @classmethod
    def check(cls, options) -> None:
        check_number(options, "mono_probability", 0, 1)
