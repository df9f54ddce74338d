"""examples/cclm/generated_table.py: the scores of finished trainings."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cclm"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cclm_generated_table", FOLDER / "generated_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished(folder, **scores):
    """A seed's folder: language -> r_mean, that of the first stage, IoU, share."""
    for kind in ("retrieval", "boxes"):
        (folder / kind).mkdir(parents=True)
    for lang, (second, first, iou, above) in scores.items():
        (folder / "retrieval" / f"{lang}.test.json").write_text(json.dumps({"r_mean": second, "first_r_mean": first}))
        (folder / "boxes" / f"{lang}.test.json").write_text(json.dumps({"iou": iou, "above_50": above}))
    (folder / "done").touch()


def test_the_table_has_a_line_for_each_score_and_means_of_both_kinds_of_languages(script, tmp_path, capsys):
    languages = {"en": (70, 60, 50, 40), "de": (60, 50, 40, 30), "es": (30, 20, 10, 1), "ru": (10, 0, 20, 3)}
    finished(tmp_path / "four_streams" / "seed1", **languages)
    finished(tmp_path / "four_streams" / "seed2", **{**languages, "en": (72, 60, 50, 40)})
    finished(tmp_path / "no_parallel" / "seed1", **languages)
    (tmp_path / "unfinished" / "seed1").mkdir(parents=True)
    script.main([str(tmp_path), "--image-languages", "en,de", "--text-languages", "es,ru"])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["trained on", "score", "en", "de", "es", "ru", "captions", "text only"]
    assert [line[0] for line in lines[2:]] == 4 * ["four_streams"] + 4 * ["no_parallel"]
    assert lines[2][1] == "r_mean by vectors"
    assert lines[2][2:] == [f"{value} ± 0.0" for value in ("60.0", "50.0", "20.0", "0.0", "55.0", "10.0")]
    assert lines[3][1:3] == ["r_mean put in order", "71.0 ± 1.4"] and lines[3][6] == "65.5 ± 0.7"
    assert lines[8][1:] == ["IoU", "50.0", "40.0", "10.0", "20.0", "45.0", "15.0"]
    assert lines[9][1:] == ["IoU above 50", "40.0", "30.0", "1.0", "3.0", "35.0", "2.0"]


def test_nothing_to_show_is_an_error(script, tmp_path):
    with pytest.raises(script.UserError, match="no training is finished"):
        script.main([str(tmp_path), "--image-languages", "en", "--text-languages", "de"])
