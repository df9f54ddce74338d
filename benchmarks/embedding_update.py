"""What an update of a large token embedding costs, and whether the cheap one gives the dense one's result.

One update is: forget the gradient, look up 256 x 20 tokens, backward from a fixed gradient of the looked-up rows, clip,
optimizer. Torch's dense AdamW passes over all 200,000 rows. Ours keeps gradient and moments of the 10,000 rows that the
language uses; the others decay when they are next read. All variants take the same batches in turn; the least CPU time
of each counts. The results are compared with a plain dense implementation in float64, and with torch's fused AdamW.

    python benchmarks/embedding_update.py                          # takes 8 GB of memory
    python benchmarks/embedding_update.py --rows 50000 --active 5000 --repeat 20
    python benchmarks/embedding_update.py --curve 8000,16000,32000,49408,100000,250000 --repeat 6   # times alone; 3 GB
"""

import argparse
import gc
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402  (after the number of threads is set)
from peak_memory import measure  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding, apply_idle_decay  # noqa: E402
from mlvl_fairseq.optim.row_adamw import RowAdamW, RowScales, set_row_scales  # noqa: E402

LR, DECAY, BETAS, EPS, CLIP = 1e-3, 0.05, (0.9, 0.999), 1e-6, 1.0
BATCH, LENGTH = 256, 20
OURS = {"naive": "ours, naive", "gradient": "ours, TEIR on the gradient", "update": "ours, TEIR on the step"}
BASE = "torch AdamW, fused"


class Data(NamedTuple):
    """Initial weights [V, d], active rows [R] with their TEIR scales [R], batches of tokens, the upstream gradient."""

    weight: Tensor
    active: Tensor
    scale: Tensor
    batches: List[Tensor]
    upstream: Tensor


def build_data(args: argparse.Namespace) -> Data:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(args.rows, args.dim, generator=generator) * 0.02
    active = torch.randperm(args.rows, generator=generator)[: args.active].sort().values
    scale = 1 / torch.randint(1, 7, (args.active,), generator=generator)  # 1 / number of languages that used the row
    scale[:2] = 0  # BOS, EOS
    tokens = torch.randint(args.active, (args.repeat, BATCH, LENGTH), generator=generator)
    upstream = torch.randn(BATCH, LENGTH, args.dim, generator=generator) / args.dim
    return Data(weight, active, scale, list(active[tokens]), upstream)


