"""What an update of CLIP's text tower takes without padding, against the same tower with it, and the arithmetic alone.

Forward and backward pass of a random tower of which, as in continual learning, the token embedding trains, on batches
of captions: padded to the longest, in four groups of like length (what was done before captions were packed), and
packed as the model does it, with `--compile` also as a model with that option does it; in float32 and in bfloat16
autocast. Ways take turns on the same batches, CPU seconds of
one thread; medians over batches. `arithmetic` is what the matrix products alone need, without padding, at the rate that
is measured on one of them, in turn with the rest. `apart`: the largest difference to the features of the padded tower
in float32, as a share of the largest feature. Captions are cut by CLIP's vocabulary, grown by their own language as
training does; without files they are generated.

    python benchmarks/tower_speed.py en=captions.en.json de=captions.de.json     # lists of objects with a "caption"
    python benchmarks/tower_speed.py --layers 2 --precisions float32
    python benchmarks/tower_speed.py --width 128 --heads 4 --layers 2            # a small tower
    python benchmarks/tower_speed.py --compile
"""

import argparse
import json
import os
import random
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary  # noqa: E402
from mlvl_fairseq.data.text.bpe_training import train_bpe  # noqa: E402
from mlvl_fairseq.modules import attention  # noqa: E402
from mlvl_fairseq.modules.compiling import Compilable  # noqa: E402
from mlvl_fairseq.modules.precision import cpu_instructions  # noqa: E402
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower, TextConfig  # noqa: E402

