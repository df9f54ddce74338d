"""Where does the time of a continual-learning update go?

Runs the parts of one `cll_retrieval` update (dataset and collater, text tower, losses, fairseq's gradient scaling and
clipping, optimizer) on captions of realistic lengths and cached teacher features, and prints each part's share.

    python benchmarks/cll_step.py --arch clip_vit_b32 --updates 5
    python benchmarks/cll_step.py --arch clip_tiny --updates 50 --scaled
"""

import argparse
import time
from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
from fairseq import utils

import mlvl_fairseq
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.data.caption_dataset import CaptionDataset
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.models.clip_architectures import ARCHITECTURES
from mlvl_fairseq.modules.clip_text import CLIPTextTower
from mlvl_fairseq.optim.row_adamw import RowAdamW, RowScales, set_row_scales

VOCABULARY, CLIP_EOS = 60_000, 49_407
CAPTIONS, IMAGES = 20_000, 5_000


def build_dataset(embed_dim: int, mean_length: int) -> CaptionDataset:
    random = np.random.default_rng(1)
    lengths = np.clip(random.gamma(4.0, mean_length / 4, CAPTIONS).astype(int), 4, 75)
    tokens = [torch.from_numpy(random.integers(0, 49_406, size).astype(np.int32)) for size in lengths]
    rows = np.stack([random.integers(0, IMAGES, CAPTIONS), np.arange(CAPTIONS)], axis=1).astype(np.int32)
    images, english = (random.standard_normal((n, embed_dim)).astype(np.float32) for n in (IMAGES, CAPTIONS))
    return CaptionDataset(tokens, lengths, rows, CLIP_EOS - 1, CLIP_EOS, images, english, shuffle=True)


def build_model(config: ClipConfig) -> ClipModel:
    tower = CLIPTextTower(VOCABULARY, config.text_width, config.text_layers, config.text_heads, config.embed_dim)
    model = ClipModel(tower, vision=None)
    model.freeze(r"^text\.(?!token_embedding\.)", leave_out=False)
    return model.train()


@contextmanager
def timed(seconds: dict, part: str):
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start


def update(dataset, batch, model, criterion, optimizer, parameters, seconds) -> None:
    """One update, part by part. The tower's backward pass is taken apart from that of the losses."""
    with timed(seconds, "data: rows, padding, EOS positions"):
        sample = dataset.collater([dataset[i] for i in batch])
    with timed(seconds, "text tower forward"):
        text = model(**sample["net_input"])["text"]
    with timed(seconds, "losses"):
        leaf = text.detach().requires_grad_()
        loss, rows, _ = criterion.losses(model, {"text": leaf, "image": sample["image_features"]}, sample)
        loss.backward()
    with timed(seconds, "text tower backward"):
        text.backward(leaf.grad)
    with timed(seconds, "gradient scaling and clipping"):
        for parameter in parameters:
            parameter.grad.mul_(1 / rows)
        utils.clip_grad_norm_(parameters, 1.0)
    with timed(seconds, "optimizer"):
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_vit_b32", choices=ARCHITECTURES)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--mean-length", type=int, default=16, help="mean caption length in tokens")
    parser.add_argument("--scaled", action="store_true", help="TEIR's scaled step instead of naive fine-tuning")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    mlvl_fairseq.register()

    config = ClipConfig(**{k: v for k, v in ARCHITECTURES[args.arch].items() if k != "image_tower"})
    dataset, model = build_dataset(config.embed_dim, args.mean_length), build_model(config)
    weight = model.text.token_embedding.weight
    if args.scaled:
        scale = torch.zeros(VOCABULARY)
        scale[torch.randperm(49_406)[:8_000]] = 0.5
        set_row_scales(weight, RowScales(update=scale, decay=scale))
    criterion = CllClipCriterion(CllClipCriterionConfig(), SimpleNamespace(position=0))
    parameters = [weight, criterion.temperature]
    optimizer = RowAdamW(parameters, 5e-5)

    order = iter(dataset.ordered_indices().reshape(-1)[: (args.updates + 1) * args.batch_size])
    batches = [[next(order) for _ in range(args.batch_size)] for _ in range(args.updates + 1)]
    update(dataset, batches[0], model, criterion, optimizer, parameters, defaultdict(float))
    seconds: dict = defaultdict(float)
    for batch in batches[1:]:
        update(dataset, batch, model, criterion, optimizer, parameters, seconds)
    print_table(args, seconds)


def print_table(args, seconds: dict) -> None:
    total = sum(seconds.values())
    name = "scaled step" if args.scaled else "naive"
    print(f"{args.arch}, {name}, batch {args.batch_size}, {args.threads} thread(s), {args.updates} updates\n")
    print("| part | ms an update | share |\n|---|---:|---:|")
    for part, spent in seconds.items():
        print(f"| {part} | {1e3 * spent / args.updates:.1f} | {100 * spent / total:.1f} % |")
    tower = seconds["text tower forward"] + seconds["text tower backward"]
    small = seconds["data: rows, padding, EOS positions"] + seconds["losses"]
    print(f"| **text tower, both passes** | {1e3 * tower / args.updates:.1f} | {100 * tower / total:.1f} % |")
    print(f"| **data and losses** | {1e3 * small / args.updates:.1f} | {100 * small / total:.1f} % |")


if __name__ == "__main__":
    main()
