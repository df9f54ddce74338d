"""How fast training steps are on a GPU, and how much of the card they use.

A step is forward pass, loss, backward pass and the optimizer, on random batches that lie on the card; `encode` is a
forward pass of the image tower. Ours are the networks, criterions and optimizers of the tasks, made as the other
benchmarks make them; beside `cll_retrieval`, `clip` and `encode`, open_clip's towers of the same sizes take the same
batches in the same run. What is counted as useful work are the floating point operations of matrix products, forward
and backward, as torch.utils.flop_counter sees them; `utilisation` is that count over the time of a step, against what
the card does in a large matrix product of the same type, measured first. A kernel that computes scores of attention
again in its backward pass counts them again. Times are medians over steps.

Nothing is compiled; `--tf32` allows float32 products to be rounded to TF32, in steps and in what is measured first.

    python benchmarks/gpu.py --json gpu.json                # all of it; pip install open_clip_torch
    python benchmarks/gpu.py --workloads cll_retrieval clip --rows 128 1024 --types bf16
    python benchmarks/gpu.py --device cpu --size tiny --types fp32 --steps 2      # tries it out, says nothing of a GPU
"""

import argparse
import contextlib
import gc
import json
import logging
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
import cclm_step  # noqa: E402
import clip_training  # noqa: E402
import lilt_step  # noqa: E402
import mte_step  # noqa: E402
import trikd_step  # noqa: E402
from training_steps import Trainee  # noqa: E402

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OURS, THEIRS = "ours", "open_clip"


class Size(NamedTuple):
    """What the workloads are made of; `matrix` is the side of the product that the card is measured with."""

    arch: str
    trikd_width: int
    mte: str
    vocabulary: int
    lilt: str
    lilt_pixels: int
    cclm: str
    rows: List[int]
    matrix: int


SIZES = {
    "published": Size("clip_vit_b16", 768, "mte_base", 250_002, "base", 256, "base", [128, 1024], 8192),
    "tiny": Size("clip_tiny_vit", 64, "mte_tiny", 500, "tiny", 32, "tiny", [4], 128),
}


class Work(NamedTuple):
    """A step and a batch for it.

    Attributes:
        trainee: model, mean loss of a batch, optimizer; without an optimizer, the loss is a forward pass.
        batch: nested dictionaries with tensors. rows: captions, sentences or pictures in it.
    """

    trainee: Trainee
    batch: Dict
    rows: int


class Result(NamedTuple):
    """One line of the table."""

    workload: str
    whose: str
    type: str
    rows: int
    steps_per_second: float
    rows_per_second: float
    gflops: float
    utilisation: float
    peak_mib: Optional[float]


# What is measured: name -> whose -> function(size, rows) that makes it on the CPU, with the same weights every time.
WORKLOADS: Dict[str, Dict[str, Callable[[Size, int], Work]]] = {}


def workload(name: str, whose: str = OURS):
    def register(make):
        WORKLOADS.setdefault(name, {})[whose] = make
        return make

    return register


def caption_batch(size: Size, rows: int) -> Dict:
    return clip_training.random_batch(clip_training.dimensions(size.arch), rows, 13, seed=1)


def cached_features(batch: Dict, dim: int) -> Dict:
    """The batch with the teacher's features in the place of pictures."""
    rows, generator = len(batch["image_ids"]), torch.Generator().manual_seed(2)
    drawn = {name: torch.randn(rows, dim, generator=generator) for name in ("image_features", "text_features")}
    return {**batch, **drawn}


def cll_work(encode: nn.Module, embedding: nn.Parameter, size: Size, rows: int) -> Work:
    """A text tower in which only the token embedding trains, towards a teacher's features."""
    from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig

    encode.requires_grad_(False)
    embedding.requires_grad_(True)
    criterion = CllClipCriterion(CllClipCriterionConfig(), SimpleNamespace(position=0, plugins={}))
    model = nn.ModuleDict({"model": encode, "criterion": criterion}).train()
    batch = cached_features(caption_batch(size, rows), clip_training.dimensions(size.arch).embed_dim)
    trainee = Trainee(model, mean_loss(encode, criterion), adamw([embedding, criterion.temperature]))
    return Work(trainee, batch, rows)


