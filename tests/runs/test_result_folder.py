import json

import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.runs.result_folder import read_scores_settings, result_folder, scores_folder
from mlvl_fairseq.version import __version__


def test_parts_are_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    for _ in range(2):
        with result_folder(tmp_path / "results", {"seed": 1}) as results:
            assert results.once("part", compute) == {"value": 1}
            assert results.get("other") is None
    assert json.loads((tmp_path / "results" / "part.json").read_text()) == {"value": 1}


def test_failed_part_is_not_kept(tmp_path):
    with pytest.raises(ZeroDivisionError), result_folder(tmp_path, {}) as results:
        results.once("part", lambda: {"value": 1 / 0})
    with result_folder(tmp_path, {}) as results:
        assert results.once("part", lambda: {"value": 2}) == {"value": 2}


@pytest.mark.parametrize("settings", [{"seed": 2}, {"seed": 1, "limit": 3}, {}])
def test_other_settings_are_refused(tmp_path, settings):
    with result_folder(tmp_path, {"seed": 1}):
        pass
    with pytest.raises(UserError, match="other settings.*choose another folder"), result_folder(tmp_path, settings):
        raise AssertionError("not reached")


def test_damaged_part(tmp_path):
    with result_folder(tmp_path, {}) as results:
        results.path("part").write_text("{")
        with pytest.raises(DataError, match="part.json: not JSON"):
            results.get("part")


def test_scores_of_an_earlier_version_go_on(tmp_path):
    """It did not say which evaluator: there was one."""
    (tmp_path / "settings.json").write_text(
        json.dumps({"model": "sha", "split": "test", "n_fold": 1, "version": __version__})
    )
    (tmp_path / "de.test.json").write_text('{"r_mean": 3}')
    with scores_folder(tmp_path, "retrieval", "sha", {"split": "test", "n_fold": 1}) as results:
        assert results.get("de.test") == {"r_mean": 3}
    with pytest.raises(UserError, match="evaluator is 'retrieval' there, 'classification' here"):
        with scores_folder(tmp_path, "classification", "sha", {"split": "test", "n_fold": 1}):
            raise AssertionError("not reached")


def test_which_folders_hold_scores(tmp_path):
    with scores_folder(tmp_path / "scores", "vqa", "sha", {"split": "val"}):
        pass
    assert read_scores_settings(tmp_path / "scores") == {
        **{"evaluator": "vqa", "model": "sha", "split": "val", "version": __version__}
    }
    with result_folder(tmp_path / "analysis", {"model": "sha", "seed": 1}):
        pass
    assert read_scores_settings(tmp_path / "analysis") is None and read_scores_settings(tmp_path / "nowhere") is None
