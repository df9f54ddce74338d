"""What the evaluations of a sequence cost: of N languages, N (N + 1) / 2.

Measures the parts of one evaluation with random weights in one CPU thread: encoding captions, of which some are
measured and the time is scaled, comparing with the evaluation before (a digest of all that the captions go through),
and ranking in both directions. Then the same for a whole sequence, and for one in which nothing changes for the
languages before, as where only adapters of each language train.

    python benchmarks/sequence_evaluation.py                                   # a B/16's text tower, 3,600 images
    python benchmarks/sequence_evaluation.py --arch clip_tiny --languages 7
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clip_training import dimensions  # noqa: E402

from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary  # noqa: E402
from mlvl_fairseq.evaluation.metrics.retrieval import rank_queries  # noqa: E402
from mlvl_fairseq.inference.encoder import Encoder  # noqa: E402
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower  # noqa: E402
from mlvl_fairseq.networks.clip import ClipNetwork  # noqa: E402


def random_encoder(arch: str) -> Encoder:
    size, tokenizer = dimensions(arch), ClipTokenizer(clip_vocabulary())
    torch.manual_seed(0)
    tower = CLIPTextTower(len(tokenizer), size.text_width, size.text_layers, size.text_heads, size.embed_dim)
    return Encoder(ClipNetwork(tower, None).eval(), tokenizer, "", [], "random")


def random_captions(number: int, words: int) -> list:
    """Of CLIP's own words, between half and one and a half times as many."""
    rng = np.random.default_rng(1)
    tokens = [token.removesuffix("</w>") for token in clip_vocabulary().tokens if token.endswith("</w>")]
    known = rng.choice([token for token in tokens if token.isascii() and token.isalpha()], 2000, replace=False)
    return [" ".join(rng.choice(known, rng.integers(words // 2, words * 3 // 2 + 1))) for _ in range(number)]


def cpu_seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_vit_b16", help="whose text tower (default: %(default)s)")
    parser.add_argument("--languages", type=int, default=36, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=3600, help="default: %(default)s")
    parser.add_argument("--captions-per-image", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--words", type=int, default=10, help="of a caption (default: %(default)s)")
    parser.add_argument("--encoded", type=int, default=512, help="captions that are encoded (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder, number = random_encoder(args.arch), args.images * args.captions_per_image
    captions = random_captions(number, args.words)
    encoder.encode_texts(captions[:8])  # the first one allocates
    encode = cpu_seconds(lambda: encoder.encode_texts(captions[: args.encoded])) * number / args.encoded
    compare = cpu_seconds(lambda: encoder.text_fingerprint(captions))
    rng = np.random.default_rng(2)
    texts, images = (
        rng.standard_normal((rows, encoder.embed_dim)).astype(np.float32) for rows in (number, args.images)
    )
    rows = np.repeat(np.arange(args.images), args.captions_per_image)
    rank = cpu_seconds(lambda: rank_queries(images, texts, rows))
    tokens = np.mean([len(ids) for ids in encoder.tokenize(captions)])
    every, whole = args.languages * (args.languages + 1) // 2, encode + compare + rank
    print(f"{args.arch}, {args.images:,} images, {number:,} captions of {tokens:.1f} tokens, one thread, CPU seconds")
    print(f"(encoding: {args.encoded} captions measured); torch {torch.__version__}\n")
    print("| | encode | compare | rank | together |\n|---|---:|---:|---:|---:|")
    for name, times, encoded in (
        ("one evaluation", 1, 1),
        (f"{every} evaluations, {args.languages} languages", every, every),
        ("the same, nothing changed for languages before", every, args.languages),
    ):
        parts = (encoded * encode, times * compare, encoded * rank)
        print(f"| {name} | {' | '.join(f'{part:,.1f}' for part in parts)} | {sum(parts):,.1f} |")
    print(f"\ncomparing is {compare / whole:.1%} of an evaluation")


if __name__ == "__main__":
    main()
