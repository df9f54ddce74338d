"""Checkpoints that LilT's published code wrote (Khan and Fu 2023)."""

from pathlib import Path

from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("lilt")
class Lilt(Conversion):
    help = "checkpoint_14.pth as LilT's published code writes it"
    description = (
        "A checkpoint of LilT (Khan and Fu 2023) as one of model dual_encoder with the published preparation of "
        "captions and pictures: OUT/lilt.pt. What its towers are, adapters and appended blocks included, is found from "
        "the names and shapes of its tensors and has to agree with the configuration in it. Nothing in the file is "
        "executed."
    )
    checkpoint = "checkpoint_14.pth, or that of another epoch"

    def add_options(self, parser):
        parser.add_argument(
            "--wordpiece",
            required=True,
            metavar="DIR",
            help="tokenizer of the text tower: folder with vocab.txt or tokenizer.json",
        )
        for side, example in (("image", "vit_base_dino"), ("text", "bert_base_mlm")):
            parser.add_argument(
                f"--{side}-tower",
                metavar="NAME",
                help=f"the {side} tower, e.g. {example} (default: what the file's configuration says, or else the "
                "first published one of its size)",
            )
            parser.add_argument(
                f"--{side}-heads",
                type=int,
                metavar="N",
                help=f"attention heads of the {side} tower, where its width is none of the published ones",
            )

    def convert(self, args) -> Path:
        from mlvl_fairseq.networks.lilt_import import convert_lilt

        towers = args.image_tower, args.text_tower, args.image_heads, args.text_heads
        return convert_lilt(args.checkpoint, args.out, args.wordpiece, *towers)
