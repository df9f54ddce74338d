"""What a training started from is in its checkpoints, and others are not gone on with; the command: end_to_end."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
from fairseq.models import MODEL_DATACLASS_REGISTRY

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.other_start import go_on_from_the_same_start, started_from
from mlvl_fairseq.models.dual_encoder import DualEncoderModel
from mlvl_fairseq.options import STARTS

OPTIONS = {
    "clip": ["init_from"],
    "mte": ["init_from"],
    "trikd": ["init_projectors_from"],
    "m2m": ["init_projectors_from"],
    "dual_encoder": ["image_weights", "text_weights", "init_from"],
    "cclm": ["image_weights", "text_weights", "init_from"],
    "image_classifier": ["image_weights"],
}


@pytest.mark.parametrize("model", OPTIONS)
def test_options_that_name_a_start(model):
    options = fields(MODEL_DATACLASS_REGISTRY[model])
    assert [one.name for one in options if one.metadata.get(STARTS)] == OPTIONS[model]


def model(**given):
    made = DualEncoderModel.__new__(DualEncoderModel)
    vars(made)["built_with"] = SimpleNamespace(
        **{"image_weights": None, "text_weights": None, "init_from": "", **given}
    )
    return made


@pytest.fixture
def load(tmp_path):
    """``load(before, model, updates, reset)``: what fairseq does where it loads a checkpoint with such extra state."""

    def loaded(before, now, updates=1, reset=False):
        module = SimpleNamespace(load_checkpoint=lambda cfg, trainer: (before, "iterator"))
        go_on_from_the_same_start(module)
        trainer = SimpleNamespace(get_model=lambda: now, get_num_updates=lambda: updates)
        cfg = SimpleNamespace(save_dir="runs/a", reset_optimizer=reset)
        return module.load_checkpoint(cfg, trainer)[1]

    return loaded


def test_another_start_is_refused_by_content(load, tmp_path):
    a, b, copy = (tmp_path / name for name in ("a.pt", "b.pt", "elsewhere.pt"))
    for path, content in ((a, b"a"), (b, b"b"), (copy, b"a")):
        path.write_bytes(content)
    before = {"started_from": started_from(model(text_weights=str(a)))}
    assert list(before["started_from"]) == ["text_weights"]
    told = f"started with --text-weights {a}, and --text-weights {b} holds other weights"
    with pytest.raises(UserError, match=f"^--save-dir runs/a holds a training that {told}: choose another folder"):
        load(before, model(text_weights=str(b)))
    for now in (model(text_weights=str(a)), model(text_weights=str(copy)), model(), model(image_weights=str(b))):
        assert load(before, now) == "iterator"
    for state in (None, {}):  # no checkpoint, or one of an earlier version
        assert load(state, model(text_weights=str(b))) == "iterator"
    assert load(before, model(text_weights=str(b)), updates=0) == "iterator"  # --finetune-from-model
    assert load(before, model(text_weights=str(b)), reset=True) == "iterator"


def test_a_folder_is_its_weights(load, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.safetensors").write_bytes(b"a")
    before = {"started_from": started_from(model(text_weights=str(tmp_path / "a")))}
    (tmp_path / "a" / "README.md").write_text("of no weight")
    assert load(before, model(text_weights=str(tmp_path / "a"))) == "iterator"
    (tmp_path / "a" / "model.safetensors").write_bytes(b"b")
    with pytest.raises(UserError, match="holds other weights"):
        load(before, model(text_weights=str(tmp_path / "a")))
