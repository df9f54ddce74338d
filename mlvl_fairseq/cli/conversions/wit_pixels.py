"""IGLUE's lists of WIT, with the pictures of Wikimedia's tables."""

from pathlib import Path

from mlvl_fairseq.cli.conversions.base import Conversion, register_conversion


@register_conversion("wit-pixels")
class WitPixels(Conversion):
    help = "IGLUE's lists of WIT with the pictures out of Kaggle's tables of pixels, joined by URL"
    description = (
        "OUT/images has the pictures, OUT/NAME.jsonl each list's lines that have one. OUT is then an --image-root. "
        "Lines without pixels are left out. Pictures under https where a list has http, or the other way, are taken. "
        "Both are counted."
    )

    def add_inputs(self, parser):
        parser.add_argument(
            "annotations", nargs="+", help="lists as IGLUE has them (test_ar.jsonl), or with image_content in them"
        )

    def add_options(self, parser):
        parser.add_argument(
            "--pixels",
            nargs="+",
            default=[],
            metavar="TABLE",
            help="tables (tab separated: URL, base64) or folders of such, e.g. image_data_test/image_pixels",
        )
        parser.add_argument(
            "--exact-urls", action="store_true", help="take http and https for different addresses, as published"
        )
        parser.add_argument(
            "--embed",
            action="store_true",
            help="write lists only, with pictures as image_content in their lines, as CCLM's published code does; "
            "implies --exact-urls",
        )

    def convert(self, args) -> Path:
        from mlvl_fairseq.data.captions.wit import add_pixels, embed_pixels

        if args.embed:
            return embed_pixels(args.annotations, args.pixels, args.out).files[0]
        return add_pixels(args.annotations, args.pixels, args.out, args.exact_urls).files[0]