def mean_loss(model: nn.Module, criterion: nn.Module) -> Callable[[Dict], Tensor]:
    def loss(batch: Dict) -> Tensor:
        total, rows, _ = criterion(model, batch)
        return total / rows

    return loss


def adamw(parameters: List[nn.Parameter]) -> torch.optim.Optimizer:
    from mlvl_fairseq.optim.row_adamw import FairseqRowAdamW, RowAdamWConfig

    return FairseqRowAdamW(RowAdamWConfig(lr=[5e-5]), parameters).optimizer


@workload("cll_retrieval")
def cll_retrieval(size: Size, rows: int) -> Work:
    from mlvl_fairseq.models.clip import ClipModel

    model = ClipModel(clip_training.build_model(clip_training.dimensions(size.arch)).text, None)
    return cll_work(model, model.text.token_embedding.weight, size, rows)


class TheirTexts(nn.Module):
    """open_clip's text tower in the place of our model. Ends of texts are their largest ids, as it wants them."""

    def __init__(self, clip: nn.Module):
        super().__init__()
        self.clip = clip
        clip.visual = clip.logit_scale = None

    def forward(self, tokens: Tensor, eos_positions: Tensor) -> Dict[str, Tensor]:
        padded = nn.functional.pad(tokens, (0, self.clip.context_length - tokens.shape[1]))  # it has no shorter ones
        return {"text": self.clip.encode_text(padded)}


