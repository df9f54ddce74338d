"""How flat a model's minimum is: its loss under weight noise, and the trace of its Fisher information.

Both on the training captions of all languages of a run, by its final model (the analysis of Yang et al. 2024):

* loss: average over batches of ``1 * MSE(h, e) + 0.01 * contrastive(h, v)`` at temperature 0.07, with Gaussian noise
  of some standard deviation added to every weight of the text tower;
* Fisher trace: the sum over *all* parameters of the text tower of the mean over batches of the squared gradient of a
  batch's loss.

Batches are drawn from the captions of all languages mixed, in one order that follows the seed.
"""

import contextlib
import zlib
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mlvl_fairseq.continual.analyses.inputs import load_text_tower, sample_rows
from mlvl_fairseq.data.caption_dataset import gather_rows
from mlvl_fairseq.data.corpus import TEACHER_FEATURES, Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.losses import contrastive_loss, feature_mse
from mlvl_fairseq.runs.folder import RunFolder
from mlvl_fairseq.runs.result_folder import result_folder

CROSS_LINGUAL_SCALE, CROSS_MODAL_SCALE, TEMPERATURE = 1.0, 0.01, 0.07
BATCH_SIZE = 128


@dataclass
class TrainingCaptions:
    """Tokenised captions of several languages with the teacher's features.

    Attributes:
        tokens: n lists of ids, with BOS and EOS.
        rows: int [n, 2], image row and English row of each.
        images, english: the teacher's features, one row each.
    """

    tokens: List[List[int]]
    rows: np.ndarray
    images: np.ndarray
    english: np.ndarray

    @classmethod
    def read(
        cls, corpus: Corpus, encoder: Encoder, languages: Sequence[str], limit: Optional[int], seed: int
    ) -> "TrainingCaptions":
        """The training captions of `languages` that have an English sentence, `limit` of each language.

        Raises:
            UserError: none has one. DataError: captions, rows and features do not fit together.
        """
        tokens, rows = [], []
        images, english = (corpus.features("train", kind) for kind in TEACHER_FEATURES)
        for lang in languages:
            captions, pairs = corpus.captions("train", lang), corpus.rows("train", lang)
            usable = corpus.usable("train", lang)
            usable = usable[pairs[usable, 1] >= 0]
            chosen = usable[sample_rows(len(usable), limit, seed)]
            tokens += encoder.tokenize([captions[row] for row in chosen], lang)
            rows.append(pairs[chosen])
        if not tokens:
            raise UserError(f"{corpus.folder}: no training caption of {', '.join(languages)} has an English sentence")
        return cls(tokens, np.concatenate(rows), images, english)

    def batches(self, batch_size: int, seed: int) -> List[np.ndarray]:
        """Row numbers of every batch. A last one that is not full is left out: it would have fewer negatives."""
        order = np.random.default_rng(seed).permutation(len(self.tokens))
        size = min(batch_size, len(order))
        return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def analyse_convergence(
    run: RunFolder,
    noise: Sequence[float],
    draws: int = 1,
    fisher: bool = True,
    max_captions: Optional[int] = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 1,
    device: str = "cpu",
    **frozen,
) -> Dict[str, object]:
    """Loss for every standard deviation, and the Fisher trace; parts are kept in ``<run>/analysis/convergence``.

    Args:
        run: finished, with one final model of all languages.
        noise: standard deviations. draws: noises of each that are averaged.
        fisher: compute the trace, too (a backward pass over all captions).
        max_captions: captions a language, drawn with `seed`; None: all.
        batch_size: captions a batch.
        seed: of captions, batches and noise; noises of different size have the same direction.
        device: where to compute.
        frozen: where the checkpoint's frozen weights are, if they were moved; as for `Encoder.load`.

    Returns:
        ``noise``: rows of ``std``, ``loss``, ``cross_lingual``, ``cross_modal``; ``fisher_trace``: the sum and, in
        ``fisher_by_parameter``, each parameter's part (absent without `fisher`).

    Raises:
        UserError: no final model, one with adapters or prompts, or other settings before.
        DataError: the corpus has no teacher features.
    """
    corpus = Corpus(run.corpus)
    encoder = load_text_tower(run.final_checkpoint(), run.languages, device, **frozen)
    data = TrainingCaptions.read(corpus, encoder, run.languages, max_captions, seed)
    batches = data.batches(batch_size, seed)
    settings = {"model": encoder.fingerprint, "max_captions": max_captions, "batch_size": batch_size, "seed": seed}
    summary: Dict[str, object] = {"captions": len(data.tokens), "batches": len(batches)}
    with result_folder(run.folder / "analysis" / "convergence", settings) as results:

        def loss(std: float, draw: int) -> Dict[str, float]:
            name = f"noise-{std:g}-{draw}"
            return results.once(
                name, lambda: loss_under_noise(encoder, data, batches, std, seed + draw, f"{run.name} {name}")
            )

        summary["noise"] = [
            {"std": std, **_mean([loss(std, draw) for draw in range(draws if std else 1)])} for std in noise
        ]
        if fisher:
            parts = results.once("fisher", lambda: fisher_diagonal_sums(encoder, data, batches, f"{run.name} Fisher"))
            summary.update(fisher_trace=sum(parts.values()), fisher_by_parameter=parts)
    return summary


