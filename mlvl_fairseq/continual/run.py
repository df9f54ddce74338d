"""Carry a sequence out: prepare, train, finish and evaluate each language, in child processes.

torch and fairseq are imported where there is something to do: a run that is finished says so at once.
"""

import contextlib
import gc
import logging
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from mlvl_fairseq.continual import preconditions
from mlvl_fairseq.continual.sequence import Sequence, Settings, launched
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import remove_left_over
from mlvl_fairseq.json_files import read_object
from mlvl_fairseq.process.jobs import run_job
from mlvl_fairseq.process.locks import locked
from mlvl_fairseq.runs.costs import JobCosts
from mlvl_fairseq.runs.fields import score_in

logger = logging.getLogger(__name__)


def run_sequence(sequence: Sequence, corpus: Corpus) -> None:
    """Run what is not done yet of a sequence.

    Raises:
        UserError: something that any language needs is not there, the folder holds another run, another process is at
            work in it, or a step failed. Nothing has been made where it is known before the first update.
    """
    with contextlib.ExitStack() as reading:
        reading.enter_context(corpus.reading_once())
        check_sequence(sequence, corpus)
        if sequence.untrained:
            preconditions.check_training(sequence, corpus, sequence.untrained)
            preconditions.tell_without_effect(sequence, corpus, sequence.untrained[0])
        sequence.folder.mkdir(parents=True, exist_ok=True)
        with locked(sequence.folder, wait=False):
            sequence.open(corpus)
            reading.close()
            _run_steps(sequence, corpus)


def print_sequence(sequence: Sequence, corpus: Corpus) -> None:
    """Print the command of each step. Raises UserError: as :func:`run_sequence`, where no model has to be built."""
    with corpus.reading_once():
        check_sequence(sequence, corpus)
        if sequence.untrained:
            preconditions.check_options(sequence, corpus, sequence.untrained)
        for step in range(len(sequence.steps)):
            print(sequence.command(step, corpus))


def check_sequence(sequence: Sequence, corpus: Corpus) -> None:
    """Check what can be checked without building what is trained. Raises UserError."""
    preconditions.check_languages(sequence, corpus)
    preconditions.check_folder(sequence.folder)
    missing = any(sequence.missing_scores(step) for step in range(len(sequence.steps)))
    if sequence.untrained:
        _check_weights(sequence.settings)
    if sequence.untrained or missing:
        import_training()
    sequence.check(corpus)
    if sequence.untrained:
        preconditions.check_folder(corpus.folder)
        _check_model(sequence.settings)
        preconditions.check_usable(sequence, corpus)
        preconditions.require_english(corpus, sequence.languages)
        preconditions.check_vocabularies(sequence, corpus, sequence.untrained)


def _check_weights(settings: Settings) -> None:
    """Raises UserError: the weights to start from are not there."""
    if settings.init_from is None:
        logger.warning(
            "no --init-from: the student starts from random weights, not from its teacher's; its text tower stays as "
            "it is drawn, and the default rates (--lr, --warmup-ratio) are for a pre-trained CLIP"
        )
    elif not Path(settings.init_from).exists():
        raise UserError(f"--init-from {settings.init_from}: no such file or folder")


def _check_model(settings: Settings) -> None:
    """Raises UserError: there is no such architecture."""
    from mlvl_fairseq.networks import NETWORKS

    known = [name for _, network in sorted(NETWORKS.items()) for name in network.language_architectures]
    if settings.arch not in known:
        raise UserError(f"no --arch {settings.arch}; there are: {', '.join(known)}")


def _run_steps(sequence: Sequence, corpus: Corpus) -> None:
    for step, plan in enumerate(sequence.steps):
        title = f"[{step + 1}/{len(sequence.steps)}] {plan.title}"
        remove_left_over(sequence.folder_of(step).path)
        if not sequence.is_trained(step):
            _train(sequence, corpus, step, title)
        if sequence.missing_scores(step):
            _evaluate(sequence, corpus, step, title)
        logger.info("%s: %s", title, _scores(sequence, step))
    folder = shlex.quote(str(sequence.folder))
    logger.info("all languages are learned and scored; tables and curves: mlvl-report %s", folder)


def _train(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    def job(name: str, function: Callable, total: Optional[int] = None) -> None:
        run_job(f"{title} {name}", function, sequence.folder_of(step).training_log, total, _costs(sequence, step, name))

    from mlvl_fairseq.continual.finish import finish_checkpoint

    arguments, first = sequence.arguments(step, corpus), sequence.updates_before(step)
    job("binarize", lambda: _binarize(sequence, corpus, step))
    train = partial(launch_training, sequence.launch) if sequence.launch else partial(fairseq_train, first_step=first)
    if "--compile" in sequence.settings.extra:
        logger.info("%s train: compiling the text tower's blocks, once a language", title)
    job("train", lambda: train(arguments), sequence.total_updates(step, corpus))
    job("finish", lambda: finish_checkpoint(sequence, step))


def _binarize(sequence: Sequence, corpus: Corpus, step: int) -> None:
    from mlvl_fairseq.data.corpus.binarize import binarize

    for lang in sequence.steps[step].current:
        binarize(sequence.vocabulary(step, corpus), lang)


def _evaluate(sequence: Sequence, corpus: Corpus, step: int, title: str) -> None:
    from mlvl_fairseq.continual.evaluation import evaluate_step

    log, costs = sequence.folder_of(step).evaluation_log, _costs(sequence, step, "evaluate")
    run_job(f"{title} evaluate", lambda: evaluate_step(sequence, corpus, step), log, costs=costs)


def _costs(sequence: Sequence, step: int, job: str) -> JobCosts:
    return JobCosts(sequence.folder_of(step).costs, job)


def _scores(sequence: Sequence, step: int) -> str:
    """``r_mean en 51.2 de 40.1 | average 45.7`` of the model of a step."""
    languages = sequence.steps[step].evaluated
    paths = [sequence.score_path(step, lang) for lang in languages]
    scores = [score_in(read_object(path), "r_mean", path) for path in paths]
    each = " ".join(f"{lang} {score:.1f}" for lang, score in zip(languages, scores))
    return f"r_mean {each} | average {sum(scores) / len(scores):.1f}"


def import_training() -> None:
    """Everything a job needs, imported once before the forks; none of it is looked through for garbage after them."""
    # Counting GPUs through NVML does not initialise CUDA, which would not survive the fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import fairseq_cli.train  # noqa: F401

    import mlvl_fairseq

    mlvl_fairseq.register()
    gc.freeze()


def fairseq_train(arguments, first_step: int = 0) -> None:
    """``fairseq-train``; `first_step`: updates before it, which TensorBoard is to count on from."""
    from fairseq.logging.progress_bar import TensorboardProgressBarWrapper
    from fairseq_cli.train import cli_main

    TensorboardProgressBarWrapper.first_step = first_step
    sys.argv = ["fairseq-train", *arguments]
    cli_main()


def launch_training(launch: str, arguments) -> None:
    """``fairseq-train`` by a command that starts it on all ranks, in the place of this process."""
    command = launched(launch, arguments)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise UserError(f"--launch {launch}: {command[0]}: {error.strerror}") from None
