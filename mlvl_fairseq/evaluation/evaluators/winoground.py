"""Winoground: two pictures and two captions of the same words, to be matched."""

import logging
from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from mlvl_fairseq.data.captions.reading import ReadingOptions, read_languages
from mlvl_fairseq.data.captions.table import POLICIES, CaptionTable
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    PICTURES,
    TRANSFORM,
    Evaluator,
    ImageFeatures,
    ImageOptions,
    LeftOut,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.evaluators.retrieval import own_transform
from mlvl_fairseq.evaluation.metrics.winoground import METRICS, winoground_scores
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class WinogroundOptions(ImageOptions):
    captions: str = option(
        "annotations.jsonl; {lang} stands for the language, where there are translations", identity=None, metavar="FILE"
    )
    lang: List[str] = option("language of the captions, or several: en,de,fr", metavar="LIST", languages=True)
    split: str = option("name of the split, for the signature", "test")
    on_problem: str = option(ReadingOptions.help("on_problem"), "skip", identity=None, choices=POLICIES)
    max_problems: Optional[int] = option(ReadingOptions.help("max_problems"), None, identity=None, metavar="N", least=0)


@register_evaluator("winoground")
class Winoground(Evaluator):
    """Winoground's official scores: are two captions of the same words matched with their two pictures?

    text: each picture is nearer to its own caption than to the other one; image: each caption is nearer to its own
    picture; group: both; in % of the examples. Chance is 25, 25 and 16.7. As plain retrieval among all pictures and
    captions (LilT): mlvl-evaluate retrieval on the same file.
    """

    Options = WinogroundOptions
    metrics = METRICS
    keys = {
        "examples": "lines of the file that are scored: two pictures and two captions each",
        TRANSFORM: "what cuts pictures for the model, where it is not CLIP's own preprocessing",
        PICTURES: "how pictures of more than 8 bits were read, where it is not as CLIP's preprocessing does",
    }
    examples = """\
  mlvl-evaluate winoground --checkpoint ViT-B-32.pt --lang en --captions winoground/annotations.jsonl \\
      --image-root winoground/images
"""

    options: WinogroundOptions

    def read(self) -> Dict[str, CaptionTable]:
        options = self.options
        options.check_images()
        tables = read_languages(
            options.captions,
            options.lang,
            image_root=options.image_root,
            allow_outside_root=options.allow_outside_root,
            format="winoground",
            on_problem=options.on_problem,
            max_problems=options.max_problems,
        )
        return {lang: whole_examples(table) for lang, table in tables.items()}

    def fingerprint(self, data: CaptionTable) -> str:
        return data_fingerprint(data.images, data.captions, data.image_rows)

    def source(self, data: CaptionTable) -> str:
        return data.path

    def images(self, data: CaptionTable) -> List[str]:
        return data.images

    def without(self, data: CaptionTable, images: Set[str]) -> Tuple[CaptionTable, LeftOut]:
        gone = np.array([name in images for name in data.images])[data.image_rows]
        usable = np.flatnonzero(~np.repeat(gone.reshape(-1, 2).any(axis=1), 2))
        if not len(usable):
            raise UserError(f"{data.path}: none of its {len(data) // 2} examples has two pictures that can be used")
        return data.select(usable), LeftOut([name for name in data.images if name in images], len(data) - len(usable))

    def score(self, encoder: Encoder, lang: str, data: CaptionTable, images: Optional[ImageFeatures]) -> Result:
        options = self.options
        pictures = images.of(data.images)[data.image_rows]
        texts = encoder.encode_texts(data.captions, lang)
        scores = winoground_scores(*(np.reshape(part, (-1, 2, part.shape[-1])) for part in (pictures, texts)))
        transform = {TRANSFORM: own_transform(encoder)} if options.image_root else {}
        signature = Signature(
            data=self.fingerprint(data),
            split=options.split,
            lang=lang,
            images=len(data.images),
            texts=len(data),
            tok=encoder.tokenizer.name,
            maxlen=encoder.max_length,
            precision="fp32",
            own={"examples": len(data) // 2, **transform, **options.picture_keys()},
        )
        return Result(scores, str(signature))


def whole_examples(table: CaptionTable) -> CaptionTable:
    """The captions of lines of which both can be used; how many others there are is told.

    Raises:
        UserError: there is no such line.
    """
    _, lines, captions = np.unique(table.lines, return_inverse=True, return_counts=True)
    whole = np.flatnonzero(captions[lines] == 2)
    if not len(whole):
        raise UserError(f"{table.path}: of no line both captions can be used")
    if len(whole) < len(table):
        message = "%s: %d lines of which one caption cannot be used are left out"
        logger.warning(message, table.path, len(table) - len(whole))
    return table.select(whole)
