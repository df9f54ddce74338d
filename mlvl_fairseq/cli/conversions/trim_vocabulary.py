"""XLM-R's vocabulary cut to what texts use."""

from pathlib import Path

from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("trim-vocabulary")
class TrimVocabulary(Conversion):
    help = "a model over XLM-R's pieces, without those that texts do not use"
    description = (
        "A checkpoint of this plugin, or an XLM-R folder, with only those pieces of its vocabulary that texts use. OUT "
        "is an XLM-R folder: tokenizer, weights, and original_ids.txt, line k of which (from 0) is the id that k was. "
        "These texts get the same vectors as before. Others are cut into smaller pieces, or lose some to <unk>: "
        "--held-out counts it."
    )
    checkpoint = "checkpoint of this plugin with a SentencePiece tokenizer, XLM-R folder of fairseq or Hugging Face"

    def add_inputs(self, parser):
        super().add_inputs(parser)
        parser.add_argument(
            "texts",
            nargs="+",
            help="corpora of mlvl-prepare (their training captions), files or folders of JSON lines or tar archives as "
            "fairseq-train --task cclm_pretraining takes them, or text files, one sentence a line",
        )

    def add_options(self, parser):
        parser.add_argument(
            "--sentencepiece",
            metavar="FOLDER",
            help="the tokenizer, where it is neither in the folder nor where the checkpoint says",
        )
        parser.add_argument(
            "--held-out", nargs="+", default=[], metavar="TEXTS", help="texts that what is lost is counted on"
        )
        parser.add_argument(
            "--cleaning",
            help="what is done to texts before an XLM-R folder reads them, e.g. cclm; a checkpoint says it itself",
        )

    def convert(self, args) -> Path:
        from mlvl_fairseq.networks.vocabulary_trimming import trim_vocabulary

        files = args.checkpoint, args.texts, args.out, args.sentencepiece, args.held_out
        return trim_vocabulary(*files, cleaning=args.cleaning)
