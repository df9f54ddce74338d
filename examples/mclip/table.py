#!/usr/bin/env python
"""Scores of several variants and seeds as a Markdown table: mean and standard deviation over seeds, a row a variant.

python examples/mclip/table.py outputs/multi30k/trikd
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Dict, List

from mlvl_fairseq.evaluation.metrics.retrieval import METRICS

Scores = Dict[str, Dict[str, List[float]]]


def read(folder: Path, metric: str) -> Scores:
    """Variant -> language -> a score a seed; variants in the order in which they were evaluated."""
    scores: Scores = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*/*/scores.json"), key=lambda path: path.stat().st_mtime):
        for lang, values in json.loads(path.read_text(encoding="utf-8"))["languages"].items():
            scores[path.parts[-3]][lang].append(values[metric])
    return scores


def cell(values: List[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def table(scores: Scores) -> str:
    languages = list(next(iter(scores.values())))
    rows = [["", *languages], ["---", *["---:"] * len(languages)]]
    rows += [[variant, *(cell(own[lang]) for lang in languages)] for variant, own in scores.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, help="holds VARIANT/SEED/scores.json, each of `mlvl-evaluate --lang en,de,... --json`"
    )
    parser.add_argument("--metric", choices=METRICS, default="r_mean", help="default: %(default)s")
    args = parser.parse_args()
    scores = read(args.folder, args.metric)
    if not scores:
        parser.error(f"there is no {args.folder}/VARIANT/SEED/scores.json")
    print(table(scores))


if __name__ == "__main__":
    main()
