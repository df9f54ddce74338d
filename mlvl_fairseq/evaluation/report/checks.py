"""What a reader of the numbers must know before comparing them."""

from collections import defaultdict
from typing import Dict, List, Sequence, Set

from mlvl_fairseq.evaluation.report.runs import Run
from mlvl_fairseq.evaluation.signature import differing_keys

DATA_KEYS = ("data", "lang", "images", "texts")  # of a signature; rightly different from language to language

Methods = Dict[str, List[Run]]


def warnings_about(methods: Methods) -> List[str]:
    """One line for everything that is missing or does not compare.

    Args:
        methods: name -> its runs, one for each seed.
    """
    runs = [run for group in methods.values() for run in group]
    return [
        *_missing(methods),
        *_left_out(methods),
        *_different_languages(runs),
        *_different_seeds(methods),
        *_different_signatures(runs),
    ]


def without_scores(runs: Sequence[Run]) -> List[str]:
    """The line that names the runs without any score, none where there are none."""
    if not runs:
        return []
    folders = ", ".join(str(run.folder) for run in runs)
    return [f"without any score of split {runs[0].split!r} yet, left out: {folders}"]


def comparable(runs: Sequence[Run]) -> bool:
    """Whether AA and F of the runs compare: same languages and order, scores computed alike on the same data."""
    return not (_different_languages(runs) or _different_signatures(runs))


def _missing(methods: Methods) -> List[str]:
    lines = []
    for name, runs in methods.items():
        for run in runs:
            missing = run.missing()
            if missing:
                who = f"{name} (seed {run.seed})" if len(runs) > 1 else name
                listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
                lines.append(f"{who}: {len(missing)} of {len(run.cells)} scores are missing ({listed})")
    return lines


def _left_out(methods: Methods) -> List[str]:
    """Which scores are without images that could not be used."""
    by_counts: Dict[str, List[str]] = defaultdict(list)
    for name, runs in methods.items():
        for run in runs:
            listed = (f"{lang}: {images} images, {texts} texts" for lang, (images, texts) in run.left_out.items())
            counts = "; ".join(listed)
            by_counts[counts].append(f"{name} (seed {run.seed})" if len(runs) > 1 else name)
    return [
        f"{', '.join(names)}: images that cannot be used are left out ({counts})"
        for counts, names in by_counts.items()
        if counts
    ]


def _different_languages(runs: Sequence[Run]) -> List[str]:
    """An order matters only where languages are learned in order."""
    orders = {tuple(run.languages) for run in runs if run.protocol.in_order}
    if len(orders) > 1 or len({frozenset(run.languages) for run in runs}) > 1:
        if any(run.is_evaluation for run in runs):
            return ["the models were scored on different languages or learned other orders: AA and F do not compare"]
        return ["the methods learned different languages or orders: AA and F do not compare"]
    return []


def _different_seeds(methods: Methods) -> List[str]:
    by_seeds: Dict[str, List[str]] = defaultdict(list)
    for name, runs in methods.items():
        if len(runs) == 1 and runs[0].is_evaluation and runs[0].seed is None:
            continue  # such as an official model
        by_seeds[", ".join(str(run.seed) for run in runs)].append(name)
    if len(by_seeds) < 2:
        return []
    most = max(by_seeds, key=lambda seeds: len(by_seeds[seeds]))
    others = [f"{', '.join(names)}: {seeds}" for seeds, names in by_seeds.items() if seeds != most]
    return [f"not all methods were run with the seeds {most} ({'; '.join(others)})"]


def _different_signatures(runs: Sequence[Run]) -> List[str]:
    """Scores must be computed alike in all cells, and on the same data in all cells of one language."""
    by_language: Dict[str, Set[str]] = defaultdict(set)
    for run in runs:
        for (_, j), signature in run.signatures.items():
            by_language[run.languages[j]].add(signature)
    lines = [
        f"scores were computed in different ways: {key} is {' or '.join(map(repr, values))}"
        for key, values in differing_keys(set().union(*by_language.values())).items()
        if key not in DATA_KEYS
    ]
    for language, signatures in by_language.items():
        keys = [key for key in differing_keys(signatures) if key in DATA_KEYS]
        if keys:
            lines.append(f"scores on {language} were computed on different data: {', '.join(keys)} differ")
    return lines
