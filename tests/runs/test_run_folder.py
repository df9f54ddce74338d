import json
import re

import pytest

from mlvl_fairseq.continual.analyses.attention_drift import attention_drift
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.runs.folder import RunFolder, count_finished, refuse_run_folder


@pytest.fixture
def run_of(tmp_path):
    """``run_of(finished=..., **run.json)`` writes a run's folder, some steps finished, and reads it."""

    def write(finished=(), **manifest):
        manifest = {"method": "naive", "languages": ["en", "de"], "corpus": "somewhere", **manifest}
        (tmp_path / "run.json").write_text(json.dumps(manifest))
        for step in finished:
            (tmp_path / step).mkdir()
            (tmp_path / step / "done.json").touch()
        return RunFolder.read(tmp_path)

    return write


@pytest.mark.parametrize(
    "protocol, steps", [("sequence", ["00-en", "01-de"]), ("joint", ["00-joint"]), ("single", ["00-en", "01-de"])]
)
def test_steps_of_a_protocol(run_of, protocol, steps, tmp_path):
    run = run_of(steps, protocol=protocol)
    assert [step.path.name for step in run.steps] == steps
    assert run.languages == ["en", "de"] and run.name == tmp_path.name
    assert run.checkpoint(0) == tmp_path / steps[0] / "checkpoint_best.pt"
    if protocol == "single":
        with pytest.raises(UserError, match="a model for each language"):
            run.final_checkpoint()
    else:
        assert run.final_checkpoint() == tmp_path / steps[-1] / "checkpoint_best.pt"


def test_runs_are_sequences_unless_they_say_otherwise(run_of):
    assert run_of().protocol.name == "sequence"


def test_unfinished_run(run_of):
    with pytest.raises(UserError, match="01-de is not finished"):
        run_of(["00-en"]).final_checkpoint()


@pytest.mark.parametrize("content", [{"languages": []}, {"languages": None}, {"protocol": "other"}, {"corpus": 3}])
def test_damaged_manifest(run_of, content):
    with pytest.raises(DataError, match=next(iter(content))):
        run_of(**content)


def test_folder_without_run(tmp_path):
    with pytest.raises(UserError, match="give the folder of an mlvl-cll run"):
        RunFolder.read(tmp_path / "nowhere")


@pytest.mark.parametrize("manifest", [{"protocol": "joint"}, {"languages": ["en"]}])
def test_attention_drifts_along_a_sequence_only(run_of, manifest):
    with pytest.raises(UserError, match="sequence of at least two languages"):
        attention_drift(run_of(**manifest))


def test_a_run_given_for_a_model_names_its_last_model(run_of, tmp_path):
    refuse_run_folder(tmp_path)  # not a run
    refuse_run_folder(tmp_path / "nowhere.pt")
    run_of()
    with pytest.raises(UserError, match="is a run of mlvl-cll, and has no finished model yet"):
        Encoder.load(tmp_path)
    run_of(["00-en"])
    with pytest.raises(UserError, match="its last model is .*/00-en/checkpoint_best.pt"):
        Encoder.load(tmp_path)


def test_a_run_with_a_model_of_each_language_names_them_all(run_of, tmp_path):
    run_of(["00-en", "01-de"], protocol="single")
    named = f"not a model; it holds {tmp_path}/00-en/checkpoint_best.pt, {tmp_path}/01-de/checkpoint_best.pt"
    with pytest.raises(UserError, match=re.escape(named) + "$"):
        Encoder.load(tmp_path)


def test_finished_trainings_of_several_runs(tmp_path):
    for step, done in (("one/00-en", True), ("one/01-de", False), ("two/00-en", True)):
        (tmp_path / step).mkdir(parents=True)
        if done:
            (tmp_path / step / "done.json").touch()
    assert count_finished(tmp_path) == 2 and count_finished(tmp_path / "nowhere") == 0
