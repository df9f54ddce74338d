"""TEIR's row scales and token frequencies against the reference's numbers over four tasks."""

import pytest
import torch
from golden import assert_golden, load_golden

from mlvl_fairseq.continual import row_scales
from mlvl_fairseq.continual.language_state import LanguageState
from mlvl_fairseq.continual.row_scales import known_row_scales, register_row_scale, row_scale
from mlvl_fairseq.errors import UserError


def names(size):
    return [f"token-{i}" for i in range(size)]


def language_states():
    """The state of each golden task, handed over from one to the next as checkpoints are: (golden numbers, state)."""
    golden, before = load_golden("row_scales"), None
    for position, ((size, languages), numbers) in enumerate(zip(golden["tasks"], golden["per_task"])):
        current = torch.zeros(size, dtype=torch.int32)
        for token, found_in in languages.items():
            current[int(token)] = len(found_in)
        state = LanguageState(names(size), golden["clip_size"], position, current)
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
        frequencies, current = state.token_frequencies, state.current_tokens > 0
        assert_golden(frequencies, golden["freq_during"])
        assert_golden(frequencies + state.current_tokens, golden["freq_saved"])
        assert_golden(
            row_scale("current_reciprocal", frequencies, current), golden["scale_no_exclusion_current_reciprocal"]
        )
        assert len(golden["scale"]) == 7
        for name, scale in golden["scale"].items():
            assert_golden(row_scale(name, frequencies, current, special), scale, msg=name)


def test_rescaling_by_more_than_two():
    """No golden task reaches the ratio at which log2 sets in."""
    frequencies, current = torch.tensor([1.0, 32, 32, 32, 32, 32, 9]), torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool()
    ratio = 6 / (1 + 5 / 32)
    scale = row_scale("current_reciprocal_rescale", frequencies, current)
    torch.testing.assert_close(scale, torch.tensor([ratio, *[1 / 32] * 5, 0]))
    scale = row_scale("current_reciprocal_rescale_log2", frequencies, current)
    torch.testing.assert_close(scale[0], torch.tensor(ratio).log2())


def test_a_language_without_any_current_row_has_scale_zero():
    for name in ("current", "unique", "current_reciprocal", "current_reciprocal_rescale", "fixed_4", "addend_3"):
        assert row_scale(name, torch.ones(3), torch.zeros(3).bool()).tolist() == [0, 0, 0], name


@pytest.mark.parametrize("name", ["reciprocal", "fixed", "fixed_x", "current_4", ""])
def test_unknown_types_are_named_with_the_known_ones(name):
    with pytest.raises(UserError, match=f"no row scale '{name}'; there are: current, unique, .*fixed_N, addend_N"):
        row_scale(name, torch.ones(2), torch.ones(2).bool())


def test_a_new_type_is_one_function(monkeypatch):
    monkeypatch.setattr(row_scales, "ROW_SCALES", dict(row_scales.ROW_SCALES))

    @register_row_scale("half")
    def half(frequencies, current):
        return current * 0.5

    assert "half" in known_row_scales()
    assert row_scale("half", torch.ones(3), torch.tensor([True, False, True]), special=(2,)).tolist() == [0.5, 0, 0]
