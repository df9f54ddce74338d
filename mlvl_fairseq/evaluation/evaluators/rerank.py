"""Retrieval in two stages: vectors find candidates, and the network's fusion encoder puts them in order."""

import logging
from dataclasses import dataclass
from typing import Dict, List, Optional

import numpy as np

from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.data.feature_arrays import is_grid
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    ImageFeatures,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.evaluators.retrieval import (
    CaptionOptions,
    CaptionRetrieval,
    checksums,
    retrieval_signature,
)
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, recalls
from mlvl_fairseq.evaluation.metrics.two_stage import best_candidates, published_ranks, reranked
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.matching import MEMORY, ImageStates, match_pairs, require_match

logger = logging.getLogger(__name__)
FIRST = "first_"  # metrics of the first stage
AT_THE_END, REFERENCE = "first-stage", "reference"


@dataclass(kw_only=True)
class RerankOptions(CaptionOptions):
    rerank_k: int = option("candidates of each query that are scored again", 128, metavar="K", least=1)
    rest: str = option(
        "all other candidates: behind these, in the order of the first stage, or with a score of -100 and the last of "
        "equal scores first, as CCLM's evaluation does it (recall at no more than K is the same but for equal scores)",
        AT_THE_END,
        identity=lambda rest: None if rest == AT_THE_END else rest,
        choices=(AT_THE_END, REFERENCE),
    )
    batch_size: int = option("images a batch, and pairs of an image and a caption", 64, identity=None, least=1)
    memory: int = option(
        "MiB of states that are kept, half for images and half for captions: images beyond are encoded twice, captions "
        "beyond in blocks",
        MEMORY,
        identity=None,
        metavar="MIB",
        least=1,
    )


@dataclass(frozen=True)
class ImagesWithStates(ImageFeatures):
    """Attributes: states: of all images. row: name -> row in it."""

    states: ImageStates
    row: Dict[str, int]


@register_evaluator("rerank")
class Rerank(CaptionRetrieval):
    """Image-text retrieval in two stages, of a model with a fusion encoder (CCLM).

    The K best captions of an image, and images of a caption, by the cosine of their vectors, are put in the order of
    the fusion encoder's score that they match. first_*: recall by the vectors alone; without first_: in the new order.
    txt_*: image to text; img_*: text to image; R@1/5/10 in %; r_mean: the mean of the six.
    """

    Options = RerankOptions
    metrics = (*METRICS, *(f"{FIRST}{metric}" for metric in METRICS))
    keys = {
        **CaptionRetrieval.keys,
        "rerank": "how many candidates of each query were put in order by the fusion encoder",
        "fusion": "the kind of network whose fusion encoder did it",
        "rest": "'reference': all others have a score of -100; without the key they follow in the order of the vectors",
    }
    examples = """\
  mlvl-evaluate rerank --checkpoint cclm.pt --lang en --captions test.en.json --image-root images
  # COCO as published: 256 candidates; scores of several languages, images encoded once
  mlvl-evaluate rerank --checkpoint cclm.pt --lang en,zh,ja --captions 'coco/test.{lang}.json' --image-root coco \\
      --rerank-k 256 --output-dir scores/reranked
"""

    options: RerankOptions

    def signature_keys(self, encoder: Encoder) -> Dict[str, object]:
        reference = {"ties": "last", "rest": REFERENCE} if self.options.rest == REFERENCE else {}
        return {
            **super().signature_keys(encoder),
            "rerank": self.options.rerank_k,
            "fusion": encoder.family,
            **reference,
        }

    def encode_images(self, encoder: Encoder, names: List[str]) -> ImagesWithStates:
        options = self.options
        require_match(encoder)
        if options.image_features and not is_grid(options.image_features):
            raise UserError(
                f"--image-features {options.image_features}: a fusion encoder looks at the states of an image: give "
                "--image-root DIR, or grids [images, positions, dimensions]"
            )
        states = ImageStates(encoder, options.images_to_encode(encoder, names), options.memory / 2)
        usable = options.encode_images(encoder, names, states.keep)
        return ImagesWithStates(usable.names, usable.features, states, {name: row for row, name in enumerate(names)})

    def score(self, encoder: Encoder, lang: str, data: CaptionTable, images: Optional[ImageFeatures]) -> Result:
        options, encoder, read_in = self.options, self.options.read_by(encoder), self.options.read_in(lang)
        used, text_to_image = np.unique(data.image_rows, return_inverse=True)
        names = [data.images[row] for row in used]
        vectors, texts = images.of(names), encoder.encode_texts(data.captions, read_in)
        first = retrieval_ranks(vectors, texts, text_to_image, normalise=True)
        candidates = best_candidates(vectors, texts, text_to_image, options.rerank_k)
        rows = np.array([images.row[name] for name in names])
        pair_images, pair_texts = candidates.pairs()
        scores = match_pairs(
            encoder,
            images.states,
            data.captions,
            read_in,
            rows[pair_images],
            pair_texts,
            options.batch_size,
            options.memory / 2,
            progress=f"{lang} pairs",
        )
        second = candidates, *candidates.split(scores), text_to_image
        if images.states.again:
            message = "%s: %d times an image was encoded again, as --memory %d keeps no more"
            logger.info(message, lang, images.states.again, options.memory)
        ranks = published_ranks(*second) if options.rest == REFERENCE else reranked(*second, *first)
        found = {**recalls(*ranks), **{f"{FIRST}{metric}": value for metric, value in recalls(*first).items()}}
        keys = self.signature_keys(encoder)
        signature = retrieval_signature(encoder, names, data.captions, text_to_image, lang, options.split, own=keys)
        return Result(found, signature, QueryRanks(checksums(names), text_to_image, *ranks))
