"""`mlvl-evaluate`: image-text retrieval scores of a model on a caption file, with the signature to compare them by.

txt_*: image to text; img_*: text to image; R@1/5/10 in %; r_mean: the mean of the six.
"""

import argparse
import json
from typing import List, Optional

EPILOG = """\
examples:
  mlvl-evaluate --checkpoint runs/teir/06-ar/checkpoint_best.pt --captions val.nl.json --lang nl \\
      --image-features val.npy --image-list val.txt
  mlvl-evaluate --checkpoint ViT-B-32.pt --captions test.de.json --lang de --image-root images --json scores.json
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="checkpoint of this plugin, official CLIP file or Hugging Face folder",
    )
    parser.add_argument("--init-from", metavar="PATH", help="the checkpoint's frozen weights, if they were moved")
    parser.add_argument("--captions", required=True, metavar="FILE", help="caption file (json, triplets, ...)")
    parser.add_argument("--lang", required=True, help="language of the captions")
    parser.add_argument("--split", default="test", help="name of the split, for the signature (default: %(default)s)")
    images = parser.add_argument_group("images (one of both)")
    images.add_argument("--image-root", metavar="DIR", help="folder of the images")
    images.add_argument(
        "--image-features",
        metavar="FILE.npy",
        help="features of the images: what the model's image head takes, or "
        "features of the model's own space if it has no head",
    )
    images.add_argument("--image-list", metavar="FILE.txt", help="with --image-features: their image names, one a line")
    parser.add_argument(
        "--n-fold", type=int, default=1, help="average over N parts of the images (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images a batch (default: %(default)s)")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read images (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument("--json", metavar="OUT", help="write the scores here, too")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.data.atomic_files import write_json
    from mlvl_fairseq.data.captions import read_captions
    from mlvl_fairseq.errors import UserError
    from mlvl_fairseq.inference.encoder import Encoder
    from mlvl_fairseq.inference.retrieval_score import score_retrieval

    if bool(args.image_root) == bool(args.image_features) or bool(args.image_list) != bool(args.image_features):
        raise UserError("give either --image-root DIR or --image-features FILE.npy with --image-list FILE.txt")
    table = read_captions(args.captions)
    encoder = Encoder.load(args.checkpoint, args.init_from, args.device)
    features = encode_images(encoder, table.images, args)
    scores = score_retrieval(
        encoder, features, table.images, table.captions, table.image_rows, args.lang, args.split, args.n_fold
    )
    print(json.dumps(scores, indent=1))
    if args.json:
        write_json(args.json, scores)


def encode_images(encoder, names: List[str], args):
    """float32 [images, embed_dim] in the order of `names`."""
    if args.image_features:
        from mlvl_fairseq.data.feature_import import import_features

        return encoder.encode_features(import_features(args.image_features, args.image_list, names))
    return encoder.encode_image_files(args.image_root, names, args.batch_size, args.num_workers)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
