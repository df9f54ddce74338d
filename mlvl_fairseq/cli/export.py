"""`mlvl-export`: trained models as files that other programs load."""

import argparse
import shutil
from pathlib import Path
from typing import List, Optional

EPILOG = """\
examples:
  mlvl-export mte checkpoints/stage2/checkpoint_best.pt xlmr_base/mte_mclip.pt
  mlvl-export dual_encoder checkpoints/lilt/checkpoint_best.pt lilt.pt
  python -c "from fairseq.models.roberta import XLMRModel; XLMRModel.from_pretrained('xlmr_base', 'mte_mclip.pt')"
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = parser.add_subparsers(metavar="MODEL", required=True)
    add_mte(models)
    add_dual_encoder(models)
    return parser


def add_mte(models) -> None:
    parser = models.add_parser(
        "mte",
        help="the encoder of task mte_pretraining, as an XLM-R of fairseq",
        description="The encoder of a checkpoint of task mte_pretraining, without decoder and projections, as a file "
        "that fairseq's XLMRModel.from_pretrained loads where dict.txt and sentencepiece.bpe.model are beside it.",
    )
    parser.add_argument("checkpoint", help="checkpoint of task mte_pretraining")
    parser.add_argument("out", help="file to write, e.g. xlmr_base/mte_mclip.pt")
    parser.add_argument("--xlmr", metavar="PATH", help="the XLM-R it was trained from, if it was moved")
    parser.add_argument(
        "--sentencepiece",
        metavar="DIR",
        help="copy dict.txt and sentencepiece.bpe.model from this folder to that of the file",
    )
    parser.set_defaults(export=export_mte)


def export_mte(args) -> None:
    """Write the file, and what it needs beside it."""
    from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr, write_xlmr
    from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, MODEL_FILE
    from mlvl_fairseq.process.locks import writing

    weights = read_xlmr(args.checkpoint, args.xlmr)
    folder = Path(args.out).parent
    folder.mkdir(parents=True, exist_ok=True)
    with writing(args.out):
        for name in (DICTIONARY_FILE, MODEL_FILE) if args.sentencepiece else ():
            shutil.copyfile(Path(args.sentencepiece) / name, folder / name)
        write_xlmr(weights, args.out)


def add_dual_encoder(models) -> None:
    parser = models.add_parser(
        "dual_encoder",
        help="a dual encoder with all its weights in one file, low-rank updates merged",
        description="A dual encoder as a checkpoint that needs no other: what training kept frozen and left in public "
        "files is in it, and low-rank updates (LoRA) are merged into the weights.",
    )
    parser.add_argument("checkpoint", help="checkpoint of model dual_encoder")
    parser.add_argument("out", help="file to write")
    for option in ("init-from", "image-weights", "text-weights", "tokenizer-folder"):
        parser.add_argument(f"--{option}", metavar="PATH", help="where this is, if it was moved since training")
    parser.set_defaults(export=export_dual_encoder)


def export_dual_encoder(args) -> None:
    """Write the file."""
    from mlvl_fairseq.checkpoints.source import WeightSource
    from mlvl_fairseq.networks.dual_encoder_files import PARTS, read_whole, write_merged
    from mlvl_fairseq.process.locks import writing

    moved = {name: getattr(args, name) for name in (*PARTS, "tokenizer_folder")}
    whole = read_whole(WeightSource(args.checkpoint), **moved)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out):
        write_merged(whole, args.out)


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    args.export(args)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
