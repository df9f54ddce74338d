"""How much cheaper exact chunked ranks are than the usual retrieval evaluations, and how near to the physical limit.

Compared, on the same float32 features and one CPU thread, each in a fresh process:

* ``ours``        mlvl_fairseq.evaluation.metrics.ranking.retrieval_ranks
* ``one-hot``     the algorithm of CLIP_benchmark: top-k indices -> one-hot [batch, k, candidates] -> times the matrix
                  of positive pairs -> sum; once for each k in 1, 5, 10 and direction, 64 or 512 queries at once
* ``argsort``     the algorithm of the ALBEF family: sort every row and column, look for the targets' places
* ``product``     the bare matrix product: the physical limit of any exact method

Features have 12 significant bits, so every float32 product is exact and all methods rank the same numbers: recalls
must be equal, and our ranks must equal those of a stable sort of the whole matrix.

    python benchmarks/ranking.py                                  # 3,600 x 7,200 and 5,000 x 25,000
    python benchmarks/ranking.py --size 3600x7200
    python benchmarks/ranking.py --skip-one-hot-large             # saves minutes and gigabytes
"""

import argparse
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
os.environ.update(ONE_THREAD)

import numpy as np  # noqa: E402  (after the number of threads is set)

REPOSITORY = Path(__file__).resolve().parents[1]
RECALLS = (1, 5, 10)
LARGE = 50_000_000  # scores; --skip-one-hot-large leaves out the one-hot method above


def write_features(folder: Path, n_images: int, n_texts: int, dim: int, noise: float, seed: int) -> None:
    """Random unit vectors in 12 bits; texts are noisy copies of their images, in random order."""
    rng = np.random.default_rng(seed)
    text_to_image = rng.permutation(np.arange(n_texts) % n_images)
    images = rng.standard_normal((n_images, dim))
    texts = images[text_to_image] + noise * rng.standard_normal((n_texts, dim))
    for name, features in (("images", images), ("texts", texts)):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        np.save(folder / f"{name}.npy", (np.rint(unit * 2**12) / 2**12).astype(np.float32))
    np.save(folder / "text_to_image.npy", text_to_image)


def recalls(image_ranks: np.ndarray, text_ranks: np.ndarray) -> List[float]:
    return [float(np.mean(ranks < k)) for ranks in (image_ranks, text_ranks) for k in RECALLS]


def ranks_digest(image_ranks: np.ndarray, text_ranks: np.ndarray) -> str:
    return hashlib.sha256(np.concatenate([image_ranks, text_ranks]).astype(np.int64).tobytes()).hexdigest()


def run_ours(images, texts, text_to_image) -> Tuple[List[float], str]:
    from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks

    ranks = retrieval_ranks(images, texts, text_to_image)
    return recalls(*ranks), ranks_digest(*ranks)


def run_product(images, texts, text_to_image) -> None:
    import torch

    torch.from_numpy(images) @ torch.from_numpy(texts).T


def run_argsort(images, texts, text_to_image, kind: Optional[str] = None) -> List[np.ndarray]:
    scores = images @ texts.T
    image_ranks = np.full(len(images), len(texts))
    for image, row in enumerate(scores):
        order = np.argsort(-row, kind=kind)
        image_ranks[image] = np.flatnonzero(text_to_image[order] == image)[0]
    text_ranks = np.empty(len(texts), dtype=np.int64)
    for text, column in enumerate(scores.T):
        order = np.argsort(-column, kind=kind)
        text_ranks[text] = np.flatnonzero(order == text_to_image[text])[0]
    return [image_ranks, text_ranks]


def run_one_hot(images, texts, text_to_image, batch_size: int) -> List[float]:
    import torch

    scores = torch.from_numpy(texts) @ torch.from_numpy(images).T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(texts)), torch.from_numpy(text_to_image)] = True

    def hit_rate(scores, positive, k):
        hits = 0
        for start in range(0, len(scores), batch_size):
            top = scores[start : start + batch_size].topk(k, dim=1).indices
            one_hot = torch.nn.functional.one_hot(top, num_classes=scores.shape[1])
            true = (one_hot * positive[start : start + batch_size, None, :]).sum(dim=(1, 2))
            hits += int((true > 0).sum())
        return hits / len(scores)

    return [hit_rate(s, p, k) for s, p in ((scores.T, positive.T), (scores, positive)) for k in RECALLS]


