"""What does a language cost when many were learned before it?

Runs one method over a long order of generated languages (with `examples/cll_clip/run_sota.sh`, so the sizes of its
environment apply: PICTURES, TEST_PICTURES, ...), or takes a finished run, and reads what every job of every language
took. Prints each job's cost for the first and the last languages, and the median slope along all of them; draws the
curves. Evaluation goes over all languages so far, so it is counted for each language evaluated.

    python benchmarks/sequence_cost.py outputs/sequence_cost --method cll_clip_with_teir_update --updates 5
    python benchmarks/sequence_cost.py outputs/sequence_cost --run outputs/cll_clip/runs/seed1/der
"""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
JOBS = ("binarize", "train", "finish", "evaluate")
ENDS = 6  # languages at either end that are averaged


class Slope(NamedTuple):
    """What every further language adds to a cost: estimate and 95 % confidence interval."""

    value: float
    low: float
    high: float


def learn(out: Path, method: str, order: str, updates: int) -> Path:
    """Run the sequence, or what is missing of it; gives its folder."""
    environment = {**os.environ, "METHODS": method, "ORDER": order, "UPDATES": str(updates), "SEEDS": "1"}
    script = ROOT / "examples" / "cll_clip" / "run_sota.sh"
    subprocess.run(["bash", str(script), "cpu", "", str(out)], env=environment, check=True)
    return out / "runs" / "seed1" / method


def read_series(run: Path) -> Dict[str, np.ndarray]:
    """Name -> one value a language: seconds of each job, largest memory, size of the checkpoint."""
    steps = sorted(path.parent for path in run.glob("*/costs.json"))
    costs = [json.loads((step / "costs.json").read_text(encoding="utf-8")) for step in steps]
    learned = np.arange(1, len(steps) + 1)
    series = {f"{job}, s": np.array([cost[job]["seconds"] for cost in costs]) for job in JOBS}
    series["evaluate, s per language evaluated"] = series.pop("evaluate, s") / learned
    for job in ("train", "evaluate"):
        series[f"{job}, peak MiB"] = np.array([cost[job]["peak_mib"] for cost in costs])
    sizes = [(step / "checkpoint_best.pt").stat().st_size for step in steps]
    series["checkpoint, MiB"] = np.array(sizes) / 2**20
    return series


def slope(values: np.ndarray) -> Slope:
    """The median slope between two languages, which other work on the machine does not bend (Theil 1950, Sen 1968).

    English, which pays for warming up, is left out.
    """
    first, second = np.triu_indices(len(values) - 1, k=1)
    slopes = np.sort((values[1:][second] - values[1:][first]) / (second - first))
    count = len(values) - 1
    deviation = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = (int(round((len(slopes) + sign * deviation) / 2)) for sign in (-1, 1))
    return Slope(float(np.median(slopes)), slopes[max(low, 0)], slopes[min(high, len(slopes) - 1)])


def table(series: Dict[str, np.ndarray]) -> str:
    count = len(next(iter(series.values())))
    lines = [
        f"| cost of a language | 2nd to {ENDS + 1}th | last {ENDS} | each further language adds | in % of the mean |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, values in series.items():
        line, mean = slope(values), values[1:].mean()
        lines.append(
            f"| {name} | {values[1 : ENDS + 1].mean():.3g} | {values[-ENDS:].mean():.3g} "
            f"| {line.value:+.2g} ({line.low:+.2g} to {line.high:+.2g}) | {100 * line.value / mean:+.2f} |"
        )
    return "\n".join([f"{count} languages", "", *lines])


def draw(path: Path, series: Dict[str, np.ndarray], title: str) -> None:
    """Seconds left, MiB right; a dashed line is the fit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for axis, unit in zip(axes, (", s", "MiB")):
        for name, values in series.items():
            if unit in name:
                x = np.arange(len(values))
                (drawn,) = axis.plot(x + 1, values, marker=".", label=name)
                rise = slope(values).value * x[1:]
                axis.plot(x[1:] + 1, rise + np.median(values[1:] - rise), "--", color=drawn.get_color(), linewidth=1)
        axis.set(xlabel="language", ylabel=unit.strip(", "), ylim=(0, None))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the run, the table and the picture")
    parser.add_argument("--run", type=Path, help="a finished run to look at, instead of learning one")
    parser.add_argument("--method", default="cll_clip_with_teir_update", help="to learn with (default: %(default)s)")
    parser.add_argument("--order", default="order36", help="of the languages (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=5, help="of each language (default: %(default)s)")
    args = parser.parse_args()
    run = args.run or learn(args.output, args.method, args.order, args.updates)
    series = read_series(run)
    args.output.mkdir(parents=True, exist_ok=True)
    draw(args.output / "sequence_cost.png", series, f"Cost of each language: {run.name}")
    print(table(series))


if __name__ == "__main__":
    main()
