"""Carry a sequence out: prepare, train, finish and evaluate each language, in child processes."""

import json
import logging
import os
import sys

from mlvl_fairseq.continual.finish import finish_checkpoint
from mlvl_fairseq.continual.jobs import run_job
from mlvl_fairseq.continual.methods import method_options
from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import binarize
from mlvl_fairseq.data.locking import locked

logger = logging.getLogger(__name__)


def run_sequence(sequence: Sequence, corpus: Corpus) -> None:
    """Run what is not done yet of a sequence.

    Raises:
        UserError: a language or method is unknown, the folder holds another run, another process is at work in it, or
            a step failed.
    """
    method_options(sequence.settings.method)
    for lang in sequence.languages:
        for split in ("train", "valid", sequence.settings.eval_split):
            corpus.require(split, lang)
    sequence.folder.mkdir(parents=True, exist_ok=True)
    with locked(sequence.folder, wait=False):
        sequence.open(corpus)
        _run_steps(sequence, corpus)


def _run_steps(sequence: Sequence, corpus: Corpus) -> None:
    import_training()
    for step, lang in enumerate(sequence.languages):
        title = f"[{step + 1}/{len(sequence.languages)}] {lang}"
        if not sequence.is_trained(step):
            _train(sequence, corpus, step, title)
        if sequence.missing_scores(step):
            _evaluate(sequence, corpus, step, title)


def _train(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    log = sequence.log_path(step)
    run_job(
        f"{title} binarize", lambda: binarize(corpus, sequence.languages[: step + 1], sequence.languages[step]), log
    )
    arguments = sequence.arguments(step, corpus)
    run_job(f"{title} train", lambda: fairseq_train(arguments), log, total=sequence.total_updates(step, corpus))
    run_job(f"{title} finish", lambda: finish_checkpoint(sequence, step), log)


def _evaluate(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    from mlvl_fairseq.continual.evaluation import evaluate_step

    run_job(f"{title} evaluate", lambda: evaluate_step(sequence, corpus, step), sequence.step_folder(step) / "eval.log")
    scores = {lang: _r_mean(sequence, step, lang) for lang in sequence.languages[: step + 1]}
    average = sum(scores.values()) / len(scores)
    logger.info("%s: r_mean %s | average %.1f", title, " ".join(f"{k} {v:.1f}" for k, v in scores.items()), average)


def _r_mean(sequence: Sequence, step: int, lang: str) -> float:
    return json.loads(sequence.score_path(step, lang).read_text(encoding="utf-8"))["r_mean"]


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