class Variant:
    """An embedding with its optimizer."""

    def __init__(self, embedding: nn.Module, optimizer: torch.optim.Optimizer, clips: bool = True):
        self.embedding, self.optimizer, self.clips = embedding, optimizer, clips

    def update(self, tokens: Tensor, upstream: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.embedding(tokens).backward(upstream)
        if self.clips:
            torch.nn.utils.clip_grad_norm_(self.embedding.parameters(), CLIP)
        self.optimizer.step()

    def result(self) -> Tensor:
        """The whole table [V, d], decay that was put off included."""
        state = self.embedding.state_dict()
        apply_idle_decay(state, "")
        return state["weight"]

    def state_mib(self) -> float:
        tensors = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(t.numel() * t.element_size() for t in tensors if torch.is_tensor(t)) / 2**20


def dense(data: Data, **options) -> Variant:
    embedding = nn.Embedding.from_pretrained(data.weight.clone(), freeze=False)
    return Variant(embedding, torch.optim.AdamW(embedding.parameters(), LR, BETAS, EPS, DECAY, **options))


def sparse(data: Data) -> Variant:
    """For comparison only: its moments of absent tokens stand still, it neither decays nor clips."""
    embedding = nn.Embedding.from_pretrained(data.weight.clone(), freeze=False, sparse=True)
    return Variant(embedding, torch.optim.SparseAdam(embedding.parameters(), LR, BETAS, EPS), clips=False)


def ours(data: Data, kind: str) -> Variant:
    """As the task `cll_retrieval` sets it up."""
    embedding = ExpandableEmbedding(*data.weight.shape)
    embedding.weight.data.copy_(data.weight)
    embedding.train_rows(data.active)
    scales = RowScales(decay_idle=embedding.decay_idle)
    if kind != "naive":
        setattr(scales, kind, data.scale)
        scales.decay = data.scale
    set_row_scales(embedding.weight, scales)
    return Variant(embedding.train(), RowAdamW(embedding.parameters(), LR, BETAS, EPS, DECAY))


VARIANTS: Dict[str, Callable[[Data], Variant]] = {
    BASE: lambda data: dense(data, fused=True),
    "torch AdamW, foreach": lambda data: dense(data, foreach=True),
    "torch AdamW, for loop": lambda data: dense(data, foreach=False),
    "torch SparseAdam (another algorithm)": sparse,
    **{name: lambda data, kind=kind: ours(data, kind) for kind, name in OURS.items()},
}


def exact_result(data: Data, kind: str) -> Tensor:
    """What AdamW, its gradient or step and decay scaled by row, makes of the table: dense, float64, by definition."""
    weight, upstream = data.weight.double(), data.upstream.double().flatten(0, 1)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    scale = torch.zeros(len(weight), 1, dtype=torch.float64)
    scale[data.active, 0] = data.scale.double()
    for step, tokens in enumerate(data.batches, start=1):
        gradient = torch.zeros_like(weight).index_add_(0, tokens.flatten(), upstream)
        gradient *= min(1.0, CLIP / (gradient.norm() + 1e-6))
        weight *= 1 - LR * DECAY * (1 if kind == "naive" else scale)
        if kind == "gradient":
            gradient *= scale
        first.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        denominator = (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPS)
        move = first.div(denominator).mul_(LR / (1 - BETAS[0] ** step))
        weight -= move * scale if kind == "update" else move
    return weight


def difference(result: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest weight."""
    return float((result - expected).abs_().max() / expected.abs().max())


def first_updates(name: str, data: Data, start: Callable[[], None]) -> None:
    """What memory is measured of."""
    variant = VARIANTS[name](data)
    start()
    for tokens in data.batches[:3]:
        variant.update(tokens, data.upstream)


def least_times(variants: Dict[str, Variant], data: Data) -> Dict[str, float]:
    """CPU milliseconds of the quickest update of each; they take turns. The first update, which allocates, is not
    counted."""
    least = dict.fromkeys(variants, float("inf"))
    for number, tokens in enumerate(data.batches):
        for name, variant in variants.items():
            start = time.process_time()
            variant.update(tokens, data.upstream)
            if number:
                least[name] = min(least[name], 1e3 * (time.process_time() - start))
    return least


def curve(args: argparse.Namespace, sizes: List[int]) -> None:
    """Print times and ratios of torch's fused AdamW and ours over the vocabulary's size."""
    ours_too = {name: VARIANTS[name] for name in (BASE, *OURS.values())}
    print(f"| rows | {' | '.join(f'{name}, CPU ms' for name in ours_too)} | {' | '.join(OURS)}: times faster |")
    print("|---:" * (1 + len(ours_too) + len(OURS)) + "|")
    for rows in sizes:
        data = build_data(argparse.Namespace(**{**vars(args), "rows": rows, "active": min(rows, args.active)}))
        ms = least_times({name: build(data) for name, build in ours_too.items()}, data)
        ratios = [f"{ms[BASE] / ms[name]:.1f}" for name in OURS.values()]
        print(
            f"| {rows:,} | {' | '.join(f'{value:.1f}' for value in ms.values())} | {' | '.join(ratios)} |", flush=True
        )


def row(name: str, ms: float, base_ms: float, state: float, peak: float, fused: Optional[float], exact) -> str:
    compared = ["-" if value is None else f"{value:.1e}" for value in (fused, exact)]
    return f"| {name} | {ms:.1f} | {base_ms / ms:.1f} | {state:.0f} | {peak:.0f} | {' | '.join(compared)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of the embedding (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="columns of the embedding (default: %(default)s)")
    parser.add_argument("--active", type=int, default=10_000, help="rows the language uses (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=12, help="updates of each variant (default: %(default)s)")
    parser.add_argument("--curve", metavar="ROWS,ROWS", help="only times, of embeddings of these sizes in turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.curve:
        return curve(args, [int(rows) for rows in args.curve.split(",")])
    data = build_data(args)
    peaks = {name: measure(partial(first_updates, name, data)).extra_mib for name in VARIANTS}
    variants = {name: build(data) for name, build in VARIANTS.items()}
    ms = least_times(variants, data)
    state = {name: variant.state_mib() for name, variant in variants.items()}
    results = {name: variants[name].result() for name in (BASE, *OURS.values())}
    variants.clear()
    gc.collect()

    exact = {name: difference(results[name], exact_result(data, kind)) for kind, name in OURS.items()}
    exact[BASE] = difference(results[BASE], exact_result(data, "naive"))
    fused = {OURS["naive"]: difference(results[OURS["naive"]], results[BASE])}
    print(f"{args.rows:,} x {args.dim} embedding, {args.active:,} active rows, {BATCH} x {LENGTH} tokens an update,")
    print(f"{args.repeat} updates, one thread; differences are the largest, relative to the largest weight\n")
    print("| update | CPU ms | times faster | state, MiB | extra peak, MiB | to fused AdamW | to float64 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in VARIANTS:
        print(row(name, ms[name], ms[BASE], state[name], peaks[name], fused.get(name), exact.get(name)))


if __name__ == "__main__":
    main()
