"""Attention KL against the reference's numbers and a second implementation of the tower."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import assert_golden, det, load_golden
from reference_tower import double_weights, encode

from mlvl_fairseq.continual.analyses.attention_drift import (
    attention_drift,
    divergence_elements,
    drift_of_captions,
    eos_attention,
)
from mlvl_fairseq.continual.analyses.convergence import analyse_convergence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.runs.folder import RunFolder
from mlvl_fairseq.runs.protocols import PROTOCOLS


def test_elements_are_the_references():
    golden = load_golden("attention_kl")
    before = [det((2, 3, 5), 2, 0.1), det((2, 3, 3), 2, 0.2)]
    after = [det((2, 3, 5), 2, 0.5), det((2, 3, 3), 2, 0.9)]
    before, after = ([rows.softmax(-1).mean((0, 1)) for rows in part] for part in (before, after))
    elements = divergence_elements(after, before)
    assert_golden(elements, golden["elements"])
    assert_golden(elements.mean(), golden["value"])


def test_unattended_tokens_add_nothing():
    after, before = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
    assert divergence_elements([after], [before]).tolist() == pytest.approx([0, np.log(2)])


@torch.no_grad()
def reference_rows(encoder, captions):
    weights = double_weights(encoder.network.text)
    return [encode(weights, ids, heads=2)[1][:, :, -1].mean((0, 1)) for ids in captions]


def test_attention_is_that_of_a_plain_tower(new_encoder, captions_of_tokens):
    encoder, captions = new_encoder(), captions_of_tokens(9)
    rows = eos_attention(encoder.network.text, captions, encoder.tokenizer.eos)
    for row, expected, ids in zip(rows, reference_rows(encoder, captions), captions):
        assert row.shape == (len(ids),)
        torch.testing.assert_close(row.double(), expected, rtol=1e-5, atol=1e-7)
        assert float(row.sum()) == pytest.approx(1)


def test_padding_does_not_matter(new_encoder, captions_of_tokens):
    encoder, captions = new_encoder(), captions_of_tokens(9)
    together = eos_attention(encoder.network.text, captions, encoder.tokenizer.eos)
    for row, ids in zip(together, captions):
        alone = eos_attention(encoder.network.text, [ids], encoder.tokenizer.eos)[0]
        torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-7)


def test_drift_is_a_mean_over_tokens(new_encoder, captions_of_tokens, monkeypatch):
    """More than one batch, captions of different lengths: a mean over captions would differ."""
    monkeypatch.setattr("mlvl_fairseq.continual.analyses.attention_drift.BATCH_SIZE", 4)
    earlier, final, captions = new_encoder(0), new_encoder(1), captions_of_tokens(10)
    monkeypatch.setattr(type(earlier), "tokenize", lambda self, texts: [captions[int(text)] for text in texts])
    found = drift_of_captions(earlier, final, [str(i) for i in range(10)], "test")
    p, q = (torch.cat(reference_rows(encoder, captions)) for encoder in (final, earlier))
    elements = p * (p / q).log()
    assert found["kl"] == pytest.approx(float(elements.mean()), rel=1e-4)
    assert found["tokens"] == len(elements) and found["captions"] == 10
    assert drift_of_captions(final, final, ["0"], "test")["kl"] == 0


@pytest.mark.parametrize("analyse", [attention_drift, partial(analyse_convergence, noise=[0])])
def test_models_with_adapters_are_refused(new_encoder, monkeypatch, analyse):
    encoder = new_encoder()
    encoder.network.adapter = torch.nn.Identity()
    monkeypatch.setattr(Encoder, "load", lambda *arguments, **options: encoder)
    monkeypatch.setattr(RunFolder, "final_checkpoint", lambda self: "model.pt")
    monkeypatch.setattr(Corpus, "__init__", lambda self, folder: None)
    run = RunFolder(Path("run"), ["en", "de"], PROTOCOLS["sequence"], Path("corpus"))
    with pytest.raises(UserError, match="model.pt: .*adapters or prompts"):
        analyse(run)
