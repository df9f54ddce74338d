"""Images of which parts are told (X-VLM, Zeng et al. 2022): boxes with captions."""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from mlvl_fairseq.data.streams.base import Item, Row, StreamKind, register_stream_kind
from mlvl_fairseq.data.streams.boxes import (
    WHOLE,
    Box,
    Cut,
    covered,
    draw_cut,
    goes_over,
    is_length,
    target,
    visible,
    within,
)
from mlvl_fairseq.data.streams.pictures import Picture, identity
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.data.streams.sides import tells_sides, tells_sides_as_published
from mlvl_fairseq.data.streams.texts import Caption, in_language
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.options import check_number

_ROWS_AN_IMAGE = 128 / 48  # published: batches of 128 rows from 48 images


@dataclass
class RegionOptions:
    regions: str = field(
        default="",
        metadata={
            "help": 'images with boxes, JSON lines {"binary" or "image": ..., "caption": (optional), "elems": [{"bb": '
            '[x, y, width, height] in pixels, "caption": {language: text} or a list of such, "attributes": '
            "(optional)}, ...]}, see --image-text"
        },
    )
    valid_regions: str = field(default="", metadata={"help": "the same for validation"})
    region_batch_size: int = field(
        default=0, metadata={"help": "rows a batch, of boxes and whole images; 0: --batch-size", "least": 0}
    )
    region_images: int = field(
        default=0,
        metadata={"help": "images a batch of rows is from; 0: three for eight rows, as published", "least": 0},
    )
    region_probability: float = field(
        default=0.5, metadata={"help": "probability that an iteration has a batch of rows of boxes, and no images"}
    )
    max_regions: int = field(default=5, metadata={"help": "rows of an image, at most", "least": 1})
    region_visible: float = field(
        default=0.5, metadata={"help": "boxes of which less is seen in the part of an image that is shown are left out"}
    )
    code_switch: bool = field(
        default=False, metadata={"help": "an attribute of a box may be in another language than its caption"}
    )
    no_careful_flip: bool = field(
        default=False, metadata={"help": "mirror images even if a caption tells a side, see --side-words"}
    )


