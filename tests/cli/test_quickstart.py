import pytest

from mlvl_fairseq.cli import quickstart
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.search.serving import server

METRICS = ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")


@pytest.mark.parametrize("missing", [False, True])
def test_the_summary_is_printed_and_what_comes_next(missing, tmp_path, monkeypatch, capsys):
    """Not the whole report; a run that left no score is named; the model that is best in the end searches pictures."""
    for method, score in (("naive", 50), ("er", 60), ("oewc", 55), ("failed", None)):
        folder = tmp_path / "runs" / method
        (folder / "scores" / "00-en").mkdir(parents=True)
        write_json(folder / "run.json", {"method": method, "languages": ["en"]})
        if score:
            write_json(folder / "scores" / "00-en" / "en.test.json", dict.fromkeys(METRICS, score))
    steps = []
    monkeypatch.setattr(quickstart.Quickstart, "step", lambda self, line, function: steps.append(line))
    monkeypatch.setattr(server, "find_spec", lambda name: None if missing else name)
    args = quickstart.build_parser().parse_args(["--output", str(tmp_path)])
    quickstart.Quickstart(args).write_report()
    assert steps == [f"mlvl-report {tmp_path}/runs --output {tmp_path}"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    if missing:
        assert lines.pop() == "  # the page needs starlette and uvicorn: pip install 'mlvl_fairseq[search]'"
    *table, warning, report, picture, title, index, _, serve = lines[2:]
    assert {tuple(row.replace("|", "").replace("*", "").split()[:2]) for row in table} == {
        ("naive", "50.0"), ("er", "60.0"), ("oewc", "55.0")
    }  # fmt: skip
    assert warning.startswith("Warning: without any score")
    assert (report, picture) == (f"report:  {tmp_path}/report.md", f"picture: {tmp_path}/report.png")
    assert title == "Search the pictures, here with er, in en:"
    best = tmp_path / "runs" / "er" / "00-en" / "checkpoint_best.pt"
    assert index == f"  mlvl-search index {tmp_path}/world/images {tmp_path}/index --checkpoint {best}"
    assert serve == f"  mlvl-search serve {tmp_path}/index"


@pytest.mark.parametrize("methods", ["cll_clip,cll_clap", ""])
def test_unknown_methods_are_told_before_anything_is_done(methods, tmp_path):
    with pytest.raises(UserError, match="no method '.*': "):
        quickstart.main(["--output", str(tmp_path / "out"), "--methods", methods])
    assert not (tmp_path / "out").exists()
