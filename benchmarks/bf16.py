"""What bfloat16 autocast gains on this CPU, and what it costs in retrieval.

Forward and backward pass of a text tower of CLIP's size on generated captions, float32 and autocast in turn on the same
batches; the least CPU time of one thread counts. Then the scores of a model whose captions are encoded either way: with
`--checkpoint` and `--corpus` on the captions of the corpus's validation set, otherwise on generated features (an image
is its caption's float32 feature with noise), which shows ranks that change but says nothing about a trained model.

    python benchmarks/bf16.py
    python benchmarks/bf16.py --checkpoint teacher/checkpoint_best.pt --corpus corpus
"""

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Dict, Tuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks  # noqa: E402
from mlvl_fairseq.evaluation.metrics.retrieval import recalls  # noqa: E402
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower  # noqa: E402

PRECISIONS = {"float32": nullcontext, "bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16)}
INSTRUCTIONS = ("avx512f", "avx512_bf16", "amx_bf16")
VOCABULARY, NOISE = 20_000, 4.0
SHOWN = ("txt_r1", "txt_r10", "img_r1", "img_r10", "r_mean")


def cpu_instructions() -> str:
    """Which instructions that matter here the CPU has (Linux)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return ", ".join(f"{name}: {'yes' if name in flags else 'no'}" for name in INSTRUCTIONS)


def build_tower(args: argparse.Namespace) -> CLIPTextTower:
    """A random tower of which, as in continual learning, the token embedding trains."""
    torch.manual_seed(1)
    tower = CLIPTextTower(VOCABULARY, args.width, args.layers, args.width // 64, args.width)
    for name, parameter in tower.named_parameters():
        parameter.requires_grad = name.startswith("token_embedding")
    return tower


def random_captions(number: int, seed: int) -> Tuple[Tensor, Tensor]:
    """Tokens [B, T] and positions of their ends [B]; 16 tokens on average."""
    random = np.random.default_rng(seed)
    ends = np.clip(random.gamma(4.0, 4.0, number).astype(np.int64), 3, 60)
    tokens = random.integers(0, VOCABULARY, (number, ends.max() + 1))
    return torch.from_numpy(tokens), torch.from_numpy(ends)


def pass_times(tower: CLIPTextTower, args: argparse.Namespace) -> Dict[str, np.ndarray]:
    """CPU milliseconds of the quickest forward and backward pass in each precision; they take turns."""
    least = {name: np.full(2, np.inf) for name in PRECISIONS}
    tokens, ends = random_captions(args.batch_size, seed=0)
    for _ in range(args.repeat):
        for name, precision in PRECISIONS.items():
            tower.zero_grad()
            start = time.process_time()
            with precision():
                text = tower(tokens, ends)
            middle = time.process_time()
            text.float().square().mean().backward()
            spent = middle - start, time.process_time() - middle
            least[name] = np.minimum(least[name], 1e3 * np.array(spent))
    return least


def judge(images: np.ndarray, text: np.ndarray, text_to_image: np.ndarray) -> tuple:
    """Scores, the text features themselves, and the rank of each caption's image."""
    ranks = retrieval_ranks(images, text, text_to_image, normalise=True)
    return recalls(*ranks), text, ranks[1]


@torch.no_grad()
def generated_features(tower: CLIPTextTower, precision: str, captions: int) -> np.ndarray:
    features = []
    for seed in range(0, captions, 100):
        with PRECISIONS[precision]():
            features.append(tower(*random_captions(100, seed + 1)).float().numpy())
    return np.concatenate(features)


def generated_scores(tower: CLIPTextTower, args: argparse.Namespace) -> Dict[str, tuple]:
    """Precision -> (scores, text features, ranks of captions) where an image is its caption's feature with noise."""
    texts = {name: generated_features(tower, name, args.captions) for name in PRECISIONS}
    clean = texts["float32"]
    noise = np.random.default_rng(2).standard_normal(clean.shape, dtype=np.float32)
    images = clean + NOISE * clean.std(axis=0) * noise
    pairs = np.arange(len(images))
    return {name: judge(images, text, pairs) for name, text in texts.items()}


def corpus_scores(checkpoint: Path, folder: Path) -> Dict[str, tuple]:
    """Precision -> (scores, text features, ranks of captions) of a corpus's validation set in its source language."""
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.inference.encoder import Encoder

    corpus, encoder = Corpus(folder), Encoder.load(checkpoint)
    lang, images = corpus.source_lang, corpus.features("valid", "image")
    tokens = encoder.tokenize(corpus.captions("valid", lang))
    found = {}
    for name, precision in PRECISIONS.items():
        with precision(), torch.no_grad():
            batches = [encoder.text_features(tokens[at : at + 256], lang) for at in range(0, len(tokens), 256)]
        text = torch.cat(batches).float().numpy()
        found[name] = judge(images, text, corpus.rows("valid", lang)[:, 0])
    return found


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))


def print_times(times: Dict[str, np.ndarray]) -> None:
    print("| precision | forward, ms | backward, ms | both, ms | float32 / this |\n|---|---:|---:|---:|---:|")
    for name, (forward, backward) in times.items():
        both = forward + backward
        print(f"| {name} | {forward:.0f} | {backward:.0f} | {both:.0f} | {times['float32'].sum() / both:.2f} |")


def print_scores(scores: Dict[str, tuple]) -> None:
    print(f"\n| captions encoded in | {' | '.join(SHOWN)} |\n|---|{'---:|' * len(SHOWN)}")
    for name, (metrics, _, _) in scores.items():
        print(f"| {name} | {' | '.join(f'{metrics[key]:.2f}' for key in SHOWN)} |")
    (_, full, full_ranks), (_, half, half_ranks) = scores["float32"], scores["bfloat16"]
    alike, moved = cosines(full, half), 100 * np.mean(full_ranks != half_ranks)
    furthest = np.abs(full_ranks - half_ranks).max()
    print(f"\nCosine of a caption's two features: mean {alike.mean():.6f}, least {alike.min():.6f}.")
    print(f"The rank of its image differs for {moved:.1f} % of {len(full):,} captions, by {furthest} at most.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a model, for the scores")
    parser.add_argument("--corpus", type=Path, help="a corpus folder with the model's image features")
    parser.add_argument("--width", type=int, default=512, help="of the text tower (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="of the text tower (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="captions a batch (default: %(default)s)")
    parser.add_argument("--captions", type=int, default=1000, help="generated ones to score (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="passes in each precision (default: %(default)s)")
    args = parser.parse_args()
    if (args.checkpoint is None) != (args.corpus is None):
        parser.error("give --checkpoint and --corpus together")
    torch.set_num_threads(1)
    print(f"{cpu_instructions()}; torch uses {torch.backends.cpu.get_cpu_capability()}")
    print(f"{args.layers} layers of width {args.width}, batch {args.batch_size}, one thread\n")
    tower = build_tower(args)
    print_times(pass_times(tower, args))
    given = args.checkpoint is not None
    print_scores(corpus_scores(args.checkpoint, args.corpus) if given else generated_scores(tower, args))


if __name__ == "__main__":
    main()
