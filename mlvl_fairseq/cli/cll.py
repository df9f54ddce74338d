"""`mlvl-cll`: learn languages one after another, evaluate after each on all languages so far.

Finished languages are skipped, an interrupted one goes on where it was: run the same command again. A longer --order
adds languages to a finished run; those that the corpus lacks are added to it by mlvl-prepare first. Options that are
not listed here go to fairseq-train and win over the method's. All of it is checked before the first update.
"""

import argparse
import os
from typing import List, Optional

from mlvl_fairseq.cli.common import ORDERS, language_order, not_negative, positive, positive_number, run, share
from mlvl_fairseq.continual.methods import PRESETS, list_methods, method_name, method_protocol
from mlvl_fairseq.options import refuse_reference

EPILOG = """\
examples:
  mlvl-cll corpus runs/teir --method cll_clip_with_teir --order en,de,fr --arch clip_vit_b16 --init-from ViT-B-16.pt
  mlvl-prepare corpus --languages en,de,fr,cs --train ...           # one more language, if the corpus lacks it:
  mlvl-cll corpus runs/teir ... --order en,de,fr,cs                 # the run goes on with it
  mlvl-cll corpus runs/teir ... --eval-split valid                  # a finished run on another split
  mlvl-cll corpus runs/quick ... --max-epoch 1 --cpu --dry-run      # print the fairseq-train commands
"""


class _Parser(argparse.ArgumentParser):
    """Its help names what ``--arch`` can be, which takes importing torch: only then."""

    arch: argparse.Action

    def format_help(self) -> str:
        from mlvl_fairseq.networks import NETWORKS

        known = [name for _, network in sorted(NETWORKS.items()) for name in network.language_architectures]
        self.arch.help = f"dimensions: {', '.join(known)} (default: %(default)s)"
        return super().format_help()


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("corpus", nargs="?", help="corpus folder with teacher features (mlvl-prepare)")
    parser.add_argument("run_dir", nargs="?", help="folder of the run: checkpoints, logs, scores")
    parser.add_argument("--list-methods", action="store_true", help="list the methods and exit")
    parser.add_argument(
        "--method",
        default="cll_clip_with_usage_share",
        help="a row of --list-methods, or rows that work together, as in er+oewc (default: %(default)s)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="default",
        help="reference: with the quirks of the published code (docs/methods.md); default: as the methods are meant",
    )
    parser.add_argument(
        "--order",
        help=f"a comma list, or {', '.join(ORDERS)}: 36 languages each, those of XM3600 by the alphabet or in the "
        "published order, or those of the picture world (default: as the corpus was prepared)",
    )
    parser.arch = parser.add_argument("--arch", default="clip_vit_b32")
    parser.add_argument("--init-from", metavar="PATH", help="weights to start from, usually the teacher's")
    parser.add_argument("--max-epoch", type=positive, default=3, help="epochs a language (default: %(default)s)")
    parser.add_argument("--max-update", type=not_negative, default=0, help="updates a language at most; 0: no limit")
    parser.add_argument(
        "--batch-size", type=positive, default=128, help="captions a batch and rank (default: %(default)s)"
    )
    parser.add_argument(
        "--lr",
        type=positive_number,
        default=5e-5,
        help="learning rate; the default is for a pre-trained CLIP, towers from scratch need a larger one, e.g. 3e-3 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--warmup-ratio",
        type=share,
        default=0.1,
        help="share of a language's updates to warm up (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="of batches and of everything that is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--eval-split",
        help="split of the score matrix (default: test if the corpus has it, else valid); of a finished run, another "
        "one is evaluated without training: mlvl-report --split shows it",
    )
    parser.add_argument(
        "--whole-checkpoints",
        action="store_true",
        help="keep all weights in the checkpoint of every language, so that each can be copied alone; by default, "
        "those between the first and the last keep what has changed since the one before (docs/scale.md)",
    )
    parser.add_argument(
        "--launch",
        default="",
        metavar="COMMAND",
        help="a command that starts fairseq-train on all ranks of a training, on several machines, too, e.g. "
        "'srun torchrun --nnodes 4 --nproc-per-node 8 ...' (docs/scale.md); goes with --distributed-world-size",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    parser = build_parser()
    args, extra = parser.parse_known_args(argv)
    if args.list_methods:
        for name, about in list_methods().items():
            print(f"{name:32} {about}")
        return
    if args.corpus is None or args.run_dir is None:
        parser.error("give a corpus and a run folder (or --list-methods)")
    for name, path in (("corpus", args.corpus), ("run folder", args.run_dir), ("--init-from", args.init_from or "")):
        refuse_reference(os.path.abspath(path), name)
    method, protocol = method_name(args.method), method_protocol(args.method)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of a job

    from mlvl_fairseq.continual.run import run_sequence
    from mlvl_fairseq.continual.sequence import Sequence, Settings
    from mlvl_fairseq.data.corpus import Corpus

    corpus = Corpus(args.corpus)
    settings = Settings(
        method=method,
        preset=args.preset,
        protocol=protocol,
        languages=language_order(args.order) if args.order else corpus.languages("train"),
        corpus=os.path.abspath(args.corpus),
        init_from=args.init_from and os.path.abspath(args.init_from),
        arch=args.arch,
        max_epoch=args.max_epoch,
        max_update=args.max_update,
        batch_size=args.batch_size,
        lr=args.lr,
        warmup_ratio=args.warmup_ratio,
        seed=args.seed,
        eval_split=args.eval_split or ("test" if "test" in corpus.manifest["splits"] else "valid"),
        extra=extra,
    )
    sequence = Sequence(args.run_dir, settings, args.whole_checkpoints, args.launch)
    if args.dry_run:
        for step in range(len(sequence.steps)):
            print(sequence.command(step, corpus))
        return
    run_sequence(sequence, corpus)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
