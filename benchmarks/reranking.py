"""Second stage of CCLM's retrieval: pairs in batches, against one query at a time as published.

Random weights, random images (as states, 145 of them, which is what a Swin gives at 384 pixels), random captions of 6
to 40 tokens, 16 on average. As published (Zeng et al. 2023, its evaluation): captions are padded to 40 tokens; for each
query its candidates go through the fusion encoder with keys and values computed for every pair, all layers for all
positions; both directions by themselves. What `mlvl-evaluate rerank` does differently is taken over a step at a time:

* the last layer computes the first position only
* keys and values once an image
* captions of one length together, without padding
* a pair that both directions ask for is scored once, and texts of one length go together (what the command runs)

Each step runs in a process of its own, captions' text layers included (images' are not: they are the same); time is
CPU time of one thread, memory the peak beyond model, images and captions. All scores must be equal to 1e-5.

    python benchmarks/reranking.py small        # 100 images, 500 captions, all queries, k = 32: about two minutes
    python benchmarks/reranking.py base         # base size: 10 images and 10 captions ask for 32 candidates each
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, List, NamedTuple, Optional
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from peak_memory import measure  # noqa: E402

from mlvl_fairseq.inference.encoder import Encoder, pad_right  # noqa: E402
from mlvl_fairseq.inference.matching import match_pairs  # noqa: E402
from mlvl_fairseq.modules import packing  # noqa: E402
from mlvl_fairseq.modules.towers.bert import XlmrTowerConfig  # noqa: E402
from mlvl_fairseq.modules.towers.features import FeatureGridConfig  # noqa: E402
from mlvl_fairseq.networks.base import Encoded  # noqa: E402
from mlvl_fairseq.networks.cclm import MATCH, CclmNetwork  # noqa: E402

PATCHES, LONGEST, VOCABULARY, PAD = 144, 40, 1000, 1  # a vocabulary's size is nothing to the fusion encoder


class Size(NamedTuple):
    """Width, heads and layers (of text tower and fusion encoder each); images, captions, and how many of them ask."""

    width: int
    heads: int
    layers: int
    images: int
    captions: int
    asking_images: int
    asking_captions: int
    k: int


SIZES = {"small": Size(128, 4, 2, 100, 500, 100, 500, 32), "base": Size(1024, 16, 6, 32, 160, 10, 10, 32)}


class Work(NamedTuple):
    """Network, states of all images, tokens of all captions; pairs of both directions, query by query."""

    encoder: Encoder
    images: Encoded
    tokens: List[List[int]]
    of_images: np.ndarray  # [queries, k], captions
    of_captions: np.ndarray  # [queries, k], images


def make(size: Size) -> Work:
    """Candidates are those of random vectors that are alike in both directions, as those of a trained model are."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    text = XlmrTowerConfig(VOCABULARY, size.width, size.layers, size.heads, max_positions=64)
    network = CclmNetwork(FeatureGridConfig(PATCHES, size.width).build(), text.build(), 64, size.layers).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    lengths = np.clip(np.round(rng.normal(16, 4, size.captions)), 6, LONGEST).astype(int)
    tokens = [[0, *rng.integers(4, VOCABULARY, length - 2).tolist(), 2] for length in lengths]
    tokenizer = SimpleNamespace(pad=PAD, name="ids", of_language=lambda lang: tokenizer)
    tokenizer.tokenize = lambda captions, longest: [tokens[row] for row in captions]
    vectors = rng.standard_normal((size.images, 16))
    similar = vectors @ (vectors[np.arange(size.captions) % size.images] + rng.standard_normal((size.captions, 16))).T
    order = [np.argsort(-side, axis=1)[:, : size.k] for side in (similar, similar.T)]
    images = network.encode_image(torch.randn(size.images, PATCHES, size.width))
    encoder = Encoder(network, tokenizer, "random", [], "random weights")
    return Work(encoder, images, tokens, order[0][: size.asking_images], order[1][: size.asking_captions])


