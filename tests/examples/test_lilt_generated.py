"""examples/lilt/run_generated.sh: its lines of text, and its table."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lilt"


@pytest.fixture(scope="module")
def script():
    """generated_table.py as a module."""
    spec = importlib.util.spec_from_file_location("generated_table", FOLDER / "generated_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished(folder, trained, total, scores):
    """A seed's folder: `scores`, metric -> score of each language."""
    (folder / "retrieval").mkdir(parents=True)
    (folder / "classification").mkdir()
    (folder / "train.log").write_text(f"INFO | {trained:,} of {total:,} parameters train (1%), 2 of 3 tensors\n")
    for metric, kind in (("r_mean", "retrieval"), ("top1", "classification")):
        for lang, score in scores[metric].items():
            (folder / kind / f"{lang}.test.json").write_text(json.dumps({metric: score}))
    (folder / "done").touch()


def test_the_table_has_per_cent_and_scores(script, tmp_path, capsys):
    rows, picture = tmp_path / "rows", tmp_path / "trained.png"
    scores = {"r_mean": {"en": 60.0, "de": 20.0, "fr": 30.0}, "top1": {"en": 50.0, "de": 40.0, "fr": 10.0}}
    other = {"r_mean": {"en": 62.0, "de": 22.0, "fr": 30.0}, "top1": {"en": 50.0, "de": 40.0, "fr": 10.0}}
    finished(rows / "ln" / "seed1", 20, 2000, scores)
    finished(rows / "full" / "seed1", 2000, 2000, scores)
    finished(rows / "full" / "seed2", 2000, 2000, other)
    (rows / "lit" / "seed1").mkdir(parents=True)  # not finished
    script.main([str(rows), "--languages", "en,de,fr", "--picture", str(picture)])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    names = [f"{metric} {name}" for metric in ("r_mean", "top1") for name in ("en", "de", "fr", "unseen")]
    assert lines[0] == ["trains", "parameters", "%", *names]
    assert [line[:3] for line in lines[2:]] == [["full", "2,000", "100.00"], ["ln", "20", "1.00"]]
    assert lines[2][3:7] == ["61.0 ± 1.4", "21.0 ± 1.4", "30.0 ± 0.0", "25.5 ± 0.7"]
    assert lines[3][3:] == ["60.0", "20.0", "30.0", "25.0", "50.0", "40.0", "10.0", "25.0"]
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_show_is_an_error(script, tmp_path):
    with pytest.raises(script.UserError, match="no row is finished"):
        script.main([str(tmp_path), "--languages", "en,de"])
    with pytest.raises(script.UserError, match="--languages en: give one that aligned and others"):
        script.main([str(tmp_path), "--languages", "en"])


def test_the_script_says_what_it_does():
    shown = subprocess.run(
        ["bash", str(FOLDER / "run_generated.sh"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith("LilT on generated data") and "PRESETS=" in shown
