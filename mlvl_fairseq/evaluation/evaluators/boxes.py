"""Where in its picture is what a text says? Boxes of a model with a head for them, such as CCLM."""

import logging
import os
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from torch.utils.data import Dataset

from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.data.images.reading import LoadedImage, as_pixels
from mlvl_fairseq.data.images.transforms import ImageTransform, reading_of
from mlvl_fairseq.data.streams.boxes import Box, Cut, target, visible
from mlvl_fairseq.data.streams.pictures import Pictures, PictureSourceOptions
from mlvl_fairseq.data.streams.records import Record, Records
from mlvl_fairseq.data.streams.texts import in_language
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    PICTURES,
    Evaluator,
    ImageFeatures,
    LeftOut,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.metrics.boxes import METRICS, box_scores
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.inference.matching import MEMORY, ImageStates

logger = logging.getLogger(__name__)
_IMAGES = "images"


@dataclass(kw_only=True)
class BoxOptions(PictureOptions):
    regions: str = option(
        'JSON lines {"image": name or "binary": base64, "elems": [{"bb": [x, y, width, height] in pixels, "caption": '
        '{language: text} or a list of such, "attributes": (optional)}, ...]}',
        identity=None,
        metavar="FILE",
    )
    lang: List[str] = option("language of the captions, or several: en,de,fr", metavar="LIST", languages=True)
    split: str = option("name of the split, for the signature", "test")
    no_attributes: bool = option(
        "ask without the attributes of boxes; by default they stand before captions, as in training", False
    )
    index_folder: str = option("where the index of the file's lines is; by default beside it", "", identity=None)
    image_root: str = option(
        "folder of the pictures that lines name; by default they hold their pictures in base64",
        "",
        identity=lambda root: os.path.abspath(root) if root else None,
        metavar="DIR",
        group=_IMAGES,
    )
    batch_size: int = option("images a batch, and texts", 64, identity=None, least=1, group=_IMAGES)
    num_workers: int = option("processes that read images", 0, identity=None, least=0, group=_IMAGES)
    memory: int = option(
        "MiB of states of images that are kept; images beyond are encoded once more for each language",
        MEMORY,
        identity=None,
        metavar="MIB",
        least=1,
        group=_IMAGES,
    )


class Region(NamedTuple):
    """Attributes: image: ``file:line`` of its record. text: what is asked. box: in pixels."""

    image: str
    text: str
    box: Box


@dataclass(frozen=True)
class RegionTable:
    """Attributes: path: their file. regions: of one language."""

    path: str
    regions: List[Region]


@dataclass(frozen=True)
class ImagesToSearch(ImageFeatures):
    """Attributes: states: of all images. row: name -> row in it. sizes: name -> width and height in pixels."""

    states: ImageStates
    row: Dict[str, int]
    sizes: Dict[str, Tuple[int, int]]


class WholePictures(Dataset):
    """Pictures of records by row, squeezed into a square as in training on regions."""

    def __init__(self, pictures: Pictures, records: Sequence[Record], transform: ImageTransform):
        self.pictures, self.records, self.transform = pictures, records, transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> LoadedImage:
        from PIL import Image

        try:
            image = self.pictures.of(self.records[row]).content
        except DataError as error:
            return LoadedImage(None, str(error))
        size = (self.transform.size, self.transform.size)

        def squeezed(image: Image.Image) -> torch.Tensor:
            image = self.transform.prepared(image).convert("RGB")
            return self.transform(image.resize(size, resample=Image.Resampling.BICUBIC))

        return as_pixels(image, squeezed, name_of(self.records[row]))


