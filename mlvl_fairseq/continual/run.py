"""Carry a sequence out: prepare, train, finish and evaluate each language, in child processes."""

import logging
import os
import sys
from typing import Callable, Optional

from mlvl_fairseq.continual.costs import JobCosts
from mlvl_fairseq.continual.finish import finish_checkpoint
from mlvl_fairseq.continual.jobs import run_job
from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import binarize
from mlvl_fairseq.data.json_files import read_object
from mlvl_fairseq.data.locking import locked

logger = logging.getLogger(__name__)


def run_sequence(sequence: Sequence, corpus: Corpus) -> None:
    """Run what is not done yet of a sequence.

    Raises:
        UserError: a language or method is unknown, the folder holds another run, another process is at work in it, or
            a step failed.
    """
    for lang in sequence.languages:
        for split in ("train", "valid", sequence.settings.eval_split):
            corpus.require(split, lang)
    sequence.folder.mkdir(parents=True, exist_ok=True)
    with locked(sequence.folder, wait=False):
        sequence.open(corpus)
        _run_steps(sequence, corpus)


def _run_steps(sequence: Sequence, corpus: Corpus) -> None:
    import_training()
    for step, plan in enumerate(sequence.steps):
        title = f"[{step + 1}/{len(sequence.steps)}] {plan.title}"
        if not sequence.is_trained(step):
            _train(sequence, corpus, step, title)
        if sequence.missing_scores(step):
            _evaluate(sequence, corpus, step, title)


def _train(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    def job(name: str, function: Callable, total: Optional[int] = None) -> None:
        run_job(f"{title} {name}", function, sequence.log_path(step), total, _costs(sequence, step, name))

    arguments = sequence.arguments(step, corpus)
    job("binarize", lambda: _binarize(sequence, corpus, step))
    job("train", lambda: fairseq_train(arguments), sequence.total_updates(step, corpus))
    job("finish", lambda: finish_checkpoint(sequence, step))


def _binarize(sequence: Sequence, corpus: Corpus, step: int) -> None:
    for lang in sequence.steps[step].current:
        binarize(corpus, sequence.vocabulary(step), lang)


def _evaluate(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    from mlvl_fairseq.continual.evaluation import evaluate_step

    log, costs = sequence.step_folder(step) / "eval.log", _costs(sequence, step, "evaluate")
    run_job(f"{title} evaluate", lambda: evaluate_step(sequence, corpus, step), log, costs=costs)
    scores = {lang: _r_mean(sequence, step, lang) for lang in sequence.steps[step].evaluated}
    average = sum(scores.values()) / len(scores)
    logger.info("%s: r_mean %s | average %.1f", title, " ".join(f"{k} {v:.1f}" for k, v in scores.items()), average)


def _costs(sequence: Sequence, step: int, job: str) -> JobCosts:
    return JobCosts(sequence.step_folder(step) / "costs.json", job)


def _r_mean(sequence: Sequence, step: int, lang: str) -> float:
    return read_object(sequence.score_path(step, lang))["r_mean"]


def import_training() -> None:
    """Everything a job needs, imported once before the forks."""
    # Counting GPUs through NVML does not initialise CUDA, which would not survive the fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import fairseq_cli.train  # noqa: F401
    import torch._dynamo  # noqa: F401  torch's optimizers import it on first use, for two seconds

    import mlvl_fairseq

    mlvl_fairseq.register()


def fairseq_train(arguments) -> None:
    from fairseq_cli.train import cli_main

    sys.argv = ["fairseq-train", *arguments]
    cli_main()