@register_stream_kind
class Regions(StreamKind):
    """A row: a box, or the whole image, and its caption. An image gives several rows."""

    name, stream, batch = "regions", "region", "region_batch_size"
    options = RegionOptions
    needs_patches = repeats_rows = True

    @classmethod
    def share(cls, options) -> Optional[float]:
        return options.region_probability

    @classmethod
    def records_a_batch(cls, options, rows: int) -> int:
        return options.region_images or math.ceil(rows / _ROWS_AN_IMAGE)

    @classmethod
    def check(cls, options) -> None:
        check_number(options, "region_probability", 0, 1)
        check_number(options, "region_visible", 0, 1)

    def item(self, record: Record, generator: np.random.Generator) -> Item:
        tools, picture, item = self.tools, self.tools.pictures.of(record), Item()
        if picture.size is None:
            raise record.error("'width' and 'height' of its picture are missing, which boxes need", "width")
        elements = self._elements(record, picture.size, item)
        cut = self._cut(record, picture, [box for _, _, box in elements], generator)
        rows = self._rows(record, picture, elements, cut, generator, item.problems)
        item.rows = rows
        if rows:
            item.image = tools.shown(picture, cut, generator)
        elif not item.problems:
            raise record.error("has no caption and no box that can be used", "elems")
        return item

    def _elements(self, record: Record, size: Tuple[int, int], item: Item) -> List[Tuple[int, Dict[str, Any], Box]]:
        """Number, content and box of each element that has one inside the picture. What has none, and what goes over
        the edge, is noted in `item`."""
        found, problems, given = [], item.problems, record.fields.get("elems") or []
        if not isinstance(given, list):
            raise record.error("is no list", "elems")
        for number, element in enumerate(given):
            place = f"elems[{number}].bb"
            box = element.get("bb") if isinstance(element, dict) else None
            if not isinstance(box, list) or len(box) != 4 or not all(map(is_length, box)):
                problems.append(str(record.error("is not [x, y, width, height]", place)))
                continue
            box = Box(*(map(int, box) if self.tools.form == "reference" else box))
            inside = within(box, *size)
            item.clipped_boxes += inside is not None and goes_over(box, *size)
            if inside is None:
                message = f"{list(box)} is outside its picture of {size[0]:g} x {size[1]:g}, or empty"
                problems.append(str(record.error(message, place)))
            else:
                found.append((number, element, inside))
        return found

    def _cut(self, record: Record, picture: Picture, boxes: List[Box], generator: np.random.Generator) -> Cut:
        """What is shown of an image: in training a part with a whole box in it, perhaps mirrored; else all."""
        whole, augmentation = Cut(0, 0, *map(math.ceil, picture.size)), self.tools.augmentation
        if augmentation is None or isinstance(picture.content, torch.Tensor):
            return whole
        cut = draw_cut(boxes[int(generator.integers(len(boxes)))], picture.size, generator) if boxes else whole
        mirrored = bool(generator.random() < augmentation.flip)
        return cut._replace(mirrored=mirrored and not self._keeps_sides(record))

    def _keeps_sides(self, record: Record) -> bool:
        options = self.tools.options
        if options.no_careful_flip:
            return False
        elements = [element for element in record.fields.get("elems") or [] if isinstance(element, dict)]
        captions = [record.fields.get("caption"), *(element.get("caption") for element in elements)]
        if self.tools.form == "reference":
            return tells_sides_as_published(caption for caption in captions if caption)
        return tells_sides([*captions, *(element.get("attributes") for element in elements)], options)

    def _rows(self, record, picture: Picture, elements, cut: Cut, generator, problems: List[str]) -> List[Row]:
        """At most ``--max-regions``: of the whole image, then of boxes in random order."""
        options, rows = self.tools.options, []
        size = self.tools.transform.size if self.tools.transform else self.tools.side
        for make in self._candidates(record, picture, elements, cut, size, generator):
            if len(rows) == options.max_regions:
                break
            try:
                row = make()
            except DataError as error:
                problems.append(str(error))
                continue
            rows += [row] if row else []
        return rows

    def _candidates(self, record, picture, elements, cut, size, generator) -> Iterator:
        if record.fields.get("caption") is not None:
            yield lambda: self._whole(record, picture, generator)
        for place in generator.permutation(len(elements)):
            yield lambda place=place: self._box(record, picture, *elements[place], cut, size, generator)

    def _whole(self, record: Record, picture: Picture, generator) -> Row:
        caption = self.tools.texts.choose(record.fields["caption"], generator, record, "caption")
        every = torch.ones(self.tools.side**2, dtype=torch.bool)
        box = Box(0, 0, *picture.size)
        return self._row(record, "caption", caption.text, picture, box, generator, WHOLE, every, whole=True)

    def _box(self, record, picture, number, element, box, cut, size, generator) -> Optional[Row]:
        """None: too little of it is seen."""
        share, seen = visible(box, cut, size)
        if share <= self.tools.options.region_visible:
            return None
        place = f"elems[{number}].caption"
        if element.get("caption") is None:
            raise record.error("is missing", place)
        caption = self.tools.texts.choose(element["caption"], generator, record, place)
        text = self._with_attribute(record, number, element.get("attributes"), caption, generator)
        patches = covered(seen, size / self.tools.side, self.tools.side)
        return self._row(record, place, text, picture, box, generator, target(seen, size), patches)

    def _with_attribute(self, record: Record, number: int, attributes: Any, caption: Caption, generator) -> str:
        """An attribute before a caption: in its language, or with ``--code-switch`` in any."""
        if isinstance(attributes, list):
            attributes = attributes[int(generator.integers(len(attributes)))] if attributes else None
        if not attributes:
            return caption.text
        if self.tools.options.code_switch:
            attribute = self.tools.texts.any_of(attributes, generator, record, f"elems[{number}].attributes")
            if self.tools.form == "reference":
                attribute = attribute[:1]  # published: the first letter only
        else:
            attribute = in_language(attributes, caption.language)
            if not isinstance(attributes, (str, dict)) or not isinstance(attribute, (str, type(None))):
                raise record.error("is no text and no {language: text}", f"elems[{number}].attributes")
        return f"{attribute} {caption.text}" if attribute else caption.text

    def _row(self, record, place, text, picture, box, generator, where, patches, whole=False) -> Row:
        tokens = self.tools.texts.ids(text, self.tools.options.max_length, record, place)
        same = identity(picture.identity, tuple(map(float, box)))
        masked = self.tools.mask(tokens, generator)
        return Row(tokens, masked, same, box=where, whole=whole, patches=patches)