def ours(work: Work) -> np.ndarray:
    """Scores of all images' candidates, then of all captions'."""
    asking = [np.repeat(np.arange(len(part)), part.shape[1]) for part in (work.of_images, work.of_captions)]
    images = np.concatenate([asking[0], work.of_captions.ravel()])
    texts = np.concatenate([work.of_images.ravel(), asking[1]])
    states = lambda rows: Encoded(work.images.vector[rows], work.images.states[rows])  # noqa: E731
    return match_pairs(work.encoder, states, range(len(work.tokens)), None, images, texts)


@torch.inference_mode()
def one_query_at_a_time(work: Work, first_position: bool, keys_once: bool, padded: bool) -> np.ndarray:
    """The same scores."""
    network, kept = work.encoder.network, {}
    texts = [_encode(work, batch, padded) for batch in np.array_split(np.arange(len(work.tokens)), 10)]
    texts = [text for batch in texts for text in batch]

    def views(images: np.ndarray):
        if not keys_once:
            return network.image_keys_values(Encoded(work.images.vector[images], work.images.states[images]))
        for image in set(images.tolist()) - kept.keys():
            kept[image] = network.image_keys_values(Encoded(work.images.vector[:1], work.images.states[image][None]))
        if len(set(images.tolist())) == 1:
            return kept[int(images[0])][torch.zeros(len(images), dtype=torch.long)]
        layers = zip(*(kept[int(image)].layers for image in images))
        return type(kept[int(images[0])])([tuple(map(torch.cat, zip(*layer))) for layer in layers])

    def score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        found = np.empty(len(captions), np.float32)
        lengths = np.array([len(texts[caption][1]) for caption in captions])
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            states, masks = (torch.stack(parts) for parts in zip(*(texts[captions[row]] for row in same)))
            at = torch.zeros(len(same), 1, dtype=torch.long) if first_position else None
            with patch.object(packing, "GROUPED", ()):  # padding is computed where there is some
                fused = network.fusion(states, masks, views(images[same]), at)
            found[same] = network.itm_head(fused[:, 0])[:, MATCH].numpy()
        return found

    found = [score(np.full(row.shape, image), row) for image, row in enumerate(work.of_images)]
    found += [score(row, np.full(row.shape, caption)) for caption, row in enumerate(work.of_captions)]
    return np.concatenate(found)


def _encode(work: Work, rows: np.ndarray, padded: bool) -> list:
    """States and mask of each caption."""
    longest = [[PAD] * LONGEST] if padded else []
    tokens, ends = pad_right([work.tokens[row] for row in rows] + longest, PAD)
    encoded = work.encoder.network.encode_text(tokens[: len(rows)], ends[: len(rows)])
    ends = [LONGEST if padded else len(work.tokens[row]) for row in rows]
    return [(encoded.states[place, :end], encoded.mask[place, :end]) for place, end in enumerate(ends)]


STEPS = {
    "as published": partial(one_query_at_a_time, first_position=False, keys_once=False, padded=True),
    "+ last layer at one position": partial(one_query_at_a_time, first_position=True, keys_once=False, padded=True),
    "+ keys and values once an image": partial(one_query_at_a_time, first_position=True, keys_once=True, padded=True),
    "+ no padding": partial(one_query_at_a_time, first_position=True, keys_once=True, padded=False),
    "+ shared pairs: the command": ours,
}


def run(step: Callable, work: Work, start: Callable):
    start()
    began = time.process_time()
    scores = step(work)
    return time.process_time() - began, scores


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("-k", type=int, help="candidates of each query")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = SIZES[args.size]._replace(**{"k": args.k} if args.k else {})
    work = make(size)
    asked = work.of_images.size + work.of_captions.size
    print(f"{size}; {asked} pairs are asked for\n")
    print("| step | CPU s | faster than published | than the step before | extra MiB | largest difference |")
    print("|---|--:|--:|--:|--:|--:|")
    first = before = None
    for name, step in STEPS.items():
        memory, (seconds, scores) = measure(partial(run, step, work))
        first, before = first or (seconds, scores), before or seconds
        apart = float(np.abs(scores - first[1]).max())
        ratios = f"{first[0] / seconds:.2f}x | {before / seconds:.2f}x"
        print(f"| {name} | {seconds:.1f} | {ratios} | {memory:,.0f} | {apart:.1e} |", flush=True)
        assert apart < 1e-5, name
        before = seconds


if __name__ == "__main__":
    main()