def loss_under_noise(encoder: Encoder, data: TrainingCaptions, batches, std: float, seed: int, title: str):
    """:func:`average_loss` with noise on the weights of the text tower. Raises UserError: it is not finite."""
    with weight_noise(encoder.network.text, std, seed):
        losses = average_loss(encoder, data, batches, title)
    if not np.isfinite(list(losses.values())).all():
        raise UserError(f"--noise {std:g}: the loss is not finite; give smaller deviations")
    return losses


def _mean(losses: List[Dict[str, float]]) -> Dict[str, float]:
    return {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}


@torch.no_grad()
def average_loss(encoder: Encoder, data: TrainingCaptions, batches, title: Optional[str] = None) -> Dict[str, float]:
    """``loss``, ``cross_lingual`` and ``cross_modal``, averaged over batches."""
    totals: Dict[str, float] = {}
    for rows in tqdm(batches, desc=title, disable=title is None, unit=" batches"):
        for name, value in batch_losses(encoder, data, rows).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return {name: total / len(batches) for name, total in totals.items()}


def fisher_diagonal_sums(
    encoder: Encoder, data: TrainingCaptions, batches, title: Optional[str] = None
) -> Dict[str, float]:
    """For each parameter of the text tower the sum, over its elements, of the mean squared gradient over batches.

    Gradients are float32, squares are summed in float64.
    """
    parameters = {name: parameter.requires_grad_() for name, parameter in encoder.network.text.named_parameters()}
    sums = dict.fromkeys(parameters, 0.0)
    for rows in tqdm(batches, desc=title, disable=title is None, unit=" batches"):
        loss = batch_losses(encoder, data, rows)["loss"]
        for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values()))):
            sums[name] += float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 / len(batches)
    return sums


def batch_losses(encoder: Encoder, data: TrainingCaptions, rows: np.ndarray) -> Dict[str, Tensor]:
    """``loss`` of a batch and its two parts, each the mean over captions."""
    features = encoder.text_features([data.tokens[row] for row in rows])
    image_rows, english_rows = data.rows[rows].T
    images, english = (
        gather_rows(array, wanted).to(features.device)
        for array, wanted in ((data.images, image_rows), (data.english, english_rows))
    )
    temperature, ids = features.new_tensor(TEMPERATURE), torch.from_numpy(image_rows.copy()).to(features.device)
    cross_lingual = feature_mse(features, english) / len(rows)
    cross_modal = contrastive_loss(features, images, temperature, ids) / len(rows)
    loss = CROSS_LINGUAL_SCALE * cross_lingual + CROSS_MODAL_SCALE * cross_modal
    return {"loss": loss, "cross_lingual": cross_lingual, "cross_modal": cross_modal}


@contextlib.contextmanager
@torch.no_grad()
def weight_noise(module: nn.Module, std: float, seed: int) -> Iterator[None]:
    """Within the block every parameter of `module` has noise drawn from N(0, std^2) added.

    Each parameter's noise follows from the seed and its name alone, on any device.
    """
    weights = {name: parameter.clone() for name, parameter in module.named_parameters()} if std else {}
    try:
        for name, parameter in module.named_parameters() if std else ():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.device), alpha=std)
        yield
    finally:
        for name, parameter in module.named_parameters() if std else ():
            parameter.copy_(weights[name])