PRECISIONS = {"float32": nullcontext, "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16)}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GROUPS, GROWN_ON = 4, 20_000


class Batch(NamedTuple):
    """Ids [B, T], and positions [B] of the last ones."""

    tokens: Tensor
    last: Tensor


class PlainQuickGELU(nn.Module):
    """As CLIP writes it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


@contextmanager
def as_before(tower: CLIPTextTower) -> Iterator[None]:
    """Padding is computed, quick-GELU and attention are those of torch."""
    own = [block.mlp.gelu for block in tower.transformer.resblocks]
    for block in tower.transformer.resblocks:
        block.mlp.gelu = PlainQuickGELU()
    padded = mock.patch("mlvl_fairseq.modules.towers.clip_text.is_exported", lambda: True)
    with padded, mock.patch.object(attention, "HALF", ()):
        yield
    for block, gelu in zip(tower.transformer.resblocks, own):
        block.mlp.gelu = gelu


def padded(tower: CLIPTextTower, batch: Batch) -> Tensor:
    with as_before(tower):
        return tower(*batch)


def four_groups(tower: CLIPTextTower, batch: Batch) -> Tensor:
    order = batch.last.argsort(stable=True)
    with as_before(tower):
        parts = [
            tower(batch.tokens[rows, : int(batch.last[rows[-1]]) + 1], batch.last[rows]) for rows in order.chunk(GROUPS)
        ]
    return torch.cat(parts)[order.argsort()]


def packed(tower: CLIPTextTower, batch: Batch) -> Tensor:
    return tower(*batch)


def compiled(tower: CLIPTextTower, batch: Batch) -> Tensor:
    with mock.patch.object(Compilable, "is_compiled", True):
        return tower(*batch)


WAYS = {"padded": padded, "four groups": four_groups, "packed": packed}


def operations(tower: CLIPTextTower, batch: Batch) -> float:
    """Floating-point operations of the matrix products of an update without padding: each is computed once more for
    the gradient of its input. The last layer reads one position a caption, keys and values of all."""
    width, layers = tower.width, len(tower.transformer.resblocks)
    texts, positions = len(batch.last), int((batch.last + 1).sum())
    every, last = 24 * width**2 * positions, width**2 * (4 * positions + 20 * texts)
    return 2 * ((layers - 1) * every + last + 2 * tower.text_projection.numel() * texts)


def rate(dtype: torch.dtype, width: int, positions: int, seconds: float = 0.3) -> float:
    """Operations a second of the first product of a feed-forward half."""
    x, weight = torch.randn(positions, width, dtype=dtype), torch.randn(4 * width, width, dtype=dtype)
    F.linear(x, weight)
    count, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        F.linear(x, weight)
        count += 1
    return count * 8 * positions * width**2 / (time.process_time() - began)


def update(tower: CLIPTextTower, batch: Batch, way: str, precision: str) -> tuple:
    """CPU seconds, and the features."""
    tower.zero_grad()
    began = time.process_time()
    with PRECISIONS[precision]():
        features = WAYS[way](tower, batch)
    features.float().square().mean().backward()
    return time.process_time() - began, features.detach().float()


def measure(tower: CLIPTextTower, batches: List[Batch], precisions: List[str]) -> Dict[str, Dict[str, np.ndarray]]:
    """By precision and way: CPU seconds, and the largest difference to the features of the padded tower in float32 as
    a share of the largest; and ``rate``: operations a second."""
    found = {precision: {way: [] for way in (*WAYS, "rate")} for precision in precisions}
    few = Batch(batches[0].tokens[:8, :8], batches[0].last[:8].clamp(max=7))
    update(tower, few, "packed", "float32")
    for precision in precisions if "compiled" in WAYS else ():
        print(f"compiling for {precision}: {update(tower, few, 'compiled', precision)[0]:.1f} CPU s", file=sys.stderr)
    for batch in batches:
        exact = None
        for precision in precisions:
            rates = []
            for way in WAYS:
                rates.append(rate(TYPES[precision], tower.width, int((batch.last + 1).sum())))
                seconds, features = update(tower, batch, way, precision)
                exact = features if exact is None else exact
                difference = float((features - exact).abs().max() / exact.abs().max())
                found[precision][way].append((seconds, difference))
            found[precision]["rate"].append((np.median(rates), 0.0))
    return {precision: {way: np.array(rows) for way, rows in ways.items()} for precision, ways in found.items()}


def print_rows(name: str, tower: CLIPTextTower, batches: List[Batch], found) -> None:
    tokens = np.mean([float(batch.last.float().mean()) + 1 for batch in batches])
    for precision, ways in found.items():
        needed = np.array([operations(tower, batch) for batch in batches])
        rates = ways["rate"][:, 0]
        packed_seconds = ways["packed"][:, 0]
        for way in WAYS:
            seconds, differences = ways[way].T
            print(
                f"| {name}, {tokens:.1f} tokens | {precision} | {way} | {np.median(seconds):.2f} | "
                f"{np.median(seconds / packed_seconds):.2f} | {np.median(needed / rates):.2f} | "
                f"{np.median(rates) / 1e9:.0f} | **{100 * np.median(needed / rates / seconds):.0f} %** | "
                f"{differences.max():.1e} |",
                flush=True,
            )


def captions_of(path: str, count: int) -> List[List[int]]:
    captions = [row["caption"] for row in json.loads(Path(path).read_text(encoding="utf-8"))]
    random.Random(1).shuffle(captions)
    vocabulary = clip_vocabulary().grown_by(train_bpe(captions[:GROWN_ON]))
    return ClipTokenizer(vocabulary).tokenize(captions[:count], 77)


def generated(count: int) -> List[List[int]]:
    lengths = np.clip(np.random.default_rng(1).gamma(7.0, 17 / 7, count).round().astype(int), 4, 77)
    return [list(range(length)) for length in lengths]


def batches_of(captions: List[List[int]], size: int) -> List[Batch]:
    """With ids from 0 on, as the trained rows of an embedding have them."""
    number = {token: row for row, token in enumerate(sorted({token for ids in captions for token in ids}))}
    batches = []
    for start in range(0, len(captions), size):
        rows = captions[start : start + size]
        last = torch.tensor([len(ids) - 1 for ids in rows])
        tokens = torch.zeros(len(rows), int(last.max()) + 1, dtype=torch.long)
        for own, ids in zip(tokens, rows):
            own[: len(ids)] = torch.tensor([number[token] for token in ids])
        batches.append(Batch(tokens, last))
    return batches


def build_tower(args: argparse.Namespace, words: int) -> CLIPTextTower:
    torch.manual_seed(1)
    tower = TextConfig(words, args.width, args.layers, args.heads, args.width).build()
    for name, parameter in tower.named_parameters():
        parameter.requires_grad = name.startswith("token_embedding")
    return tower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", nargs="*", metavar="NAME=FILE", help="captions of a language (default: generated)")
    parser.add_argument("--width", type=int, default=512, help="of the tower (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="of the tower (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=8, help="of attention (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="captions a batch (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=2, help="of each language (default: %(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--compile", action="store_true", help="also with the blocks compiled")
    args = parser.parse_args()
    if args.compile:
        WAYS["compiled"] = compiled
    torch.set_num_threads(1)
    own = ", ".join(cpu_instructions()) or "none"
    print(f"{args.layers} layers of width {args.width}, batch {args.batch_size}, one thread")
    print(f"instructions for bfloat16: {own}\n")
    print("| captions | precision | way | update, CPU s | / packed | arithmetic, s | rate, GFLOP/s | reached | apart |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    count = args.batches * args.batch_size
    files = [text.split("=", 1) for text in args.captions] or [("generated", "")]
    for name, path in files:
        captions = captions_of(path, count) if path else generated(count)
        batches = batches_of(captions, args.batch_size)
        tower = build_tower(args, 1 + max(int(batch.tokens.max()) for batch in batches))
        print_rows(name, tower, batches, measure(tower, batches, args.precisions))


if __name__ == "__main__":
    main()
