"""The options of ``mlvl-prepare``."""

import argparse
from typing import List, Optional

from mlvl_fairseq.cli.common import add_dataclass_options, not_negative, positive
from mlvl_fairseq.process.threads import cores

DESCRIPTION = "Caption files, images and a teacher in; a corpus folder out. Every step is done once and resumes."
EPILOG = """\
examples:
  # captions of three languages, image features that somebody has already
  mlvl-prepare corpus --languages en,de,fr --train 'data/train.{lang}.json' --valid 'data/val.{lang}.json' \\
      --image-features train=feats/train.npy valid=feats/val.npy --image-list train=feats/train.txt valid=feats/val.txt
  # files as they are published: all splits in one, all languages in one (docs/data.md)
  mlvl-prepare corpus --languages en --image-root coco --train dataset_coco.json --valid dataset_coco.json
  mlvl-prepare corpus --languages en,zh --image-root images --train captions.jsonl
  mlvl-prepare corpus --languages en --image-root shards --train shards/train --valid shards/valid  # tar or Parquet
  # one language more: the others are not read again; then --teacher again if it says that there is more
  mlvl-prepare corpus --languages cs --train 'data/train.{lang}.json' --valid 'data/val.{lang}.json'
  # add the features of a teacher (an official CLIP file, a Hugging Face folder or a checkpoint of this plugin)
  mlvl-prepare corpus --teacher ViT-B-32.pt
  # vocabularies and binarized captions for languages learned in this order (mlvl-cll does this by itself)
  mlvl-prepare corpus --order en,de,fr
  # for image_text_retrieval --langs en,de --vocabulary en,de
  mlvl-prepare corpus --joint en,de
  # for trikd; with --mte also what the frozen text encoder makes of the captions (trikd --cached-states)
  mlvl-prepare corpus --sentencepiece xlmr.base --mte mte/xlmr --train-states en
"""


def build_parser(of_models: bool = True) -> argparse.ArgumentParser:
    """The parser; without help and the options `of_models`, which take importing torch to know, where it is False."""
    from mlvl_fairseq.cli.common import add_frozen_options

    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=of_models
    )
    parser.add_argument("corpus", nargs=None if of_models else "?", help="corpus folder to make, or to add to")
    _add_captions(parser)
    _add_photos(parser)
    features = _add_features(parser)
    if of_models:
        _add_transform(features)
        add_frozen_options(parser, "teacher-", "the teacher")
    else:
        parser.set_defaults(transform=None)
    _add_text(parser)
    return parser


def parse(argv: Optional[List[str]]) -> argparse.Namespace:
    """Options; those of models are asked for where something is given that is none of the others."""
    args, others = build_parser(of_models=False).parse_known_args(argv)
    return build_parser().parse_args(argv) if others or args.corpus is None else args


def _add_captions(parser: argparse.ArgumentParser) -> None:
    from mlvl_fairseq.data.captions.reading import KEPT, POLICIES, ReadingOptions, readers

    captions = parser.add_argument_group("captions (makes the corpus, or adds languages to it)")
    captions.add_argument(
        "--languages",
        metavar="LIST",
        help="languages of the files below, e.g. en,de,fr; for a corpus that is there: new ones, which are added",
    )
    captions.add_argument(
        "--join",
        nargs="+",
        metavar="CORPUS",
        help="instead of caption files: prepared corpora, each a data set of this one (cll_retrieval --data-sets)",
    )
    # What only reading caption files takes notice of; defaults are None, so that it shows whether they are given.
    files = "{split} caption files; {{lang}} stands for the language; again for each further file"
    reading = [
        captions.add_argument(f"--{split}", action="append", metavar="PATTERN", help=files.format(split=split))
        for split in ("train", "valid", "test")
    ]
    reading += [
        captions.add_argument(
            "--format",
            "--captions-format",
            choices=("auto", *sorted(readers())),
            help="format of the caption files (default: auto)",
        ),
        captions.add_argument(
            "--captions-split",
            nargs="+",
            metavar="SPLIT=NAMES",
            help="of files that hold several splits (Karpathy's): which, by their names there, e.g. train=train "
            "(default: the one that is asked for; train with restval)",
        ),
        captions.add_argument("--captions-columns", metavar="LIST", help=ReadingOptions.help("captions_columns")),
        captions.add_argument("--captions-kept", choices=KEPT, help=ReadingOptions.help("captions_kept")),
        captions.add_argument(
            "--caption-images",
            nargs="+",
            metavar="SPLIT=PATTERN",
            help="image lists of caption files that need one: the image of each line (aligned); which (coco, coco_cn)",
        ),
        captions.add_argument(
            "--caption-english",
            nargs="+",
            metavar="SPLIT=PATTERN",
            help="the English sentence of each line (aligned), where the k-th English caption of its image is another",
        ),
        captions.add_argument(
            "--source-lang", metavar="LANG", help="the teacher's language (default: the corpus's, or en)"
        ),
        captions.add_argument(
            "--bpe-size", type=positive, metavar="N", help="BPE entries a language (default: the corpus's, or 10000)"
        ),
        captions.add_argument(
            "--check-images", action="store_true", default=None, help="leave out captions whose image is not there"
        ),
        captions.add_argument(
            "--drop-duplicates", action="store_true", default=None, help="leave out repeated captions of an image"
        ),
        captions.add_argument(
            "--drop-unpaired",
            action="store_true",
            default=None,
            help="leave out training captions without an English partner, which mlvl-cll needs",
        ),
        captions.add_argument("--on-problem", choices=POLICIES, help=ReadingOptions.help("on_problem")),
        captions.add_argument(
            "--max-problems", type=not_negative, metavar="N", help="stop after N unusable captions a file"
        ),
    ]
    parser.set_defaults(reading={action.option_strings[0]: action.dest for action in reading})


