"""Mean and standard deviation over seeds of what mlvl-report wrote: ``OUTPUT/seed*/report.json`` to Markdown tables.

usage: python examples/cll_clip/mean_over_seeds.py outputs/flickr8k [METRIC ...]
"""

import json
import statistics
import sys
from pathlib import Path


def average_r10(values: dict) -> float:
    """Mean of R@10 in both directions, the figure that small evaluation sets tell apart best."""
    return (values["txt_r10"] + values["img_r10"]) / 2


def show(values) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    reports = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("seed*/report.json"))]
    if not reports:
        sys.exit(f"no seed*/report.json in {sys.argv[1]}: run run_flickr8k.sh first")
    metrics = sys.argv[2:] or ["r_mean", "txt_r1", "img_r1"]
    names = [*metrics, "mean R@10"]
    print(f"{len(reports)} seeds; AA / F in %, mean ± standard deviation over seeds\n")
    print("| method | " + " | ".join(f"{name} AA | {name} F" for name in names) + " |")
    print("|---|" + "---:|" * (2 * len(names)))
    for method in reports[0]["methods"]:
        rows = [report["methods"][method] for report in reports]
        cells = [show([row[part][metric] for row in rows]) for metric in metrics for part in ("AA", "F")]
        cells += [show([average_r10(row[part]) for row in rows]) for part in ("AA", "F")]
        print(f"| `{method}` | " + " | ".join(cells) + " |")
    print_matrices(reports)


def print_matrices(reports, metric: str = "r_mean") -> None:
    """The score matrix of each method, averaged over seeds."""
    for method, first in reports[0]["methods"].items():
        languages = first["languages"]
        print(f"\n`{method}`, {metric} after learning each language\n")
        print("| | " + " | ".join(languages) + " |\n|---|" + "---:|" * len(languages))
        for step, lang in enumerate(languages):
            rows = [report["methods"][method]["matrix"][metric][step] for report in reports]
            cells = [f"{statistics.mean(column):.1f}" for column in zip(*rows)]
            print(f"| after {lang} | " + " | ".join(cells + [""] * (len(languages) - len(cells))) + " |")


if __name__ == "__main__":
    main()
