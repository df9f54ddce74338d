"""`mlvl-prepare`: caption files, images and a teacher in; a corpus folder out. Every step is done once and resumes."""

import argparse
import logging
from typing import Dict, List, Optional

from mlvl_fairseq.cli.common import not_negative, positive

logger = logging.getLogger(__name__)

# What only reading caption files takes notice of; defaults are None, so that it shows whether they are given.
FOR_CAPTIONS = (
    "--train --valid --test --format --source-lang --bpe-size --check-images --drop-duplicates --on-problem "
    "--max-problems --caption-images"
).split()

EPILOG = """\
examples:
  # captions of three languages, image features that somebody has already
  mlvl-prepare corpus --languages en,de,fr --train 'data/train.{lang}.json' --valid 'data/val.{lang}.json' \\
      --image-features train=feats/train.npy valid=feats/val.npy --image-list train=feats/train.txt valid=feats/val.txt
  # one language more: all languages again, the new ones behind; then --teacher again if it says that there is more
  mlvl-prepare corpus --languages en,de,fr,cs --train 'data/train.{lang}.json' --valid 'data/val.{lang}.json'
  # add the features of a teacher (an official CLIP file, a Hugging Face folder or a checkpoint of this plugin)
  mlvl-prepare corpus --teacher ViT-B-32.pt
  # vocabularies and binarized captions for languages learned in this order (mlvl-cll does this by itself)
  mlvl-prepare corpus --order en,de,fr
  # for image_text_retrieval --langs en,de --vocabulary en,de
  mlvl-prepare corpus --joint en,de
  # for trikd; with --mte also what the frozen text encoder makes of the captions (trikd --cached-states)
  mlvl-prepare corpus --sentencepiece xlmr.base --mte mte.pt --train-states en
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.cli.model_options import add_frozen_options

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="corpus folder to make, or to add to")
    captions = parser.add_argument_group("captions (makes the corpus, or adds languages to it)")
    captions.add_argument(
        "--languages",
        metavar="LIST",
        help="languages of the files below, e.g. en,de,fr; for a corpus that is there: its own and new ones",
    )
    for split in ("train", "valid", "test"):
        captions.add_argument(
            f"--{split}", metavar="PATTERN", help=f"{split} caption files, {{lang}} stands for the language"
        )
    captions.add_argument("--format", help="json, coco, triplet, aligned or auto (default: auto)")
    captions.add_argument(
        "--caption-images",
        nargs="+",
        metavar="SPLIT=PATTERN",
        help="image lists of caption files that need one: the image of each line (aligned), or which images (coco)",
    )
    captions.add_argument("--source-lang", metavar="LANG", help="the teacher's language (default: the corpus's, or en)")
    captions.add_argument(
        "--bpe-size", type=positive, metavar="N", help="BPE entries a language (default: the corpus's, or 10000)"
    )
    captions.add_argument(
        "--image-root",
        metavar="DIR",
        help="folder that image names start from; can be given again, also alone, when it was wrong or has moved",
    )
    captions.add_argument("--check-images", action="store_true", help="leave out captions whose image is not there")
    captions.add_argument("--drop-duplicates", action="store_true", help="leave out repeated captions of an image")
    captions.add_argument(
        "--on-problem",
        choices=("skip", "error"),
        help="unusable captions: count and leave out, or stop at the first (default: skip)",
    )
    captions.add_argument(
        "--max-problems", type=not_negative, metavar="N", help="stop after N unusable captions a file"
    )
    features = parser.add_argument_group("features")
    features.add_argument(
        "--image-features", nargs="+", metavar="SPLIT=FILE.npy", help="image features [images, dims] you already have"
    )
    features.add_argument("--image-list", nargs="+", metavar="SPLIT=FILE.txt", help="their image names, one a line")
    features.add_argument("--teacher", metavar="PATH", help="model that encodes images and English sentences")
    features.add_argument("--batch-size", type=positive, default=256, help="of the teacher (default: %(default)s)")
    features.add_argument(
        "--num-workers", type=not_negative, default=0, help="processes that read images (default: %(default)s)"
    )
    features.add_argument(
        "--device", default="cpu", help="where the teacher computes, e.g. cuda (default: %(default)s)"
    )
    features.add_argument(
        "--bad-image",
        choices=("error", "skip"),
        default="error",
        help="an image that cannot be read: stop, or leave its feature zero and list it (default: %(default)s)",
    )
    features.add_argument(
        "--max-bad-images", type=positive, default=100, help="with skip: stop after so many (default: %(default)s)"
    )
    add_frozen_options(parser, "teacher-", "the teacher")
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
        "--sentencepiece",
        metavar="FOLDER",
        help="XLM-R folder with sentencepiece.bpe.model and dict.txt: captions of all languages in its pieces (trikd)",
    )
    text.add_argument("--mte", metavar="PATH", help="with --sentencepiece: store this text encoder's states")
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
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    corpus = build_captions(args) if args.languages else open_corpus(args)
    if args.image_features or args.image_list:
        import_image_features(corpus, args)
    prepare_text(corpus, args)
    if args.sentencepiece or args.mte or args.train_states:
        prepare_pieces(corpus, args)
    if args.teacher:
        from mlvl_fairseq.cli.model_options import frozen_from
        from mlvl_fairseq.data.images.reading import BadImagePolicy
        from mlvl_fairseq.inference.encoder import Encoder
        from mlvl_fairseq.inference.extraction import extract_teacher_features

        policy = BadImagePolicy(args.bad_image, args.max_bad_images)
        encoder = Encoder.load(args.teacher, device=args.device, **frozen_from(args, "teacher-"))
        extract_teacher_features(corpus, encoder, args.batch_size, args.num_workers, policy)
    logger.info("corpus ready: %s", corpus.folder)


def open_corpus(args):
    """The corpus that is there, with its images where ``--image-root`` says.

    Raises:
        UserError: an option is given that would do nothing.
    """
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.corpus.image_root import set_image_root
    from mlvl_fairseq.errors import UserError

    values = {option: getattr(args, option[2:].replace("-", "_")) for option in FOR_CAPTIONS}
    ignored = [option for option, value in values.items() if value is not None and value is not False]
    if ignored:
        raise UserError(f"{', '.join(ignored)}: without --languages, no caption files are read; give them, too")
    corpus = Corpus(args.corpus)
    return set_image_root(corpus, args.image_root) if args.image_root else corpus


def build_captions(args):
    """Read the caption files of all splits and write the corpus's text half, or add languages to it."""
    from mlvl_fairseq.data.captions import read_captions
    from mlvl_fairseq.data.corpus.build import build_corpus
    from mlvl_fairseq.errors import UserError

    patterns = {split: getattr(args, split) for split in ("train", "valid", "test") if getattr(args, split)}
    if not patterns:
        raise UserError("give caption files, e.g. --train 'data/train.{lang}.json'")
    languages = [lang.strip() for lang in args.languages.split(",") if lang.strip()]
    splits: Dict[str, dict] = {}
    lists = _by_split(args.caption_images or [])
    for split, pattern in patterns.items():
        if "{lang}" not in pattern and len(languages) > 1:
            raise UserError(f"--{split} '{pattern}' needs {{lang}} where the language stands in the file name")
        splits[split] = {
            lang: read_captions(
                pattern.replace("{lang}", lang),
                format=args.format or "auto",
                image_list=lists[split].replace("{lang}", lang) if split in lists else None,
                image_root=args.image_root,
                check_images=args.check_images,
                drop_duplicates=args.drop_duplicates,
                on_problem=args.on_problem or "skip",
                max_problems=args.max_problems,
            )
            for lang in languages
        }
    return build_corpus(args.corpus, splits, args.source_lang, args.bpe_size, args.image_root)


