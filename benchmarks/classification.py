"""Classification of 10,000 images among 1,000 classes: what memory grows with, and what it costs beside a plain loop.

A tiny CLIP (random weights) on random pictures of 32 x 32. `mlvl-evaluate classification` keeps one vector an image and
one a class. The plain loop does the same work without our code: a DataLoader, the towers, normalised features of all
images and of all prompts, the whole matrix of scores, torch's topk. Both rank the same images: accuracies are compared.
Each runs in a process of its own; memory is the peak beyond model and pictures, time is CPU time of one thread.

    python benchmarks/classification.py                     # about five minutes
    python benchmarks/classification.py --images 2000 --patches 16 --templates 1 7
"""

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from peak_memory import measure  # noqa: E402

from mlvl_fairseq.data.classification.base import LabelledImages, labelled  # noqa: E402
from mlvl_fairseq.data.classification.kinds.imagenet import imagenet_names  # noqa: E402
from mlvl_fairseq.data.classification.pictures import ArrayPictures  # noqa: E402
from mlvl_fairseq.data.classification.prompts import fill, read_templates  # noqa: E402
from mlvl_fairseq.evaluation.metrics.classification import accuracies, classify  # noqa: E402
from mlvl_fairseq.fairseq_patches import import_clip  # noqa: E402
from mlvl_fairseq.inference import Encoder  # noqa: E402
from mlvl_fairseq.inference.class_vectors import class_vectors  # noqa: E402

SIZE, WIDTH, EMBED_DIM, CONTEXT, BATCH, VOCABULARY = 32, 64, 64, 16, 64, 49408


class Outcome(NamedTuple):
    """CPU seconds of images and of prompts, and top-1, top-5 and top-10 in %."""

    images: float
    prompts: float
    top: List[float]


def write_clip(path: Path, patch: int) -> None:
    torch.manual_seed(0)
    state = import_clip().model.CLIP(EMBED_DIM, SIZE, 2, WIDTH, patch, CONTEXT, VOCABULARY, WIDTH, 1, 1).state_dict()
    torch.save({**state, "context_length": torch.tensor(CONTEXT)}, path)


def random_pictures(images: int) -> LabelledImages:
    """Pictures of a colour and noise, so that features differ."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (images, 1, 1, 3), np.uint8)
    pixels = colours + rng.integers(0, 56, (images, SIZE, SIZE, 3), np.uint8)
    pictures, names = ArrayPictures("random pictures", pixels), list(imagenet_names().values())
    labels = np.arange(images) % len(names)
    return labelled("random pictures", pictures, pictures.names(), labels, list(imagenet_names()), names)


def ours(encoder: Encoder, images: LabelledImages, templates: List[str]) -> Outcome:
    began = time.process_time()
    features = encoder.encode_image_dataset(images.dataset(encoder.preprocess), images.images, BATCH)
    between = time.process_time()
    classes = class_vectors(encoder, images.names, templates, "en")
    ranks = classify(features, classes, images.labels).ranks
    ended = time.process_time()
    found = accuracies(ranks, images.labels, len(images.names))
    return Outcome(between - began, ended - between, [found[f"top{k}"] for k in (1, 5, 10)])


@torch.no_grad()
def plain(encoder: Encoder, images: LabelledImages, templates: List[str]) -> Outcome:
    from torch.nn.functional import normalize
    from torch.utils.data import DataLoader

    began = time.process_time()
    dataset = images.dataset(encoder.preprocess)
    batches = DataLoader(dataset, BATCH, collate_fn=lambda batch: torch.stack([one.pixels for one in batch]))
    features = normalize(torch.cat([encoder.network.encode_image(pixels).vector for pixels in batches]), dim=1)
    between = time.process_time()
    prompts = [fill(template, name) for name in images.names for template in templates]
    tokens = encoder.tokenize(prompts)
    each = [encoder.text_features(tokens[start : start + 256]) for start in range(0, len(tokens), 256)]
    classes = normalize(torch.cat(each), dim=1).view(len(images.names), len(templates), -1).mean(1)
    best = (features @ normalize(classes, dim=1).T).topk(10, dim=1).indices
    hits = (best == torch.as_tensor(images.labels)[:, None]).float()
    ended = time.process_time()
    return Outcome(between - began, ended - between, [100 * float(hits[:, :k].sum(1).mean()) for k in (1, 5, 10)])


WAYS = {"ours": ours, "plain loop": plain}


def run(way: Callable, checkpoint: Path, images: LabelledImages, templates: List[str], start: Callable) -> Outcome:
    encoder = Encoder.load(checkpoint)
    few = images.of_classes(range(len(images.keys)))
    way(encoder, few.without(set(few.images[64:])), templates[:1])  # loads what libraries load late
    start()
    return way(encoder, images, templates)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--patches", type=int, nargs="+", default=[16, 8, 4], help="sides of patches; default 16 8 4")
    parser.add_argument("--templates", type=int, nargs="+", default=[1, 7, 80], help="prompts a class; default 1 7 80")
    args = parser.parse_args(argv)
    images, prompts = random_pictures(args.images), read_templates("openai", "en", ["imagenet"])
    print("| tokens an image | prompts a class | way | extra MiB | all tokens' states, MiB | images, s | classes, s |")
    print("|--:|--:|---|--:|--:|--:|--:|")
    cases = [(patch, args.templates[0]) for patch in args.patches]
    cases += [(args.patches[0], templates) for templates in args.templates[1:]]
    with tempfile.TemporaryDirectory() as folder:
        for patch, templates in cases:
            checkpoint, tokens = Path(folder) / f"{patch}.pt", (SIZE // patch) ** 2 + 1
            write_clip(checkpoint, patch)
            states = args.images * tokens * WIDTH * 4 / 2**20
            found = {}
            for name, way in WAYS.items():
                memory, outcome = measure(partial(run, way, checkpoint, images, prompts[:templates]))
                found[name] = outcome
                times = f"{outcome.images:.1f} | {outcome.prompts:.1f}"
                print(f"| {tokens} | {templates} | {name} | {memory:,.0f} | {states:,.0f} | {times} |", flush=True)
            one, other = found.values()
            assert np.allclose(one.top, other.top, atol=0.05), (one.top, other.top)
            ratios = f"{one.images / other.images:.2f} | {one.prompts / other.prompts:.2f}"
            print(f"| {tokens} | {templates} | ours / plain loop | | | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
