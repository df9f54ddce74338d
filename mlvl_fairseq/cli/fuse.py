"""`mlvl-fuse`: captions translated to English beside the captions themselves: translate-test, and fusion of both.

eta weighs the translations: at 1 they alone are scored (translate-test), at 0 the captions alone. Score fusion mixes
the similarities, feature fusion the text features. Prints a table over eta.
"""

import argparse
from typing import Dict, List, Optional

from mlvl_fairseq.cli.common import add_dataclass_options, options_from, run, tell_written

EPILOG = """\
examples:
  # Hebrew captions with our model, their machine translations with CLIP
  mlvl-fuse --checkpoint runs/teir/35-hu/checkpoint_best.pt --lang he --captions he.json \\
      --english-checkpoint ViT-B-16.pt --english-captions he.translated.json \\
      --image-features xm3600.npy --image-list xm3600.txt --json fusion.json --plot fusion.png
  # translations in the same file (triplets: image, English, caption), one model
  mlvl-fuse --checkpoint ViT-B-16.pt --lang de --captions test.vision-en-de.tsv --image-root images
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.cli.common import add_frozen_options, add_model_options
    from mlvl_fairseq.data.captions import ReadingOptions
    from mlvl_fairseq.evaluation.evaluators.base import ImageOptions

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser, "model of the captions and the images")
    parser.add_argument(
        "--english-checkpoint",
        metavar="PATH",
        help="model of the translations, of the same feature space (default: the same model)",
    )
    add_frozen_options(parser, "english-", "the English checkpoint")
    parser.add_argument("--captions", required=True, metavar="FILE", help="caption file")
    parser.add_argument("--lang", required=True, help="language of the captions")
    parser.add_argument(
        "--english-captions",
        metavar="FILE",
        help="their translations: the k-th of an image is that of its k-th caption "
        "(default: the English sentences in the caption file)",
    )
    parser.add_argument("--split", default="test", help="name of the split, for the signature (default: %(default)s)")
    add_dataclass_options(parser, ReadingOptions)
    add_dataclass_options(parser, ImageOptions)
    parser.add_argument(
        "--fusion",
        nargs="+",
        choices=("score", "feature"),
        default=["score", "feature"],
        help="what is mixed (default: both, one after the other)",
    )
    parser.add_argument("--eta", type=float, nargs="+", metavar="ETA", help="weights of English (default: 0 0.1 ... 1)")
    parser.add_argument(
        "--n-fold", type=int, default=1, help="average over N parts of the images (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="OUT", help="write the scores here")
    parser.add_argument("--plot", metavar="OUT.png", help="draw r_mean over eta")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.cli.common import frozen_from, load_encoder
    from mlvl_fairseq.codes import language_code, split_name
    from mlvl_fairseq.data.captions import ReadingOptions, read_captions
    from mlvl_fairseq.evaluation.evaluators.base import ImageOptions
    from mlvl_fairseq.evaluation.evaluators.fusion import ENGLISH, ETAS, translate_test
    from mlvl_fairseq.files import write_json
    from mlvl_fairseq.inference.encoder import Encoder
    from mlvl_fairseq.process.locks import writing

    language_code(args.lang), split_name(args.split)
    images = options_from(ImageOptions, args)
    images.check_images()
    reading = {**options_from(ReadingOptions, args).reading(), "split": args.split}
    reading.update(image_root=images.image_root, allow_outside_root=images.allow_outside_root)
    foreign = read_captions(args.captions, lang=args.lang, **reading)
    english = read_captions(args.english_captions, lang=ENGLISH, **reading) if args.english_captions else None
    with writing(args.json, args.plot):
        encoder = translator = load_encoder(args)
        if args.english_checkpoint:
            frozen = frozen_from(args, "english-")
            translator = Encoder.load(args.english_checkpoint, device=args.device, **frozen)
        result = translate_test(
            encoder,
            translator,
            foreign,
            english,
            lambda names: images.encode_images(encoder, names),
            args.lang,
            args.split,
            args.fusion,
            args.eta or ETAS,
            args.n_fold,
            images.picture_keys(),
        )
        print(table(result["scores"]))
        print(f"\nsignature: {result['signature']}")
        if args.json:
            write_json(args.json, result)
        if args.plot:
            draw(args.plot, result["scores"], args.lang)
    tell_written(args.json, args.plot)


def table(rows: List[Dict[str, object]]) -> str:
    """Markdown: a row for each fusion and eta."""
    from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
    from mlvl_fairseq.evaluation.report.tables import markdown_table

    cells = [[f"{row['fusion']}, eta {row['eta']:g}", *(f"{row[metric]:.1f}" for metric in METRICS)] for row in rows]
    return markdown_table(["fusion", *METRICS], cells)


def draw(path: str, rows: List[Dict[str, object]], lang: str) -> None:
    """r_mean over eta, one line a fusion."""
    from mlvl_fairseq.evaluation.report.drawing import draw_lines

    curves: Dict[str, tuple] = {}
    for row in rows:
        etas, values = curves.setdefault(f"{row['fusion']} fusion", ([], []))
        etas.append(row["eta"])
        values.append(row["r_mean"])
    draw_lines(
        path, curves, f"{lang}: captions and their translations", "eta (weight of the translations)", "r_mean in %"
    )


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
