"""`mlvl-report` as a user runs it."""

import json
import shutil

import numpy as np
import pytest

from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks

METRICS = ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")


@pytest.fixture
def run_dir(tmp_path):
    """A run of two languages: after German, English has fallen from 60 to 48."""
    folder = tmp_path / "runs" / "naive"
    scores = {("00-en", "en"): 60, ("01-de", "en"): 48, ("01-de", "de"): 50}
    for (step, lang), score in scores.items():
        path = folder / "scores" / step / f"{lang}.test.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**dict.fromkeys(METRICS, score), "signature": "split:test"}))
    (folder / "run.json").write_text(json.dumps({"method": "naive", "languages": ["en", "de"]}))
    return folder


def status(run_here, *arguments):
    with pytest.raises(SystemExit) as exit:
        run_here("mlvl-report", *arguments)
    return exit.value.code


def test_all_formats_beside_the_run(run_here, run_dir, capsys):
    assert status(run_here, run_dir) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("| method ")
    assert output[2].replace("|", "").split() == ["naive", *("49.0", "12.0", "12.0") * 4]
    assert {path.name for path in run_dir.iterdir() if path.suffix in (".json", ".md", ".png", ".csv")} == {
        *("run.json", "report.json", "report.md", "report.png", "curves.png", "matrix_naive.png", "summary.csv"),
        *(f"naive_CL_retrieval{part}.csv" for part in ("", "_cl_AA", "_cl_F", "_cl_Fen", "_cl_overall")),
    }


def test_options(run_here, run_dir, capsys, tmp_path):
    output = tmp_path / "tables"
    options = ["--forgetting", "avalanche", "--format", "md", "--ndigits", "2", "--metric", "img_r5"]
    assert status(run_here, run_dir.parent, "--output", output, *options) == 0
    assert [path.name for path in output.iterdir()] == ["report.md"]
    text = (output / "report.md").read_text(encoding="utf-8")
    assert "| after de | 48.00 | 50.00 | 49.00 | 12.00 |" in text and "`img_r5`" in text
    assert "avalanche: score right after learning" in text and "report.png" not in text
    assert "12.00" in capsys.readouterr().out


def test_several_folders(run_here, run_dir, tmp_path, monkeypatch, capsys):
    """Another seed of the same run elsewhere; the report goes to ./report."""
    other = tmp_path / "elsewhere"
    shutil.copytree(run_dir, other)
    for seed, folder in enumerate((run_dir, other)):
        manifest = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**manifest, "method": "cll_clip", "seed": seed}))
    monkeypatch.chdir(tmp_path)
    assert status(run_here, run_dir, other, "--published", "coco", "--format", "md") == 0
    lines = capsys.readouterr().out.splitlines()
    assert " 49.0 ± 0.0 |" in lines[2] and lines[3].startswith("| cll_clip (published, CLIP ViT-B/16, 36 languages) ")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["report.md"]


def test_compare(run_here, run_dir, capsys):
    """Ranks that give the scores of the fixture: so many of 100 images are found first, the others not at all."""
    shutil.copytree(run_dir, run_dir.parent / "copy")
    for folder, method in ((run_dir, "naive"), (run_dir.parent / "copy", "twin")):
        (folder / "run.json").write_text(json.dumps({"method": method, "languages": ["en", "de"]}))
        for lang, score in (("en", 48), ("de", 50)):
            ranks = np.where(np.arange(100) < score, 0, 10)
            queries = QueryRanks(np.arange(100), np.arange(100), ranks, ranks)
            queries.save(folder / "scores" / "01-de" / f"{lang}.test.ranks.npz")
    options = ["--compare", "naive", "twin", "--resamples", "20", "--format", "csv"]
    assert status(run_here, run_dir.parent, *options) == 0
    output = capsys.readouterr().out
    assert "## naive minus twin" in output and "paired bootstrap over images, 20 draws" in output
    assert output.count("+0.00 | [+0.00, +0.00] | 1.000 |") == 4
    assert (run_dir.parent / "comparisons.csv").exists()
    assert status(run_here, run_dir.parent, *options, "--draw-seeds") == 2
    assert "cannot compare naive and twin: seeds cannot be drawn of a single one" in capsys.readouterr().err
    assert status(run_here, run_dir.parent, "--compare", "naive", "ours") == 2
    assert "no method 'ours' in this report; there are: twin, naive" in capsys.readouterr().err


@pytest.mark.parametrize("existing", [True, False])
def test_not_a_run(run_here, tmp_path, capsys, existing):
    folder = tmp_path if existing else tmp_path / "nowhere"
    assert status(run_here, folder) == 2
    error = capsys.readouterr().err
    assert str(folder) in error and "give the folder of an mlvl-cll run" in error and "Traceback" not in error


def test_help_starts_without_torch(run_alone):
    show = "from mlvl_fairseq.cli.report import build_parser; build_parser().format_help()"
    check = "import sys; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    result = run_alone("python", "-c", f"{show}\n{check}")
    assert result.stdout == "[]\n", result.stderr