def import_image_features(corpus, args) -> None:
    """Reorder given image features to the corpus's images and store them as the model's inputs."""
    from mlvl_fairseq.data.feature_arrays import import_features
    from mlvl_fairseq.data.features import FeatureWriter, file_sha256, source_of_first_rows
    from mlvl_fairseq.errors import UserError

    files, lists = _by_split(args.image_features or []), _by_split(args.image_list or [])
    if files.keys() != lists.keys():
        raise UserError("give one --image-list SPLIT=FILE.txt for every --image-features SPLIT=FILE.npy")
    for split, path in files.items():
        names = corpus.images(split)
        features = import_features(path, lists[split], names)
        stem, dtype = corpus.feature_stem(split, "inputs"), features.dtype.name
        source = source_of_first_rows(stem, features) or file_sha256(path)
        with FeatureWriter(stem, names, features.shape[1], "given", source, dtype) as writer:
            writer.write(features[writer.rows_done :])


def _by_split(entries: List[str]) -> Dict[str, str]:
    from mlvl_fairseq.data.corpus import SPLITS
    from mlvl_fairseq.errors import UserError

    pairs = [entry.partition("=") for entry in entries]
    for split, separator, _ in pairs:
        if split not in SPLITS or not separator:
            raise UserError(f"'{split}{separator}...': write train=FILE, valid=FILE or test=FILE")
    return {split: path for split, _, path in pairs}


def prepare_text(corpus, args) -> None:
    """Vocabularies of all languages; the source language in CLIP's own; what --order and --joint ask for."""
    from mlvl_fairseq.continual.orders import language_order
    from mlvl_fairseq.data.corpus.binarize import binarize, prepare_sequence
    from mlvl_fairseq.data.corpus.vocabularies import language_vocabulary

    for lang in corpus.languages("train"):
        language_vocabulary(corpus, lang, train=True)
    if corpus.source_lang in corpus.languages("train"):
        binarize(corpus, [], corpus.source_lang)
    if args.order:
        prepare_sequence(corpus, language_order(args.order))
    if args.joint:
        languages = language_order(args.joint)
        for lang in languages:
            binarize(corpus, languages, lang)


def prepare_pieces(corpus, args) -> None:
    """Captions in SentencePiece's pieces, and what a text encoder makes of them."""
    from mlvl_fairseq.continual.orders import language_order
    from mlvl_fairseq.data.corpus.sentencepiece_captions import binarize_with_sentencepiece
    from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
    from mlvl_fairseq.errors import UserError
    from mlvl_fairseq.inference.extraction import store_text_states

    if args.train_states and not args.mte:
        raise UserError("--train-states goes with --mte")
    if not args.sentencepiece:
        raise UserError("--mte needs the --sentencepiece folder that belongs to it")
    tokenizer = SentencePieceTokenizer(args.sentencepiece)
    binarize_with_sentencepiece(corpus, tokenizer)
    if args.mte:
        langs = language_order(args.train_states) if args.train_states else None
        store_text_states(corpus, tokenizer, args.mte, args.max_length, args.device, langs)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