def _add_photos(parser: argparse.ArgumentParser) -> None:
    photos = parser.add_argument_group("photos")
    photos.add_argument(
        "--image-root",
        metavar="DIR",
        help="folder that image names start from; can be given again, also alone, when it was wrong or has moved",
    )
    photos.add_argument(
        "--allow-outside-root",
        action="store_true",
        help="take and open images whose names are absolute or lead out of the image root",
    )
    photos.add_argument(
        "--compare-photos",
        action="store_true",
        help="tell which photos train, valid and test share by the content of their files, too, not only by name",
    )


def _add_features(parser: argparse.ArgumentParser):
    from mlvl_fairseq.data.feature_options import FeatureOptions
    from mlvl_fairseq.data.images.policy import PictureOptions

    features = parser.add_argument_group("features")
    features.add_argument(
        "--image-features", nargs="+", metavar="SPLIT=FILE.npy", help="image features [images, dims] you already have"
    )
    features.add_argument("--image-list", nargs="+", metavar="SPLIT=FILE.txt", help="their image names, one a line")
    features.add_argument("--teacher", metavar="PATH", help="model that encodes images and English sentences")
    features.add_argument("--batch-size", type=positive, default=256, help="of the teacher (default: %(default)s)")
    features.add_argument(
        "--num-workers",
        type=not_negative,
        default=cores(),
        metavar="N",
        help="processes at once: languages side by side, or readers of images; with 0 there is one, which "
        "does everything (default: one for each core, here %(default)s)",
    )
    features.add_argument(
        "--device", default="cpu", help="where the teacher computes, e.g. cuda (default: %(default)s)"
    )
    add_dataclass_options(features, FeatureOptions)
    add_dataclass_options(parser, PictureOptions)
    return features


def _add_transform(features) -> None:
    from mlvl_fairseq.data.images.transforms import transform_names

    features.add_argument(
        "--transform",
        choices=transform_names(),
        help="what cuts pictures for the teacher's image tower; mclip as in mCLIP's published training (default: what "
        "the teacher was trained with)",
    )


def _add_text(parser: argparse.ArgumentParser) -> None:
    from mlvl_fairseq.data.text import TextOptions, tokenizer_kinds

    text = parser.add_argument_group("text")
    text.add_argument(
        "--order", metavar="LIST", help="vocabularies and captions for learning languages in this order (cll_retrieval)"
    )
    text.add_argument(
        "--joint",
        metavar="LIST",
        help="one vocabulary and captions for training on these languages at once (image_text_retrieval)",
    )
    text.add_argument(
        "--oracle",
        metavar="LIST",
        help="one vocabulary made of all these languages' captions at once (cll_retrieval --oracle-languages)",
    )
    text.add_argument(
        "--begin-with",
        metavar="PATH",
        help="a CLIP that has learned languages (an exported folder, a checkpoint) to learn more from: they add to its "
        "tokens instead of to CLIP's own; with --languages, where the corpus is made",
    )
    for kind in tokenizer_kinds():
        if kind.comes_with_a_model:
            text.add_argument(f"--{kind.option}", metavar="FOLDER", help=f"captions of all languages in {kind.help}")
    add_dataclass_options(text, TextOptions)
    text.add_argument("--mte", metavar="PATH", help="with the tokenizer above: store this text encoder's states")
    text.add_argument(
        "--train-states",
        metavar="LANGS",
        help="with --mte: store the states of training captions in these languages only, e.g. en (default: all; of "
        "validation captions always all)",
    )
    text.add_argument(
        "--max-length",
        type=positive,
        default=77,
        metavar="N",
        help="with --mte: longest caption in pieces, <s> and </s> included, as in training (default: %(default)s)",
    )
