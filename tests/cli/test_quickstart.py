import pytest

from mlvl_fairseq.cli import quickstart
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json

METRICS = ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")


def test_the_summary_is_printed_and_where_the_report_is(tmp_path, monkeypatch, capsys):
    """Not the whole report; a run that left no score is named."""
    scores = tmp_path / "runs" / "naive" / "scores" / "00-en"
    for folder in (scores, tmp_path / "runs" / "failed"):
        folder.mkdir(parents=True)
    write_json(scores / "en.test.json", dict.fromkeys(METRICS, 50))
    for method in ("naive", "failed"):
        write_json(tmp_path / "runs" / method / "run.json", {"method": method, "languages": ["en"]})
    steps = []
    monkeypatch.setattr(quickstart.Quickstart, "step", lambda self, line, function: steps.append(line))
    args = quickstart.build_parser().parse_args(["--output", str(tmp_path)])
    quickstart.Quickstart(args).write_report()
    assert steps == [f"mlvl-report {tmp_path}/runs --output {tmp_path}"]
    table, warning, *ends = [line for line in capsys.readouterr().out.splitlines() if line][2:]
    assert table.replace("|", "").split()[:2] == ["naive", "50.0"] and warning.startswith("Warning: without any score")
    assert ends == [f"report:  {tmp_path}/report.md", f"picture: {tmp_path}/report.png"]


@pytest.mark.parametrize("methods", ["cll_clip,cll_clap", ""])
def test_unknown_methods_are_told_before_anything_is_done(methods, tmp_path):
    with pytest.raises(UserError, match="no method '.*': "):
        quickstart.main(["--output", str(tmp_path / "out"), "--methods", methods])
    assert not (tmp_path / "out").exists()
