"""Two methods, query by query: is the difference of their final averages more than chance of the test images?"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import Difference, paired_accuracy_bootstrap, paired_bootstrap
from mlvl_fairseq.evaluation.metrics.classification import TOP
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.retrieval import CONVENTIONS, METRICS, scores_of_ranks
from mlvl_fairseq.evaluation.report.runs import Run
from mlvl_fairseq.evaluation.report.tables import COLUMNS
from mlvl_fairseq.evaluation.signature import parse_signature

if TYPE_CHECKING:
    from mlvl_fairseq.evaluation.report.summary import MethodReport

ACCURACIES = {"accuracy": 1, **{f"top{k}": k for k in TOP}}  # metric -> an answer is right among so many best ones
# keys of signatures; what scores without the key are taken for; in words
_MUST_AGREE = (
    ("data", "not known", "tested on different data"),
    ("top", "all", "ranked among more or fewer candidates"),
    ("captions", CONVENTIONS["standard"].captions, "scored in different ways"),  # the last one: values are used
)


@dataclass(frozen=True)
class Comparison:
    """A paired bootstrap of AA, first minus second method.

    Attributes:
        first, second: names of the methods.
        languages: those that AA is the average of.
        seeds: of training, those that both were run with.
        resamples: number of draws. seeds_drawn: of the seeds, too, not of the test images alone.
        differences: metric -> difference in percentage points.
    """

    first: str
    second: str
    languages: List[str]
    seeds: List[Optional[int]]
    resamples: int
    differences: Dict[str, Difference]
    seeds_drawn: bool = False

    @property
    def columns(self) -> Dict[str, Tuple[str, ...]]:
        """Heading -> the metrics whose mean is compared: the main ones of retrieval, all of classification."""
        known = {name: metrics for name, metrics in COLUMNS.items() if set(metrics) <= self.differences.keys()}
        return known or {metric: (metric,) for metric in self.differences}

    def difference(self, metrics: Sequence[str]) -> Difference:
        """Of the mean of some metrics."""
        parts = [self.differences[metric] for metric in metrics]
        return Difference(
            float(np.mean([part.observed for part in parts])), np.mean([part.draws for part in parts], axis=0)
        )

    def to_json(self) -> Dict[str, Any]:
        rows = {
            metric: {"difference": d.observed, "interval_95": list(d.interval()), "p_value": d.p_value}
            for metric, d in self.differences.items()
        }
        names = {"first": self.first, "second": self.second, "languages": self.languages, "seeds": self.seeds}
        return {**names, "resamples": self.resamples, "seeds_drawn": self.seeds_drawn, "AA": rows}


def compare(
    first: "MethodReport", second: "MethodReport", resamples: int = 1000, draw_seeds: bool = False
) -> Comparison:
    """Paired bootstrap between the final models of two methods, averaged over the seeds that both have.

    Methods of mlvl-cll must have learned the same languages. Where one is a model that mlvl-evaluate scored (zero-shot,
    transfer), the languages are those that both were scored on; a model without a seed is compared with every seed of
    the other.

    Args:
        resamples: draws of test images. draw_seeds: in each draw, draw seeds of training, too.

    Raises:
        UserError: no language or seed in common, `draw_seeds` of one seed, other test data, no ranks beside the final
            scores, or scores of which no paired bootstrap is defined: averages of folds, metrics of other evaluators
            than retrieval and classification, of which top-k accuracies are compared.
        DataError: ranks that do not belong to their score.
    """
    named = {name: k for name, k in ACCURACIES.items() if all(name in m.metrics[0] for m in (first, second))}
    tops = list(named.values())
    for method in (first, second) if not tops else ():
        if not set(METRICS) <= set(method.metrics[0]):
            why = f"{method.name} has no retrieval metrics ({', '.join(METRICS)}), but {', '.join(method.metrics[0])}"
            raise _cannot(first, second, why)
    languages = _common_languages(first, second)
    pairs = _pair_by_seed(first.runs, second.runs)
    if not pairs:
        raise _cannot(first, second, f"no seed in common ({first.seeds} and {second.seeds})")
    if draw_seeds and len(pairs) == 1:
        raise _cannot(first, second, "seeds cannot be drawn of a single one: train more")
    runs = [run for pair in pairs for run in pair]
    ranks = [run.final_ranks(languages) for run in runs]
    recall = _common_recall(first, second, runs, languages)
    for run, found in zip(runs, ranks):
        _check_ranks(run, found, recall, named)
    by_language = [[(one[lang], other[lang]) for one, other in zip(ranks[::2], ranks[1::2])] for lang in languages]
    if first.is_evaluation != second.is_evaluation:
        by_language = [[_same_images(*pair) for pair in language] for language in by_language]
    if tops:
        found = paired_accuracy_bootstrap(by_language, tops, resamples, draw_seeds=draw_seeds)
        differences = {name: found[f"top{k}"] for name, k in named.items()}
    else:
        by_text = CONVENTIONS[recall].by_text
        differences = paired_bootstrap(by_language, resamples, by_text=by_text, draw_seeds=draw_seeds)
    seeds = [other.seed if one.seed is None else one.seed for one, other in pairs]
    return Comparison(first.name, second.name, languages, seeds, resamples, differences, draw_seeds)


def _cannot(first: "MethodReport", second: "MethodReport", why: str) -> UserError:
    return UserError(f"cannot compare {first.name} and {second.name}: {why}")


def _common_languages(first: "MethodReport", second: "MethodReport") -> List[str]:
    common = [language for language in first.languages if language in second.languages]
    only = "; ".join(filter(None, (_only(first, second), _only(second, first))))
    if first.is_evaluation or second.is_evaluation:
        if not common:
            raise _cannot(first, second, f"they were scored on different languages ({only})")
    elif only:
        raise _cannot(first, second, f"they learned different languages ({only})")
    return common


def _only(method: "MethodReport", other: "MethodReport") -> str:
    """The languages that only one of two methods has, in words."""
    languages = [language for language in method.languages if language not in other.languages]
    return f"only {method.name}: {', '.join(languages)}" if languages else ""


def _pair_by_seed(first: Sequence[Run], second: Sequence[Run]) -> List[Tuple[Run, Run]]:
    for alone, others in ((first, second), (second, first)):
        if len(alone) == 1 and alone[0].is_evaluation and alone[0].seed is None:
            return [(alone[0], run) if alone is first else (run, alone[0]) for run in others]
    by_seed = {run.seed: run for run in second}
    return [(run, by_seed[run.seed]) for run in first if run.seed in by_seed]


def _common_recall(first: "MethodReport", second: "MethodReport", runs: Sequence[Run], languages: Sequence[str]) -> str:
    """How recall was counted in all runs: a name in :data:`CONVENTIONS`.

    Raises:
        UserError: it was counted in different ways, on different data, or as the average of folds.
    """
    for language in languages:
        signatures = [parse_signature(run.final_signature(language)) for run in runs]
        for key, earlier, what in _MUST_AGREE:
            values = sorted({signature.get(key, earlier) for signature in signatures})
            if len(values) > 1:
                raise _cannot(first, second, f"on {language} they were {what} ({key} is {' or '.join(values)})")
        folds = next((s["folds"] for s in signatures if s.get("folds", "1") != "1"), None)
        if folds:
            why = f"scores on {language} are averages over {folds} parts of the images"
            raise _cannot(first, second, f"{why}: no paired bootstrap is defined of them; evaluate without --n-fold")
    return next(name for name, convention in CONVENTIONS.items() if convention.captions == values[0])


def _check_ranks(run: Run, ranks: Dict[str, QueryRanks], recall: str, tops: Mapping[str, int]) -> None:
    """Raises DataError: ranks do not give the scores beside them."""
    for language, queries in ranks.items():
        if tops:
            scores = {name: 100 * float(np.mean(queries.text_ranks < k)) for name, k in tops.items()}
        else:
            scores = scores_of_ranks(queries.image_ranks, queries.text_ranks, queries.text_to_image, recall=recall)
        column = run.languages.index(language)
        stored = {metric: run.matrix[metric][-1, column] for metric in scores}
        if not all(np.isclose(scores[metric], stored[metric], rtol=0, atol=1e-6) for metric in scores):
            message = f"its ranks on {language} do not give its score; delete both and evaluate again"
            raise DataError(message, run.folder)


def _same_images(first: QueryRanks, second: QueryRanks) -> Tuple[QueryRanks, QueryRanks]:
    """The second's images as the first counts them: one has a corpus's rows, the other checksums of names. Signatures
    have shown already that the images, and their order, are the same."""
    return first, replace(second, images=first.images) if len(first.images) == len(second.images) else second
