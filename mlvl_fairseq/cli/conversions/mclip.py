"""Released checkpoints of mCLIP (Chen et al. 2023)."""

from pathlib import Path

from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("mclip")
class Mclip(Conversion):
    help = "mclip_base.pt and mclip_plus_base.pt as released"
    description = (
        "A released checkpoint of mCLIP (Chen et al. 2023) as projectors of model trikd, its text encoder and its "
        "CLIP: OUT/trikd.pt, OUT/mte.pt, OUT/clip.pt. Nothing in the file is executed."
    )
    checkpoint = "mclip_base.pt or mclip_plus_base.pt"

    def add_options(self, parser):
        parser.add_argument(
            "--sentencepiece",
            required=True,
            metavar="FOLDER",
            help="XLM-R's folder with sentencepiece.bpe.model and dict.txt",
        )
        parser.add_argument("--mte", metavar="PATH", help="the text encoder to use, where the file does not hold it")
        parser.add_argument("--clip", metavar="PATH", help="the CLIP to use, where the file does not hold it")
        parser.add_argument(
            "--activation",
            choices=("quick_gelu", "gelu"),
            help="of --clip, where its file does not say it: quick_gelu (OpenAI's) or gelu (most of open_clip's)",
        )

    def convert(self, args) -> Path:
        from mlvl_fairseq.checkpoints.formats.mclip import convert_mclip

        return convert_mclip(args.checkpoint, args.out, args.sentencepiece, args.mte, args.clip, args.activation)
