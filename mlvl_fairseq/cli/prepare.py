"""`mlvl-prepare`: caption files, images and a teacher in; a corpus folder out. Every step is done once and resumes."""

import logging
from typing import List, Optional

from mlvl_fairseq.cli.common import language_order
from mlvl_fairseq.cli.prepare_options import build_parser, parse
from mlvl_fairseq.errors import UserError

__all__ = ["build_parser", "main"]
logger = logging.getLogger(__name__)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse(argv)
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.process.locks import alone_in

    if args.transform and not args.teacher:
        raise UserError("--transform goes with --teacher")
    if not args.languages and not args.join:
        refuse_ignored(args)
        Corpus(args.corpus)  # is there one?
    with alone_in(args.corpus):
        prepare(args)


def prepare(args) -> None:
    """All steps that the options ask for, the counts, and the next command."""
    from mlvl_fairseq.data.corpus import summary
    from mlvl_fairseq.data.corpus.prepare import by_split, prepare_vocabularies, store_image_features
    from mlvl_fairseq.data.images.policy import BadImagePolicy

    tokenizers, taught = load_tokenizers(args), summary.taught_languages(args.corpus)
    corpus = join(args) if args.join else build_corpus(args) if args.languages else open_corpus(args)
    if args.image_features or args.image_list:
        files, lists = by_split(args.image_features or []), by_split(args.image_list or [])
        store_image_features(corpus, files, lists, BadImagePolicy.of(args))
    if args.begin_with:
        begin_with_clip(corpus, args.begin_with)
    lists = (language_order(text) if text else [] for text in (args.order, args.joint, args.oracle))
    prepare_vocabularies(corpus, *lists, workers=args.num_workers)
    prepare_tokenizers(corpus, args, tokenizers)
    if args.teacher:
        extract_features(corpus, args)
    summary.tell_what_is_left_out(corpus)
    logger.info("corpus ready: %s", corpus.folder)
    for line in summary.describe(corpus):
        logger.info("  %s", line)
    summary.tell_shared_photos(corpus, args.compare_photos, args.allow_outside_root)
    logger.info("next: %s", summary.next_command(corpus, args.teacher, args.wordpiece, taught))


def begin_with_clip(corpus, path: str) -> None:
    """What ``--begin-with`` asks for. Raises UserError, DataError: it is no CLIP, or the corpus has begun otherwise."""
    from mlvl_fairseq.checkpoints.clip import read_clip
    from mlvl_fairseq.data.corpus.vocabularies import begin_with
    from mlvl_fairseq.data.text import clip_vocabulary

    begin_with(corpus, clip_vocabulary().with_additions(read_clip(path).vocabulary, path), path)


def join(args):
    """The corpora of ``--join`` as data sets of one. Raises UserError: caption files are given, too."""
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.corpus.data_sets import join_corpora

    given = [option for option, name in args.reading.items() if getattr(args, name) is not None]
    given += [option for option in ("--languages", "--image-root") if getattr(args, option[2:].replace("-", "_"))]
    if given:
        raise UserError(f"--join takes prepared corpora: leave out {', '.join(given)}")
    return join_corpora(args.corpus, [Corpus(folder) for folder in args.join], args.num_workers)


def refuse_ignored(args) -> None:
    """Raises UserError: an option is given that would do nothing."""
    ignored = [option for option, name in args.reading.items() if getattr(args, name) is not None]
    if ignored:
        raise UserError(f"{', '.join(ignored)}: without --languages, no caption files are read; give them, too")


def open_corpus(args):
    """The corpus that is there, with its images where ``--image-root`` says."""
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.corpus.build import set_image_root

    corpus = Corpus(args.corpus)
    return set_image_root(corpus, args.image_root, args.allow_outside_root) if args.image_root else corpus


def build_corpus(args):
    """The corpus of the caption files that the options name."""
    from mlvl_fairseq.data.corpus.prepare import build_from_files, by_split

    return build_from_files(
        args.corpus,
        {split: getattr(args, split) for split in ("train", "valid", "test") if getattr(args, split)},
        language_order(args.languages),
        by_split(args.caption_images or []),
        by_split(args.caption_english or []),
        args.source_lang,
        args.bpe_size,
        args.image_root,
        args.allow_outside_root,
        bool(args.drop_unpaired),
        by_split(args.image_list or []),
        by_split(args.captions_split or []),
        args.num_workers,
        columns=args.captions_columns,
        kept=args.captions_kept or "all",
        format=args.format or "auto",
        check_images=bool(args.check_images),
        drop_duplicates=bool(args.drop_duplicates),
        on_problem=args.on_problem or "skip",
        max_problems=args.max_problems,
    )


def load_tokenizers(args) -> list:
    """The tokenizers whose folders are given; before a corpus is made that they would then be missing from.

    Raises:
        UserError: options do not go together. DataError: a folder is none of its kind.
    """
    from mlvl_fairseq.data.text import TextOptions, tokenizer_kinds

    kinds = [kind for kind in tokenizer_kinds() if kind.comes_with_a_model]
    folders = [(kind, getattr(args, kind.option)) for kind in kinds if getattr(args, kind.option)]
    if not folders:
        TextOptions.refuse(args, "without the folder of a tokenizer")
    if args.train_states and not args.mte:
        raise UserError("--train-states goes with --mte")
    if args.mte and len(folders) != 1:
        raise UserError(f"--mte needs the tokenizer that belongs to it: {' or '.join(f'--{k.option}' for k in kinds)}")
    return [TextOptions.prepare(args, kind.load(folder)) for kind, folder in folders]


def prepare_tokenizers(corpus, args, tokenizers) -> None:
    """Captions in the ids of tokenizers that came with a model, and what a text encoder makes of them."""
    from mlvl_fairseq.data.corpus.prepare import binarize_all

    for tokenizer in tokenizers:
        binarize_all(corpus, tokenizer, args.num_workers)
    if args.mte:
        from mlvl_fairseq.inference.extraction import store_text_states

        langs = language_order(args.train_states) if args.train_states else None
        store_text_states(corpus, tokenizers[0], args.mte, args.max_length, args.device, langs)


def extract_features(corpus, args) -> None:
    """The teacher's features of images and English sentences, if any are missing."""
    from mlvl_fairseq.cli.common import options_from
    from mlvl_fairseq.data.corpus.teacher import has_all_features, remember_teacher
    from mlvl_fairseq.data.feature_options import FeatureOptions
    from mlvl_fairseq.data.images.policy import PictureOptions

    options = options_from(FeatureOptions, args)
    as_usual = options == FeatureOptions() and not args.transform
    as_usual &= args.high_bit_depth == PictureOptions.high_bit_depth
    if as_usual and has_all_features(corpus, args.teacher):
        logger.info("all features of %s are there", args.teacher)
        return
    from mlvl_fairseq.cli.common import frozen_from
    from mlvl_fairseq.data.images.policy import BadImagePolicy
    from mlvl_fairseq.inference.encoder import Encoder
    from mlvl_fairseq.inference.extraction import extract_teacher_features

    encoder = Encoder.load(args.teacher, device=args.device, **frozen_from(args, "teacher-"))
    encoder.transform = args.transform
    policy = BadImagePolicy.of(args)
    extract_teacher_features(
        corpus,
        encoder,
        args.batch_size,
        args.num_workers,
        policy,
        args.high_bit_depth,
        allow_outside_root=args.allow_outside_root,
        options=options,
    )
    remember_teacher(corpus, args.teacher, encoder.fingerprint, encoder.family, encoder.architecture)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
