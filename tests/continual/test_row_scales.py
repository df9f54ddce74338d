"""TEIR's row scales and token frequencies against the reference's numbers over four tasks."""

import numpy as np
import pytest
import torch
from golden import assert_golden, load_golden

from mlvl_fairseq.continual import row_scales
from mlvl_fairseq.continual.learner import LanguageState
from mlvl_fairseq.continual.row_scales import RowUse, known_row_scales, register_row_scale, row_scale
from mlvl_fairseq.errors import UserError


def names(size):
    return [f"token-{i}" for i in range(size)]


def use_of(current, frequencies):
    current = torch.tensor(current).bool()
    return RowUse(current, torch.tensor(frequencies), current / len(current), torch.zeros(len(current)))


def language_states():
    """The state of each golden task, handed over from one to the next as checkpoints are: (golden numbers, state)."""
    golden, before = load_golden("row_scales"), None
    for position, ((size, languages), numbers) in enumerate(zip(golden["tasks"], golden["per_task"])):
        counts = np.zeros((3, size), np.int64)
        for token, found_in in languages.items():
            counts[: len(found_in), int(token)] = 1
        state = LanguageState(names(size), golden["clip_size"], position, counts, np.zeros(size, np.int64))
        if before is not None:
            checkpoint = {f"language_state.{name}": tensor for name, tensor in before.state_dict().items()}
            assert state.is_handover(checkpoint, "language_state.")
            state.hand_over(checkpoint, "language_state.")
            state.load_state_dict({name.split(".")[1]: tensor for name, tensor in checkpoint.items()})
        yield numbers, state
        before = state


def test_scales_and_frequencies_of_four_tasks():
    special = tuple(load_golden("row_scales")["special_token_ids"])
    tasks = list(language_states())
    assert len(tasks) == 4
    for golden, state in tasks:
        use = state.use(0)
        assert_golden(use.frequencies, golden["freq_during"])
        assert_golden(use.frequencies + state.current_tokens, golden["freq_saved"])
        assert_golden(row_scale("current_reciprocal", use), golden["scale_no_exclusion_current_reciprocal"])
        assert len(golden["scale"]) == 7
        for name, scale in golden["scale"].items():
            assert_golden(row_scale(name, use, special), scale, msg=name)


def test_rescaling_by_more_than_two():
    """No golden task reaches the ratio at which log2 sets in."""
    use = use_of([1, 1, 1, 1, 1, 1, 0], [1.0, 32, 32, 32, 32, 32, 9])
    ratio = 6 / (1 + 5 / 32)
    scale = row_scale("current_reciprocal_rescale", use)
    torch.testing.assert_close(scale, torch.tensor([ratio, *[1 / 32] * 5, 0]))
    scale = row_scale("current_reciprocal_rescale_log2", use)
    torch.testing.assert_close(scale[0], torch.tensor(ratio).log2())


def test_a_language_without_any_current_row_has_scale_zero():
    for name in (*row_scales.ROW_SCALES, "fixed_4", "addend_3"):
        assert row_scale(name, use_of([0, 0, 0], [1.0, 1, 1])).tolist() == [0, 0, 0], name


@pytest.mark.parametrize("name", ["reciprocal", "fixed", "fixed_x", "current_4", ""])
def test_unknown_types_are_named_with_the_known_ones(name):
    with pytest.raises(UserError, match=f"no row scale '{name}'; there are: current, unique, .*fixed_N, addend_N"):
        row_scale(name, use_of([1, 1], [1.0, 1]))


def test_a_new_type_is_one_function(monkeypatch):
    monkeypatch.setattr(row_scales, "ROW_SCALES", dict(row_scales.ROW_SCALES))

    @register_row_scale("half")
    def half(use):
        return use.current * 0.5

    assert "half" in known_row_scales()
    assert row_scale("half", use_of([1, 0, 1], [1.0, 1, 1]), special=(2,)).tolist() == [0.5, 0, 0]
