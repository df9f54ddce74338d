"""Image-text retrieval: captions of an image, images of a caption."""

import zlib
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from mlvl_fairseq.data.captions.reading import ReadingOptions, read_languages
from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.data.images.transforms import CLIP_TRANSFORM
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    PICTURES,
    TRANSFORM,
    Evaluator,
    ImageFeatures,
    ImageOptions,
    LeftOut,
    Result,
    Scores,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.evaluators.text_options import TEXT_KEY, TextReadingOptions
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.retrieval import CONVENTIONS, METRICS, rank_queries, scores_of_ranks
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder


@dataclass(kw_only=True)
class CaptionOptions(TextReadingOptions, ImageOptions, ReadingOptions):
    """Which captions and images."""

    captions: str = option(
        "caption file; {lang} stands for the language, where each of several languages has a file of its own",
        identity=None,
        metavar="FILE",
    )
    caption_images: Optional[str] = option(
        "image list of a caption file that needs one: the image of each line of text (Multi30k, XTD10), or which "
        "images of a COCO file; {lang} as above",
        None,
        identity=None,
        metavar="FILE",
    )
    lang: List[str] = option(
        "language of the captions, or several: en,de,fr or a named order as order222", metavar="LIST", languages=True
    )
    split: str = option("name of the split, for the signature and for files that hold several", "test")


@dataclass(kw_only=True)
class RetrievalOptions(CaptionOptions):
    n_fold: int = option("average over N parts of the images", 1, metavar="N")
    recall: str = option(
        "texts found for an image are ranked among all texts, or, as mCLIP's evaluation does it, among the best ones "
        "of distinct images, each text being a query",
        "standard",
        choices=tuple(CONVENTIONS),
    )
    top_k: int = option(
        "count only the N best candidates of a query, and let the last of equal scores be first, as the evaluation of "
        "ALBEF and LilT does (128); 0: all count, and the first of equal scores is first",
        0,
        identity=lambda count: count or None,
        metavar="N",
        least=0,
    )


class CaptionRetrieval(Evaluator):
    """What all kinds of retrieval between images and captions share."""

    keys = {
        "folds": "folds of images whose scores are averaged",
        "captions": "which captions count for an image; 'any': its best ranked one among all; 'deduplicated': that "
        "among the best ones of distinct images",
        "ties": "order of equal scores: 'index' lets the smaller index win, 'last' the larger one",
        TRANSFORM: "what cuts pictures for the model, where it is not CLIP's own preprocessing",
        PICTURES: "how pictures of more than 8 bits were read, where it is not as CLIP's preprocessing does",
        **TEXT_KEY,
    }
    options: CaptionOptions

    def read(self) -> Dict[str, CaptionTable]:
        options, images = self.options, self.options.caption_images
        options.check_images()
        return read_languages(
            options.captions,
            options.lang,
            image_list=images,
            image_root=options.image_root,
            allow_outside_root=options.allow_outside_root,
            split=options.split,
            **options.reading(),
        )

    def fingerprint(self, data: CaptionTable) -> str:
        return data_fingerprint(data.images, data.captions, data.image_rows)

    def source(self, data: CaptionTable) -> str:
        return data.path

    def images(self, data: CaptionTable) -> List[str]:
        return data.images

    def without(self, data: CaptionTable, images: Set[str]) -> Tuple[CaptionTable, LeftOut]:
        usable = data.select(captions_without(data, images))
        if not len(usable):
            raise UserError(f"{data.path}: none of its {len(data.images)} images can be used")
        return usable, LeftOut([name for name in data.images if name in images], len(data) - len(usable))

    def own_keys(self) -> Dict[str, object]:
        """What a kind of retrieval adds to the signature beside the keys of all retrieval. Nothing by default."""
        return {}

    def signature_keys(self, encoder: Encoder) -> Dict[str, object]:
        """What signatures say beside the keys of all retrieval."""
        own = {TRANSFORM: own_transform(encoder)} if self.options.image_root else {}
        return {**own, **self.options.picture_keys(), **self.options.text_keys(), **self.own_keys()}