def their_clip(size: Size) -> nn.Module:
    """open_clip's model with the dimensions of ours."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    own = clip_training.dimensions(size.arch)
    vision = CLIPVisionCfg(
        own.vision_layers, own.vision_width, own.vision_width // own.vision_heads, patch_size=own.patch_size,
        image_size=own.image_size,
    )  # fmt: skip
    text = CLIPTextCfg(
        own.context_length, clip_training.VOCABULARY, width=own.text_width, heads=own.text_heads, layers=own.text_layers
    )
    torch.manual_seed(0)
    return CLIP(own.embed_dim, vision, text, quick_gelu=True)


@workload("cll_retrieval", THEIRS)
def their_cll_retrieval(size: Size, rows: int) -> Work:
    model = TheirTexts(their_clip(size))
    return cll_work(model, model.clip.token_embedding.weight, size, rows)


@workload("clip")
def clip(size: Size, rows: int) -> Work:
    model, criterion = clip_training.build_model(clip_training.dimensions(size.arch)), clip_training.build_criterion()
    trainee = Trainee(model, mean_loss(model, criterion), adamw([*model.parameters()]))
    return Work(trainee, caption_batch(size, rows), rows)


@workload("clip", THEIRS)
def their_clip_training(size: Size, rows: int) -> Work:
    model = their_clip(size).train()

    def loss(batch: Dict) -> Tensor:
        tokens = batch["net_input"]["tokens"]
        padded = nn.functional.pad(tokens, (0, model.context_length - tokens.shape[1]))
        image, text, scale = model(batch["image_features"], padded)
        logits, own = scale * image @ text.t(), torch.arange(len(image), device=image.device)
        return (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.t(), own)) / 2

    return Work(Trainee(model, loss, adamw([*model.parameters()])), caption_batch(size, rows), rows)


def encoding(tower: nn.Module, size: Size, rows: int) -> Work:
    @torch.no_grad()
    def encode(batch: Dict) -> Tensor:
        return tower(batch["image_features"])

    pictures = caption_batch(size, rows)["image_features"]
    return Work(Trainee(tower.eval(), encode, None), {"image_features": pictures}, rows)


@workload("encode")
def encode(size: Size, rows: int) -> Work:
    return encoding(clip_training.build_model(clip_training.dimensions(size.arch)).vision, size, rows)


@workload("encode", THEIRS)
def their_encode(size: Size, rows: int) -> Work:
    return encoding(their_clip(size).visual, size, rows)


@workload("trikd")
def trikd(size: Size, rows: int) -> Work:
    """Projectors on stored features and states."""
    config, width = clip_training.dimensions(size.arch), size.trikd_width
    trainee = trikd_step.Trainee(trikd_step.Teachers(None, None), config.embed_dim, width, trikd_step.STATES, "none")
    batch = cached_features(trikd_step.captions_of(caption_batch(size, rows)), config.embed_dim)
    tokens = batch["net_input"]["tokens"]
    batch["net_input"]["states"] = torch.randn(*tokens.shape, width, generator=torch.Generator().manual_seed(3))
    return Work(Trainee(trainee.model, mean_loss(trainee.model, trainee.criterion), trainee.optimizer), batch, rows)


@workload("mte_pretraining")
def mte_pretraining(size: Size, rows: int) -> Work:
    """Stage 2, 25 tokens a sentence."""
    given = Namespace(mean_tokens=25, max_tokens=50 * rows, steps=1)
    with tempfile.TemporaryDirectory() as folder:
        mte_step.write_dictionaries(Path(folder), size.vocabulary)
        sizes = mte_step.dimensions(size.mte, 0)
        trainer = mte_step.ours(Path(folder), Namespace(arch=size.mte, autocast="none"), sizes, "layers", 0)
        batch = mte_step.random_batches(trainer.task, given, lengths_differ=True)[0]
    model, criterion = trainer.get_model().train(), trainer.get_criterion().train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Work(Trainee(model, mean_loss(model, criterion), adamw(trained)), batch, batch["nsentences"])


@workload("lilt")
def lilt(size: Size, rows: int) -> Work:
    given = Namespace(batch_size=rows, mean_tokens=13, image_size=size.lilt_pixels)
    trainee = lilt_step.ours(size.lilt, size.lilt_pixels, lilt_step.LILT)
    return Work(trainee, lilt_step.random_batch(given, seed=1), rows)


def cclm(stream: str):
    def make(size: Size, rows: int) -> Work:
        own = cclm_step.SIZES[size.cclm]._replace(rows=rows)
        return Work(cclm_step.ours(own), cclm_step.random_batch(stream, own, seed=1), rows)

    return make


workload("cclm, images")(cclm("image"))
workload("cclm, parallel text")(cclm("text"))


def moved(value: Any, device: str) -> Any:
    """The tensors in nested dictionaries, on a device."""
    if isinstance(value, dict):
        return {key: moved(inner, device) for key, inner in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


class Runner:
    """Steps of a work, on a device, in a type.

    Args:
        device: ``cuda`` or ``cpu``. kind: a key of :data:`TYPES`; weights and moments are float32 in any case.
    """

    def __init__(self, work: Work, device: str, kind: str):
        self.model, self.loss, self.optimizer, _ = work.trainee
        self.model.to(device)
        self.batch, self.device, self.kind = moved(work.batch, device), device, kind
        self.scaler = torch.amp.GradScaler(device, enabled=kind == "fp16" and self.optimizer is not None)

    def step(self) -> None:
        context = contextlib.nullcontext()
        if self.kind != "fp32":
            context = torch.autocast(self.device, TYPES[self.kind])
        with context:
            loss = self.loss(dict(self.batch))
        if self.optimizer is None:
            return
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def flops(self) -> int:
        """Of the matrix products of a step, forward and backward."""
        torch.backends.mha.set_fastpath_enabled(False)  # it is one operation that is not counted
        attention = (
            sdpa_kernel(SDPBackend.MATH) if self.device == "cpu" else contextlib.nullcontext()
        )  # nor is the CPU's
        with attention, FlopCounterMode(display=False) as counter:
            self.step()
        torch.backends.mha.set_fastpath_enabled(True)
        return counter.get_total_flops()


def seconds_of(step: Callable[[], object], device: str, times: int) -> List[float]:
    """Wall time of each call, the work that it gives to the card included. The first one is not among them."""
    found = []
    for _ in range(times + 1):
        wait(device)
        began = time.perf_counter()
        step()
        wait(device)
        found.append(time.perf_counter() - began)
    return found[1:]


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, kind: str, side: int, times: int) -> float:
    """Operations a second of a product of two square matrices."""
    one, other = (torch.randn(side, side, device=device, dtype=TYPES[kind]) for _ in range(2))
    return 2 * side**3 / float(np.median(seconds_of(lambda: one @ other, device, times)))


def measure(name: str, whose: str, size: Size, rows: int, kind: str, args: Namespace, rate: float) -> Result:
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    work = WORKLOADS[name][whose](size, rows)
    runner = Runner(work, args.device, kind)
    flops = runner.flops()
    seconds = float(np.median(seconds_of(runner.step, args.device, args.steps)))
    peak = torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else None
    speed = 1 / seconds, work.rows / seconds
    return Result(name, whose, kind, work.rows, *speed, flops / 1e9, flops / seconds / rate, peak)


def results(args: Namespace) -> Iterator[Result]:
    """Of every workload, type and number of rows; what does not fit into the card's memory is told and left out."""
    size = SIZES[args.size]
    rates = {kind: matrix_rate(args.device, kind, size.matrix, 5) for kind in args.types}
    for kind, rate in rates.items():
        print(f"a product of {size.matrix:,} x {size.matrix:,} matrices in {kind}: {rate / 1e12:,.2f} TFLOP/s")
    print("\n| workload | | type | rows | steps/s | rows/s | GFLOP a step | utilisation | peak MiB |", flush=True)
    print("|---|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for name in args.workloads:
        for rows in args.rows or size.rows:
            for kind in args.types:
                for whose in WORKLOADS[name]:
                    if whose == OURS or not args.without_open_clip:
                        try:
                            yield measure(name, whose, size, rows, kind, args, rates[kind])
                        except torch.cuda.OutOfMemoryError:
                            print(f"| {name} | {whose} | {kind} | {rows} | out of memory | | | | |", flush=True)


def line_of(result: Result) -> str:
    peak = "" if result.peak_mib is None else f"{result.peak_mib:,.0f}"
    numbers = f"{result.rows:,} | {result.steps_per_second:.3g} | {result.rows_per_second:,.4g} | {result.gflops:,.4g}"
    return f"| {result.workload} | {result.whose} | {result.type} | {numbers} | {result.utilisation:.1%} | {peak} |"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    parser.add_argument("--size", choices=SIZES, default="published", help="of towers (default: %(default)s)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=[*WORKLOADS], help="default: all")
    parser.add_argument("--rows", nargs="+", type=int, help="of a batch (default: 128 1024; tiny: 4)")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=[*TYPES], help="default: all")
    parser.add_argument("--steps", type=int, default=20, help="that are timed (default: %(default)s)")
    parser.add_argument("--tf32", action="store_true", help="float32 products are rounded to TF32")
    parser.add_argument("--without-open-clip", action="store_true", help="measure ours alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, too")
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --device cpu --size tiny tries the script out")
    import mlvl_fairseq

    mlvl_fairseq.register()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    card = torch.cuda.get_device_name() if args.device == "cuda" else "no GPU"
    about = {"card": card, "torch": torch.__version__, "size": args.size, "steps": args.steps, "tf32": args.tf32}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    found = []
    for result in results(args):
        found.append(result._asdict())
        print(line_of(result), flush=True)
        if args.json:
            args.json.write_text(json.dumps({**about, "results": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    logging.disable()
    main()
