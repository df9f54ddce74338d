"""Training the current language's embedding rows alone gives what training all rows gives; and plugins restart."""

import math

import pytest
import torch
from method_rows import EVERYTHING, WITH_PLUGIN, families_of

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

UPDATES = 5
SPECIAL = [49406, 49407]  # BOS, EOS
TOKENS = "text.token_embedding."
# What is in none of the methods that join many.
RARE = [method for method in WITH_PLUGIN if method not in (*EVERYTHING.split("+"), "der")]


def checkpoint(path):
    """A checkpoint after what was put off is done."""
    state = load_checkpoint_file(path)
    apply_idle_decay(state["model"], TOKENS)
    return state


@pytest.mark.parametrize("method", ["cll_clip", "cll_clip_with_teir", "cll_clip_with_teir_update"])
def test_compact_rows_equal_all_rows(method, cll, succeed, tmp_path):
    """Over two languages. Validation, which sees other tokens, too, is the same."""
    found = {}
    for name, more in (("all", ["--update-all-rows"]), ("compact", [])):
        before = []
        for lang, learned in (("en", None), ("de", "en")):
            folder = tmp_path / name / lang
            options = [*cll(lang, learned, method), *before, *more, "--max-update", UPDATES, "--weight-decay", 5]
            succeed("fairseq-train", *options, "--save-dir", folder)
            before = ["--finetune-from-model", folder / "checkpoint_last.pt"]
        found[name] = checkpoint(folder / "checkpoint_last.pt")
    dense, compact = found["all"], found["compact"]
    assert dense["model"].keys() == compact["model"].keys()
    for name, value in dense["model"].items():
        torch.testing.assert_close(compact["model"][name], value, rtol=0, atol=1e-6)
    torch.testing.assert_close(compact["criterion"], dense["criterion"], rtol=0, atol=1e-6)
    assert compact["extra_state"]["val_loss"] == pytest.approx(dense["extra_state"]["val_loss"])
    rows, vocabulary = (len(state["last_optimizer_state"]["state"][0]["exp_avg"]) for state in (compact, dense))
    assert 10 * rows < len(dense["model"][TOKENS + "weight"])
    assert method != "cll_clip" or vocabulary == len(dense["model"][TOKENS + "weight"])


def test_rows_that_are_not_trained_have_decayed_in_the_naive_method_only(cll, succeed, english, tmp_path):
    for method, moves in (("cll_clip", True), ("cll_clip_with_teir", False)):
        folder = tmp_path / method
        options = ["--finetune-from-model", english(method), "--max-update", 3, "--weight-decay", 5]
        succeed("fairseq-train", *cll("de", "en", method), *options, "--save-dir", folder)
        start = checkpoint(english(method))["model"][TOKENS + "weight"]
        model = checkpoint(folder / "checkpoint_last.pt")["model"]
        idle = model["language_state.current_tokens"][: len(start)] == 0
        idle[SPECIAL] = False
        rates = [1 - 5 * 1e-3 * warmup for warmup in (0, 0.5, 1)]
        expected = start[idle] * (math.prod(rates) if moves else 1)
        torch.testing.assert_close(model[TOKENS + "weight"][: len(start)][idle], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["cll_clip", EVERYTHING, "der+oewc+si+mas+lwf+cll_clip_with_teir", *RARE])
def test_a_restart_in_the_middle_of_a_language_is_exact(method, cll, english, succeed, tmp_path):
    """Also what is put off, and what each method remembers."""
    german = [*cll("de", "en", method), "--finetune-from-model", english(method), "--max-epoch", 2, "--lr", "1e-2"]
    german += ["--weight-decay", 1, "--disable-validation"]  # else the stop in the middle would count as a score
    succeed("fairseq-train", *german, "--save-dir", tmp_path / "whole")
    succeed("fairseq-train", *german, "--save-dir", tmp_path / "parts", "--max-update", 3)
    succeed("fairseq-train", *german, "--save-dir", tmp_path / "parts")
    whole, parts = (tmp_path / name / "checkpoint_last.pt" for name in ("whole", "parts"))
    assert differing(whole, parts) == []
    state = load_checkpoint_file(whole)
    assert state["optimizer_history"][-1]["num_updates"] == 14
    kept = {name.split(".")[1] for name in state["model"] if name.startswith("continual.")}
    assert kept == families_of(method)
    assert (TOKENS + "idle_decay_bits" in state["model"]) == (method == "cll_clip")