@register_evaluator("retrieval")
class Retrieval(CaptionRetrieval):
    """Image-text retrieval scores of a model on caption files.

    txt_*: image to text; img_*: text to image; R@1/5/10 in %; r_mean: the mean of the six.
    """

    Options = RetrievalOptions
    metrics = METRICS
    keys = {**CaptionRetrieval.keys, "top": "how many of a query's best candidates count, where not all do"}
    examples = """\
  mlvl-evaluate --checkpoint runs/teir/06-ar/checkpoint_best.pt --captions val.nl.json --lang nl \\
      --image-features val.npy --image-list val.txt
  mlvl-evaluate --checkpoint ViT-B-32.pt --captions test.de.json --lang de --image-root images --json scores.json
  # 36 languages; what is finished in the folder stays finished
  mlvl-evaluate --checkpoint ViT-B-16.pt --lang order222 --captions 'xm3600/test.{lang}.json' \\
      --image-features xm3600.npy --image-list xm3600.txt --output-dir scores/clip
  # Multi30k: a caption a line, image names beside them; COCO: its annotation file and a list of the test images
  mlvl-evaluate --checkpoint trikd.pt --lang de,fr,cs --captions 'test_2016_flickr.{lang}' \\
      --caption-images test_2016_flickr.txt --image-root flickr30k
  mlvl-evaluate --checkpoint trikd.pt --lang en --captions captions_val2014.json --caption-images karpathy_test.txt \\
      --image-root coco
  # COCO's 1K protocol: the average over five parts of the 5,000 images
  mlvl-evaluate --checkpoint ViT-B-16.pt --lang en --captions coco/test.en.json --image-root coco --n-fold 5
"""

    options: RetrievalOptions

    def __init__(self, options: RetrievalOptions):
        super().__init__(options)
        if options.top_k and options.recall != "standard":
            raise UserError(f"--top-k {options.top_k} does not go with --recall {options.recall}: leave one out")

    def score(self, encoder: Encoder, lang: str, data: CaptionTable, images: Optional[ImageFeatures]) -> Result:
        options, features = self.options, images.of(data.images)
        scores, ranks = rank_retrieval(
            options.read_by(encoder),
            features,
            data.images,
            data.captions,
            data.image_rows,
            lang,
            options.split,
            options.n_fold,
            options.recall,
            self.signature_keys(encoder),
            options.top_k,
            options.read_in(lang),
        )
        signature = scores.pop("signature")
        return Result(scores, signature, replace(ranks, images=checksums(data.images)[ranks.images]))


def captions_without(data: CaptionTable, images: Set[str]) -> np.ndarray:
    """int64: the captions, ascending, of all images but some."""
    gone = np.array([name in images for name in data.images])
    return np.flatnonzero(~gone[data.image_rows])


def rank_retrieval(
    encoder: Encoder,
    image_features: np.ndarray,
    image_names: Sequence[str],
    captions: List[str],
    image_rows: np.ndarray,
    lang: str,
    split: str,
    n_fold: int = 1,
    recall: str = "standard",
    own: Optional[Mapping[str, object]] = None,
    top_k: int = 0,
    read_in: Optional[str] = None,
) -> Tuple[Scores, QueryRanks]:
    """Rank captions for images and images for captions.

    Args:
        encoder: encodes the captions.
        image_features: [images, embed_dim] in the encoder's space. image_names: their names.
        captions: n captions. image_rows: int [n], the image of each.
        lang, split: for the signature; a model with parameters of each language also takes those of `lang`.
        n_fold: average over this many contiguous parts of the images.
        recall: how it is counted, see :data:`mlvl_fairseq.evaluation.metrics.retrieval.CONVENTIONS`.
        own: keys of the signature that only some kinds of retrieval have.
        top_k: how many of a query's candidates count, see
            :func:`~mlvl_fairseq.evaluation.metrics.top_k.top_k_ranks`; 0: all.
        read_in: the language that the captions are in, where it is not `lang`.

    Returns:
        ``txt_r1 ... img_r10 r_mean`` in % and ``signature``; the ranks behind them, with the rows of the images that
        have captions (the others take no part).
    """
    used, text_to_image = np.unique(image_rows, return_inverse=True)
    names = [image_names[row] for row in used]
    texts = encoder.encode_texts(captions, read_in or lang)
    ranks = rank_queries(image_features[used], texts, text_to_image, n_fold, recall=recall, top_k=top_k)
    own = {**(own or {}), **({"ties": "last", "top": top_k} if top_k else {})}
    scores = scores_of_ranks(*ranks, text_to_image, n_fold, recall)
    signature = retrieval_signature(encoder, names, captions, text_to_image, lang, split, n_fold, recall, own)
    return {**scores, "signature": signature}, QueryRanks(used, text_to_image, *ranks)


def retrieval_signature(
    encoder: Encoder,
    image_names: Sequence[str],
    texts: Sequence[str],
    text_to_image,
    lang: str,
    split: str,
    n_fold: int = 1,
    recall: str = "standard",
    own: Optional[Mapping[str, object]] = None,
) -> str:
    """How scores of an encoder are computed; arguments as in :func:`rank_retrieval`, all images with texts."""
    signature = Signature(
        data=data_fingerprint(image_names, texts, text_to_image),
        split=split,
        lang=lang,
        images=len(image_names),
        texts=len(texts),
        tok=encoder.tokenizer.name,
        maxlen=encoder.max_length,
        precision="fp32",
        own={
            "folds": n_fold,
            "captions": CONVENTIONS[recall].captions,
            "ties": "index",
            **(own or {}),
        },
    )
    return str(signature)


def own_transform(encoder: Encoder) -> Optional[str]:
    """``name@size``; None: CLIP's own, or the model takes no pictures."""
    own = encoder.network.preprocess
    return None if own is None or own.name == CLIP_TRANSFORM else str(own)


def checksums(names: Sequence[str]) -> np.ndarray:
    """int32 [n], the same for a name in any list: languages with the same images share the draws of a bootstrap."""
    return np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) >> 1 for name in names], np.int32)
