"""What a contrastive training step costs beside open_clip's, with towers of the same sizes and the same weights.

A step is forward pass, loss, backward pass and torch's fused AdamW. Ours are image_text_retrieval's model and
criterion; theirs are ``open_clip.CLIP`` and ``open_clip.ClipLoss``. Both get the same pairs, in turn; the ratio is the
median over steps, in CPU time of one thread. Captions are measured as they come, of different lengths, which
open_clip pads to the context length as its tokenizer does, and all of full length, where there is no padding to save.

open_clip is needed for this program only. Where it is missing:

    pip install --target outputs/open_clip --no-deps open_clip_torch
    PYTHONPATH=outputs/open_clip python benchmarks/contrastive_step.py                     # ViT-B/32, some minutes
    PYTHONPATH=outputs/open_clip python benchmarks/contrastive_step.py --arch clip_tiny_vit --steps 20
"""

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from clip_training import ARCHS, VOCABULARY, build_criterion, build_model, dimensions, random_batch  # noqa: E402

PRECISIONS = {"float32": nullcontext, "bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16)}
LR = 1e-4


class Trainee(NamedTuple):
    """A model, the mean loss of a batch, and an optimizer."""

    model: nn.Module
    loss: Callable[[Dict], Tensor]
    optimizer: torch.optim.Optimizer

    def step(self, batch: Dict, precision: str) -> tuple:
        """CPU seconds and loss."""
        began = time.process_time()
        self.optimizer.zero_grad()
        with PRECISIONS[precision]():
            loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return time.process_time() - began, loss.item()


def trainee(model: nn.Module, loss: Callable[[Dict], Tensor]) -> Trainee:
    return Trainee(model, loss, torch.optim.AdamW(model.parameters(), LR, fused=True))


def ours(config) -> Trainee:
    model, criterion = build_model(config), build_criterion()

    def loss(batch: Dict) -> Tensor:
        total, rows, _ = criterion(model, batch)
        return total / rows

    return trainee(model, loss)


def theirs(open_clip, config, weights: Dict[str, Tensor]) -> Trainee:
    """open_clip with the same sizes and weights."""
    vision = open_clip.CLIPVisionCfg(
        layers=config.vision_layers,
        width=config.vision_width,
        head_width=config.vision_width // config.vision_heads,
        patch_size=config.patch_size,
        image_size=config.image_size,
    )
    text = open_clip.CLIPTextCfg(
        context_length=config.context_length,
        vocab_size=VOCABULARY,
        width=config.text_width,
        heads=config.text_heads,
        layers=config.text_layers,
    )
    model = open_clip.CLIP(config.embed_dim, vision, text, quick_gelu=True, output_dict=True).train()
    renamed = {name.replace("vision.", "visual.").removeprefix("text."): value for name, value in weights.items()}
    model.load_state_dict(renamed)
    contrast = open_clip.ClipLoss()

    def loss(batch: Dict) -> Tensor:
        tokens, ends = batch["net_input"]["tokens"], batch["net_input"]["eos_positions"]
        behind = torch.arange(tokens.shape[1]) > ends[:, None]
        padded = F.pad(tokens.masked_fill(behind, 0), (0, config.context_length - tokens.shape[1]))
        return contrast(**model(batch["image_features"], padded))

    return trainee(model, loss)


def measure(open_clip, config, args: argparse.Namespace, mean_tokens: int, precision: str) -> str:
    """One row of the table."""
    torch.manual_seed(0)
    one = ours(config)
    other = theirs(open_clip, config, one.model.state_dict())
    seconds: List[tuple] = []
    for step in range(args.steps + 1):
        batch = random_batch(config, args.batch_size, mean_tokens, seed=step)
        (mine, my_loss), (their, their_loss) = one.step(batch, precision), other.step(batch, precision)
        if step == 0:  # it allocates; and the weights still are the same
            apart = abs(my_loss - their_loss) / their_loss
        else:
            seconds.append((mine, their))
    mine, their = np.array(seconds).T
    captions = f"{mean_tokens} tokens on average" if mean_tokens else f"{config.context_length} tokens each"
    times = f"{np.median(mine):.2f} | {np.median(their):.2f} | **{np.median(mine / their):.3f}**"
    return f"| {precision} | {captions} | {times} | {apart:.1e} |"


def import_open_clip(parser: argparse.ArgumentParser):
    try:
        import open_clip
    except ImportError:
        parser.error("open_clip is missing: see --help for how to install it for this program")
    return open_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="clip_vit_b32", choices=ARCHS, help="default: %(default)s")
    parser.add_argument("--layers", type=int, default=0, help="of both towers, to shorten them; 0: the arch's")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="of each row (default: %(default)s)")
    parser.add_argument("--mean-tokens", type=int, default=16, help="of a caption (default: %(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"], help="default: float32")
    args = parser.parse_args()
    open_clip = import_open_clip(parser)
    torch.set_num_threads(1)
    config = dimensions(args.arch, args.layers)
    print(f"{args.arch}, {args.layers or 'all'} layers, batch {args.batch_size}, {args.steps} steps, one thread;")
    print(f"open_clip {open_clip.__version__}, torch {torch.__version__}\n")
    print("| precision | captions | ours, s | open_clip, s | ratio | losses apart, relative |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for precision in args.precisions:
        for mean_tokens in (args.mean_tokens, 0):
            print(measure(open_clip, config, args, mean_tokens, precision), flush=True)


if __name__ == "__main__":
    main()
