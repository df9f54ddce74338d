"""Checkpoints that CCLM's published code wrote (Zeng et al. 2023)."""

from pathlib import Path

from mlvl_fairseq.cli.common import positive
from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("cclm")
class Cclm(Conversion):
    help = "CCLM's 3M and 4M, its fine-tuned models, X-VLM's, as their published code writes them"
    description = (
        "A checkpoint of CCLM (Zeng et al. 2023), pre-trained or fine-tuned for retrieval, XVNLI, xGQA or MaRVL, or of "
        "X-VLM (Zeng et al. 2022), with a Swin, as one of model cclm with the published preparation of captions and "
        "pictures: OUT/cclm.pt. What its encoders and heads are is found from the names and shapes of its tensors and "
        "has to agree with the configuration in it. Nothing in the file is executed."
    )
    checkpoint = "model_state_epoch_29.th, checkpoint_best.pth, or another one of these"

    def add_options(self, parser):
        parser.add_argument(
            "--sentencepiece",
            metavar="FOLDER",
            help="tokenizer of a CCLM: folder of xlm-roberta-large with sentencepiece.bpe.model",
        )
        parser.add_argument(
            "--wordpiece", metavar="FOLDER", help="tokenizer of an X-VLM: folder with vocab.txt or tokenizer.json"
        )
        parser.add_argument(
            "--text-heads",
            type=positive,
            metavar="N",
            help="attention heads of the text encoder, where its width is none of the published ones",
        )

    def convert(self, args) -> Path:
        from mlvl_fairseq.networks.cclm_import import convert_cclm

        return convert_cclm(args.checkpoint, args.out, args.sentencepiece, args.wordpiece, args.text_heads)
