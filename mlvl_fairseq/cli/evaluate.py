"""`mlvl-evaluate`: image-text retrieval scores of a model on caption files, with the signature to compare them by.

Any model, any language: one it never learned gives a zero-shot score. Several languages are evaluated in one process
that loads the model and encodes the images once; their scores are those of one command a language.

txt_*: image to text; img_*: text to image; R@1/5/10 in %; r_mean: the mean of the six. Prints the scores of one
language as JSON, those of several as a table (--format); --json and --output-dir write JSON.
"""

import argparse
import json
from typing import Dict, List, Optional

from mlvl_fairseq.cli.common import run, tell_written

EPILOG = """\
examples:
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


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.cli.image_options import add_image_options
    from mlvl_fairseq.evaluation.metrics.retrieval import CONVENTIONS

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="checkpoint of this plugin, official CLIP file or Hugging Face folder",
    )
    frozen = parser.add_argument_group("frozen files of a checkpoint, if they were moved since it was trained")
    frozen.add_argument("--init-from", metavar="PATH", help="of a CLIP: the weights it started from")
    frozen.add_argument("--mte", metavar="PATH", help="of a TriKD: its text encoder")
    frozen.add_argument("--clip", metavar="PATH", help="of a TriKD: its CLIP, which pictures need")
    frozen.add_argument("--sentencepiece", metavar="FOLDER", help="of a TriKD: XLM-R's folder")
    parser.add_argument(
        "--captions",
        required=True,
        metavar="FILE",
        help="caption file (json, triplets, ...); with several languages {lang} stands for the language",
    )
    parser.add_argument(
        "--caption-images",
        metavar="FILE",
        help="image list of a caption file that needs one: the image of each line of text (Multi30k, XTD10), or which "
        "images of a COCO file; {lang} as above",
    )
    parser.add_argument(
        "--lang",
        required=True,
        metavar="LIST",
        help="language of the captions, or several: en,de,fr or a named order as order222",
    )
    parser.add_argument("--split", default="test", help="name of the split, for the signature (default: %(default)s)")
    add_image_options(parser)
    parser.add_argument(
        "--n-fold", type=int, default=1, help="average over N parts of the images (default: %(default)s)"
    )
    parser.add_argument(
        "--recall",
        choices=tuple(CONVENTIONS),
        default="standard",
        help="texts found for an image are ranked among all texts, or, as mCLIP's evaluation does it, among the best "
        "ones of distinct images, each text being a query (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument(
        "--format",
        choices=("json", "table"),
        help="what is printed (default: json of one language, a table of several)",
    )
    parser.add_argument("--json", metavar="OUT", help="write the scores here, too")
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="write DIR/LANG.SPLIT.json for each language as it is finished; finished ones are not repeated",
    )
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.cli.image_options import check_image_options
    from mlvl_fairseq.continual.orders import language_order
    from mlvl_fairseq.evaluation.evaluators.languages import average_scores
    from mlvl_fairseq.files import write_json

    check_image_options(args)
    tables = read_tables(args.captions, language_order(args.lang), args.caption_images)
    scores = evaluate(tables, args)
    many = len(scores) > 1
    result = {"languages": scores, "average": average_scores(scores)} if many else next(iter(scores.values()))
    shape = args.format or ("table" if many else "json")
    print(table(scores) if shape == "table" else json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)
    tell_written(args.json, args.output_dir and f"{args.output_dir}/*.{args.split}.json")


def table(scores: Dict[str, Dict[str, object]]) -> str:
    """Markdown: a row for each language and their average, rounded as in reports, and the signature."""
    from mlvl_fairseq.evaluation.evaluators.languages import average_scores
    from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
    from mlvl_fairseq.evaluation.report.text import markdown_table, number

    average = average_scores(scores)
    rows = {**scores, "average": average} if len(scores) > 1 else scores
    cells = [[name, *(number(row[metric], 1) for metric in METRICS)] for name, row in rows.items()]
    return f"{markdown_table(['', *METRICS], cells)}\n\nsignature: {average['signature']}"


def read_tables(pattern: str, languages: List[str], images: Optional[str] = None) -> Dict[str, object]:
    """Language -> its captions; all files are read before anything is computed."""
    from mlvl_fairseq.data.captions import read_captions
    from mlvl_fairseq.errors import UserError

    if len(languages) > 1 and "{lang}" not in pattern:
        raise UserError(f"--captions '{pattern}' needs {{lang}} where the language stands in the file name")
    return {
        lang: read_captions(pattern.replace("{lang}", lang), image_list=images and images.replace("{lang}", lang))
        for lang in languages
    }


def evaluate(tables: Dict[str, object], args: argparse.Namespace) -> Dict[str, Dict[str, object]]:
    """Language -> scores, in the folder that `args` names, or in none."""
    import contextlib

    from mlvl_fairseq.cli.image_options import encode_images, image_source
    from mlvl_fairseq.evaluation.evaluators.languages import evaluate_languages
    from mlvl_fairseq.inference.encoder import Encoder
    from mlvl_fairseq.runs.result_folder import result_folder
    from mlvl_fairseq.version import __version__

    frozen = {name: getattr(args, name) for name in ("init_from", "mte", "clip", "sentencepiece")}
    encoder = Encoder.load(args.checkpoint, device=args.device, **frozen)
    folder = contextlib.nullcontext()
    if args.output_dir:
        settings = {"model": encoder.fingerprint, "split": args.split, "n_fold": args.n_fold, "recall": args.recall}
        folder = result_folder(args.output_dir, {**settings, "version": __version__, **image_source(args)})
    with folder as results:
        return evaluate_languages(
            encoder,
            tables,
            lambda names: encode_images(encoder, names, args),
            args.split,
            args.n_fold,
            results,
            args.recall,
        )


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
