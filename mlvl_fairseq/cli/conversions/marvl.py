"""MaRVL's lists in the form of NLVR2's."""

from pathlib import Path

from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("marvl")
class Marvl(Conversion):
    help = "IGLUE's lists of MaRVL in the form of NLVR2's, as CCLM's published code makes them"
    description = (
        "OUT/NAME.json for each NAME.jsonl: sentence, label and the paths of two images, from the folder that has "
        "images/marvl-images and images/marvl_fewshot. fairseq-train and mlvl-evaluate read the lists as they are, "
        "too."
    )

    def add_inputs(self, parser):
        parser.add_argument("annotations", nargs="+", help="marvl-id.jsonl, marvl-id_train10.jsonl, ...")

    def convert(self, args) -> Path:
        from mlvl_fairseq.data.examples.marvl_lists import write_marvl_lists

        return write_marvl_lists(args.annotations, args.out)[0]