METHODS: Dict[str, Callable] = {
    "ours": run_ours,
    "one-hot, 64": functools.partial(run_one_hot, batch_size=64),
    "one-hot, 512": functools.partial(run_one_hot, batch_size=512),
    "argsort": run_argsort,
    "product": run_product,
}


def peak_mib() -> float:
    """Highest resident memory since the last :func:`reset_peak`."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(method: str, folder: Path) -> dict:
    """Run in the child: CPU seconds and extra peak memory of one method, and what it found."""
    images, texts, text_to_image = (np.load(folder / f"{name}.npy") for name in ("images", "texts", "text_to_image"))
    METHODS[method](images[:32], texts[:32], np.arange(32))  # imports and BLAS buffers are not counted
    reset_peak()
    before_mib, before_s = peak_mib(), time.process_time()
    found = METHODS[method](images, texts, text_to_image)
    result = {"cpu_s": time.process_time() - before_s, "extra_mib": peak_mib() - before_mib}
    if method == "ours":
        result["recalls"], result["ranks"] = found
    elif method == "argsort":  # as published it is unstable: ties are judged by a stable sort, not timed
        result["ranks"] = ranks_digest(*run_argsort(images, texts, text_to_image, kind="stable"))
        result["recalls"] = recalls(*found)
    elif is_one_hot(method):
        result["recalls"] = found
    return result


def is_one_hot(method: str) -> bool:
    return method.startswith("one-hot")


def measure_in_child(method: str, folder: Path, repeat: int) -> dict:
    """The run with the least CPU time of ``repeat`` fresh processes."""
    command = [sys.executable, __file__, "--child", method, str(folder)]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    runs = []
    for _ in range(repeat):
        child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(child.stdout))
    return min(runs, key=lambda run: run["cpu_s"])


def check_identical(results: Dict[str, dict]) -> None:
    assert results["ours"]["ranks"] == results["argsort"]["ranks"], "ranks differ from those of a stable sort"
    for method, result in results.items():
        assert result.get("recalls", results["ours"]["recalls"]) == results["ours"]["recalls"], (method, results)


def markdown(title: str, results: Dict[str, dict]) -> str:
    ours = results["ours"]
    lines = [f"**{title}**", "", "| method | CPU s | CPU / ours | extra MiB | memory / ours |", "|---|--:|--:|--:|--:|"]
    for method, result in results.items():
        cpu, memory = result["cpu_s"], result["extra_mib"]
        lines.append(
            f"| {method} | {cpu:.2f} | {cpu / ours['cpu_s']:.2f} | {memory:.0f} | {memory / ours['extra_mib']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def image_text_size(text: str) -> Tuple[int, int]:
    n_images, n_texts = text.lower().split("x")
    return int(n_images), int(n_texts)


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=image_text_size, action="append", metavar="IMAGESxTEXTS", help="may be repeated")
    parser.add_argument("--dim", type=int, default=512, help="of the features (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=5.0, help="of the texts, relative to the images; default 5")
    parser.add_argument("--seed", type=int, default=1, help="of the features (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="fresh processes a method (one-hot: one); default 3")
    parser.add_argument("--skip-one-hot-large", action="store_true", help="no one-hot above 50 million scores")
    parser.add_argument("--child", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    if args.child:
        print(json.dumps(measure(args.child[0], Path(args.child[1]))))
        return
    for n_images, n_texts in args.size or [(3600, 7200), (5000, 25000)]:
        methods = list(METHODS)
        if args.skip_one_hot_large and n_images * n_texts > LARGE:
            methods = [method for method in methods if not is_one_hot(method)]
        with tempfile.TemporaryDirectory() as folder:
            write_features(Path(folder), n_images, n_texts, args.dim, args.noise, args.seed)
            repeats = {method: 1 if is_one_hot(method) else args.repeat for method in methods}
            results = {method: measure_in_child(method, Path(folder), repeats[method]) for method in methods}
        check_identical(results)
        recall = ", ".join(f"{value:.1%}" for value in results["ours"]["recalls"])
        title = f"{n_images:,} images x {n_texts:,} texts, d = {args.dim} (R@1/5/10 both ways: {recall}; identical)"
        print(markdown(title, results), flush=True)


if __name__ == "__main__":
    main()
