"""Images with captions in several languages."""

from dataclasses import dataclass, field

import numpy as np

from mlvl_fairseq.data.streams.base import Item, Row, StreamKind, register_stream_kind
from mlvl_fairseq.data.streams.pictures import identity
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.data.streams.sides import tells_sides

CAPTION = "caption"


@dataclass
class ImageTextOptions:
    image_text: str = field(
        default="",
        metadata={
            "help": "images with captions: files, folders and patterns, separated by commas, of JSON lines "
            '{"binary": base64 or "image": name, "caption": {language: text} or [{language: text}, ...]}; or tar '
            "archives"
        },
    )
    valid_image_text: str = field(default="", metadata={"help": "the same for validation"})
    image_batch_size: int = field(default=0, metadata={"help": "images a batch; 0: --batch-size", "least": 0})
    two_captions: bool = field(
        default=False, metadata={"help": "give two captions of each image, in two languages, which are contrasted, too"}
    )


@register_stream_kind
class ImageText(StreamKind):
    """A row: an image and one of its captions; with ``--two-captions`` in two languages."""

    name, stream, batch = "image_text", "image", "image_batch_size"
    options = ImageTextOptions
    caption_field = CAPTION

    def item(self, record: Record, generator: np.random.Generator) -> Item:
        tools, value = self.tools, record.get(self.caption_field)
        two = tools.options.two_captions and self.caption_field == CAPTION
        choose = tools.texts.choose_two if two else lambda *args: [tools.texts.choose(*args)]
        captions = choose(value, generator, record, self.caption_field)
        tokens, *second = [
            tools.texts.ids(caption.text, tools.options.max_length, record, self.caption_field) for caption in captions
        ]
        masked = tools.mask(tokens, generator)
        picture = tools.pictures.of(record)
        mirrors = not tells_sides([value], tools.options) or tools.form == "reference"
        row = Row(tokens, masked, identity(picture.identity), second=second[0] if second else None)
        return Item([row], tools.image(picture, generator, mirrors))