@register_evaluator("boxes")
class Boxes(Evaluator):
    """Where in its picture is what a text says? Of a model with a head for boxes (CCLM, X-VLM).

    iou: intersection over union of the told box and the true one, the mean over texts; above_50: share of texts for
    which it is more than a half; both in %.
    """

    Options = BoxOptions
    metrics = METRICS
    keys = {
        "attributes": "'none': texts were asked without the attributes of their boxes",
        PICTURES: "how pictures of more than 8 bits were read, where it is not as CLIP's preprocessing does",
    }
    examples = """\
  mlvl-evaluate boxes --checkpoint cclm.pt --lang en,de --regions world/streams/test/regions.jsonl \\
      --image-root world/images
"""

    options: BoxOptions

    def read(self) -> Dict[str, RegionTable]:
        options = self.options
        source = PictureSourceOptions(image_root=options.image_root, high_bit_depth=options.high_bit_depth)
        self.pictures = Pictures(source)
        records = Records(options.regions, "--regions", options.index_folder)
        self.records = {name_of(record): record for record in map(records.__getitem__, range(len(records)))}
        return {lang: self._table(lang) for lang in options.lang}

    def _table(self, lang: str) -> RegionTable:
        found = [region for record in self.records.values() for region in self._regions(record, lang)]
        regions = [region for region in found if region is not None]
        if not regions:
            raise UserError(f"{self.options.regions}: no box has a text in '{lang}'")
        if len(regions) < len(found):
            message = "%s: %d of %d boxes have no text in '%s' and are left out"
            logger.warning(message, self.options.regions, len(found) - len(regions), len(found), lang)
        return RegionTable(self.options.regions, regions)

    def _regions(self, record: Record, lang: str) -> Iterator[Optional[Region]]:
        """None: a box without a text in the language. Raises DataError: one that is none."""
        elements = record.get("elems")
        if not isinstance(elements, list):
            raise record.error("is no list", "elems")
        for number, element in enumerate(elements):
            box = element.get("bb") if isinstance(element, dict) else None
            if not isinstance(box, list) or len(box) != 4 or not all(isinstance(edge, (int, float)) for edge in box):
                raise record.error("is not [x, y, width, height]", f"elems[{number}].bb")
            texts = self._texts(element, lang)
            yield from (Region(name_of(record), text, Box(*box)) for text in texts) if texts else [None]

    def _texts(self, element: Dict[str, Any], lang: str) -> List[str]:
        captions = element.get("caption")
        captions = captions if isinstance(captions, list) else [captions]
        texts = [text for text in (in_language(caption, lang) for caption in captions) if text]
        attributes = element.get("attributes")
        first = attributes[0] if isinstance(attributes, list) and attributes else attributes
        attribute = None if self.options.no_attributes else in_language(first, lang)
        return [f"{attribute} {text}" if attribute else text for text in texts]

    def fingerprint(self, data: RegionTable) -> str:
        images = self.images(data)
        row = {name: number for number, name in enumerate(images)}
        texts = [f"{' '.join(map(str, region.box))} {region.text}" for region in data.regions]
        shown = [name.rpartition(":")[2] for name in images]  # wherever the file is
        return data_fingerprint(shown, texts, [row[region.image] for region in data.regions])

    def source(self, data: RegionTable) -> str:
        return data.path

    def images(self, data: RegionTable) -> List[str]:
        return list(dict.fromkeys(region.image for region in data.regions))

    def without(self, data: RegionTable, images: Set[str]) -> Tuple[RegionTable, LeftOut]:
        left = [region for region in data.regions if region.image not in images]
        if not left:
            raise UserError(f"{data.path}: there is no box in a picture that can be used")
        gone = [name for name in self.images(data) if name in images]
        return replace(data, regions=left), LeftOut(gone, len(data.regions) - len(left))

    def encode_images(self, encoder: Encoder, names: List[str]) -> ImagesToSearch:
        if encoder.network.locate is None:
            raise UserError(f"{encoder.source}: this kind of model has no head for boxes")
        options, records = self.options, [self.records[name] for name in names]
        transform = replace(encoder.preprocess, high_bit_depth=options.high_bit_depth)
        dataset = WholePictures(self.pictures, records, transform)
        states = ImageStates(encoder, dataset, options.memory)
        features = encoder.encode_image_dataset(
            dataset,
            names,
            options.batch_size,
            options.num_workers,
            BadImagePolicy.of(options),
            options.regions,
            states.keep,
        )
        usable = ImageFeatures.usable(names, features, np.flatnonzero(~features.any(axis=1)), options.regions)
        sizes = {name: self.pictures.of(self.records[name]).size for name in usable.names}
        return ImagesToSearch(usable.names, usable.features, states, {n: row for row, n in enumerate(names)}, sizes)

    @torch.no_grad()
    def score(self, encoder: Encoder, lang: str, data: RegionTable, images: Optional[ImageFeatures]) -> Result:
        options, regions = self.options, data.regions
        true = np.array([self._target(region, images.sizes[region.image]) for region in regions])
        tokens = encoder.tokenize([region.text for region in regions], lang)
        found, pad = np.empty((len(regions), 4), np.float32), encoder.tokenizer.pad
        for start in range(0, len(regions), options.batch_size):
            rows = range(start, min(start + options.batch_size, len(regions)))
            shown, at = np.unique([images.row[regions[row].image] for row in rows], return_inverse=True)
            views = encoder.network.image_keys_values(images.states(shown.tolist()))
            batch, ends = (part.to(encoder.device) for part in pad_right([tokens[row] for row in rows], pad))
            text = encoder.network.encode_text(batch, ends, lang)
            boxes = encoder.network.locate(text, views[torch.from_numpy(at).to(encoder.device)])
            found[start : rows.stop] = boxes.float().cpu().numpy()
        keys = {"attributes": "none" if options.no_attributes else None, PICTURES: reading_of(options.high_bit_depth)}
        signature = Signature(
            data=self.fingerprint(data),
            split=options.split,
            lang=lang,
            images=len(self.images(data)),
            texts=len(regions),
            tok=encoder.tokenizer.name,
            maxlen=encoder.max_length,
            precision="fp32",
            own={key: value for key, value in keys.items() if value is not None},
        )
        return Result(box_scores(found, true), str(signature))

    def _target(self, region: Region, size: Tuple[int, int]) -> Tuple[float, ...]:
        """Centre, width and height of what of a box is inside its picture, in shares of it."""
        _, seen = visible(region.box, Cut(0, 0, *size), 1.0) if region.box.area else (0.0, None)
        if seen is None:
            record, shown = self.records[region.image], list(region.box)
            raise record.error(f"{shown} is outside its picture of {size[0]} x {size[1]}, or empty", "bb")
        return target(seen, 1.0)


def name_of(record: Record) -> str:
    return f"{record.path}:{record.line}"
