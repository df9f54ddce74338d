"""How much memory a large contrastive batch takes when it is encoded a chunk at a time, and what that costs.

Loss and gradients of image_text_retrieval's model and criterion on one random batch: the whole batch and its whole
matrix of similarities at once, as a plain implementation has it, and then with ``--encode-chunk``. Each runs in a
process of its own; memory is the peak beyond model and batch, time is CPU time of one thread. The gradients of all are
compared with those of the whole batch.

    python benchmarks/large_batch.py                                   # 8192 rows; takes about 10 GB of memory
    python benchmarks/large_batch.py --batch-size 1024 --chunks 0 64
    python benchmarks/large_batch.py --arch clip_vit_b32 --batch-size 128 --chunks 0 16
"""

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402  (after the number of threads is set)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clip_training import ARCHS, build_criterion, build_model, dimensions, random_batch  # noqa: E402
from peak_memory import measure  # noqa: E402

from mlvl_fairseq.losses import features as losses  # noqa: E402

BLOCKS = losses.MAX_SIMILARITIES


class Way(NamedTuple):
    """Rows encoded at a time (0: all), similarities computed at a time."""

    chunk: int
    similarities: int

    def __str__(self) -> str:
        encoded = f"{self.chunk} rows at a time" if self.chunk else "whole batch"
        return f"{encoded}, similarities {'in blocks' if self.similarities == BLOCKS else 'at once'}"


def contrast(criterion, model, batch: Dict) -> None:
    loss, rows, _ = criterion(model, batch)
    (loss / rows).backward()


def train_step(way: Way, model, few: Dict, batch: Dict, gradients: Path, start: Callable[[], None]) -> float:
    """Loss and gradients, which are saved; CPU seconds of both. `few` rows come first, which do not count."""
    criterion = build_criterion()
    contrast(criterion, model, few)  # loads what libraries load late
    model.zero_grad()
    losses.MAX_SIMILARITIES, model.encode_chunk = way.similarities, way.chunk
    start()
    began = time.process_time()
    contrast(criterion, model, batch)
    seconds = time.process_time() - began
    torch.save([parameter.grad for parameter in model.parameters()], gradients)
    return seconds


def difference(first: Path, second: Path) -> float:
    """Length of the difference of two gradients, relative to the first's."""
    pairs = list(zip(*(torch.load(path, weights_only=True) for path in (first, second)), strict=True))
    apart = sum((one.double() - other.double()).square().sum() for one, other in pairs)
    return float((apart / sum(one.double().square().sum() for one, _ in pairs)).sqrt())


def row(way: Way, mib: float, seconds: float, first: Optional[tuple], apart: Optional[float]) -> str:
    base_mib, base_seconds = first or (mib, seconds)
    compared = "-" if apart is None else f"{apart:.1e}"
    memory = f"{mib:,.0f} | **{base_mib / mib:.1f}**"
    return f"| {way} | {memory} | {seconds:.1f} | {seconds / base_seconds:.2f} | {compared} |"


def compare(ways: List[Way], model, few: Dict, batch: Dict, folder: Path) -> None:
    """Print a row for each way; ratios are to the first that ends."""
    first, base = None, None
    for number, way in enumerate(ways):
        gradients = folder / f"{number}.pt"
        try:
            mib, seconds = measure(partial(train_step, way, model, few, batch, gradients))
        except MemoryError:
            print(f"| {way} | more than there is | - | - | - | - |", flush=True)
            continue
        print(row(way, mib, seconds, first, base and difference(base, gradients)), flush=True)
        first, base = first or (mib, seconds), base or gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_tiny_vit", choices=ARCHS, help="default: %(default)s")
    parser.add_argument("--layers", type=int, default=0, help="of both towers, to shorten them; 0: the arch's")
    parser.add_argument("--batch-size", type=int, default=8192, help="default: %(default)s")
    parser.add_argument("--chunks", type=int, nargs="+", default=[0, 1024, 256], help="default: 0 1024 256 (0: all)")
    parser.add_argument("--mean-tokens", type=int, default=16, help="of a caption (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = dimensions(args.arch, args.layers)
    few, batch = (random_batch(config, rows, args.mean_tokens, seed=1) for rows in (8, args.batch_size))
    ways = [Way(0, args.batch_size**2)] if 0 in args.chunks else []
    ways += [Way(chunk, BLOCKS) for chunk in args.chunks]
    print(
        f"{args.arch}, {args.layers or 'all'} layers, batch {args.batch_size}, one thread; memory beyond model, batch\n"
    )
    print("| encoded | peak, MiB | times less | CPU s | times the CPU s | gradients apart, relative |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        compare(ways, build_model(config), few, batch, Path(folder))


if __name__ == "__main__":
    main()
