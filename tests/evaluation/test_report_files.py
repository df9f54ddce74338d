"""A report from run folders: what is read, computed, warned about and written."""

import csv
import json

import numpy as np
import pytest
from golden import assert_golden, load_golden
from run_folders import SIGNATURE, falling, write_run
from test_continual import golden_matrix

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.evaluation.report import ReportOptions, read_runs, summarise, write_report
from mlvl_fairseq.evaluation.report.drawing import line_styles, spread
from mlvl_fairseq.evaluation.report.formats import pictures
from mlvl_fairseq.evaluation.report.formats.markdown import summary_table
from mlvl_fairseq.evaluation.report.registry import format_names


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def golden_files(tmp_path_factory):
    """All files but pictures for the reference's synthetic scores of 36 languages."""
    folder = tmp_path_factory.mktemp("golden")
    matrices = [golden_matrix(m) for m in range(len(METRICS))]
    order = load_golden("cl_metrics")["order"]
    write_run(folder / "run", "synthetic", order, lambda step, j, m: matrices[m][step, j], corpus="/data/xm3600")
    report = summarise(read_runs([folder / "run"]))
    paths = write_report(report, ReportOptions(folder / "report", ndigits=6, formats=("csv", "json", "md")))
    return {path.name: path for path in paths}


@pytest.mark.parametrize(
    "name, key", [("", "diagonal"), ("_cl_AA", "AA"), ("_cl_F", "F"), ("_cl_Fen", "Fen"), ("_cl_overall", "overall")]
)
def test_golden_csv(golden_files, name, key):
    golden = load_golden("cl_metrics")
    header, *rows = rows_of(golden_files[f"xm3600_CL_retrieval{name}.csv"])
    columns = {
        "diagonal": [*sorted(golden["order"]), "Average"],
        "overall": ["cl_AA", "cl_F", "cl_Fen"],
        "AA": [str(step) for step in range(36)],
    }
    assert header == ["model", "metric", *columns.get(key, columns["AA"][:-1])]
    assert [row[:2] for row in rows] == [["synthetic", metric] for metric in METRICS]
    for row in rows:
        assert_golden([float(cell) for cell in row[2:]], golden["xm3600"][key][row[1]])


def test_json(golden_files):
    report = json.loads(golden_files["report.json"].read_text())
    method = report["methods"]["synthetic"]
    overall = load_golden("cl_metrics")["xm3600"]["overall"]
    assert set(method) >= {"languages", "matrix", "AA", "F", "Fen", "signature", "steps", "forgetting"}
    for metric in METRICS:
        assert_golden([method[measure][metric] for measure in ("AA", "F", "Fen")], overall[metric])
        assert [len(row) for row in method["matrix"][metric]] == list(range(1, 37))
        assert method["steps"]["F"][metric][0] is None and method["steps"]["F"][metric][-1] == method["F"][metric]
    assert method["forgetting"] == "reference" and method["missing"] == [] and report["warnings"] == []
    assert method["signature"] == "data:*|split:test|lang:*|images:5|texts:9|tok:bpe"


def test_markdown_matrix(golden_files):
    lines = golden_files["report.md"].read_text().splitlines()
    row = next(line for line in lines if line.startswith("| after it "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    expected = golden_matrix(METRICS.index("r_mean"))[1, :2]
    assert [float(cell) for cell in cells[1:3]] == pytest.approx(expected) and cells[3:37] == [""] * 34


def test_several_methods(tmp_path):
    languages = ["en", "de", "fr"]
    write_run(tmp_path / "a", "naive", languages, falling, eval_split="test")
    write_run(tmp_path / "b", "ours", languages, lambda step, j, m: falling(step, j, m) + 3 * (step - j))
    report = summarise(read_runs([tmp_path]))
    assert [method.name for method in report.methods] == ["naive", "ours"] and report.warnings == []
    lines = summary_table(report).split("\n")
    header, _, naive, ours = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert header[:4] == ["method", "AA r_mean ↑", "F r_mean ↓", "Fen r_mean ↓"]
    assert naive[:4] == ["naive", "46.0", "15.0", "20.0"]
    assert ours[:4] == ["ours", "**49.0**", "**10.5**", "**14.0**"]


@pytest.mark.parametrize("gain", [9, 2], ids=["better", "as good"])
@pytest.mark.parametrize("missing", [(2, 1), (1, 0)], ids=["the last step", "a step before"])
def test_what_is_not_finished_is_marked_and_never_the_best(tmp_path, missing, gain):
    """A run at work has some figures: that of English, or those of its last model."""
    languages = ["en", "de", "fr"]

    def best(step, j, m):
        return None if (step, j) == missing else falling(step, j, m) + gain * (step - j)

    for name, scores in (("a", falling), ("b", lambda *at: falling(*at) + 2 * (at[0] - at[1])), ("c", best)):
        write_run(tmp_path / name, name, languages, scores)
    rows = [line.strip("| ").split("|") for line in summary_table(summarise(read_runs([tmp_path]))).split("\n")[2:]]
    a, b, c = ([cell.strip() for cell in row][:4] for row in rows)
    assert a == ["a", "46.0", "15.0", "20.0"] and b == ["b", "**48.0**", "**12.0**", "**16.0**"]
    assert c[0] == "c (unfinished)" and not any("*" in cell for cell in c) and set(c[1:]) != {"n/a"}


def test_a_method_is_finished_with_all_its_seeds(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", "naive", ["en", "de"], falling, seed=seed)
    (method,) = summarise(read_runs([tmp_path])).methods
    assert method.label == "naive"
    next((tmp_path / "2" / "scores").glob("01-de/*")).unlink()
    (method,) = summarise(read_runs([tmp_path])).methods
    assert method.label == "naive (unfinished)" and len(method.runs) == 2


def test_runs_without_any_score_are_left_out_and_named(tmp_path):
    write_run(tmp_path / "a", "failed", ["en", "de"], lambda *_: None)
    write_run(tmp_path / "b", "naive", ["en", "de"], falling)
    report = summarise(read_runs([tmp_path]))
    assert [method.name for method in report.methods] == ["naive"] and report.dataset == "b"
    assert report.warnings == [f"without any score of split 'test' yet, left out: {tmp_path / 'a'}"]
    assert report.comparable


def mixed_report(folder):
    """Two, three and four languages; the method with two has the best figures."""
    for count in (3, 2, 4):
        write_run(folder / str(count), f"of{count}", ["en", "de", "fr", "ru"][:count], falling)
    return summarise(read_runs([folder]))


def test_other_numbers_of_languages_are_said_and_nothing_is_best(tmp_path):
    report = mixed_report(tmp_path / "runs")
    assert not report.comparable and "**" not in summary_table(report)
    write_report(report, ReportOptions(tmp_path, formats=("md",)))
    assert (tmp_path / "report.md").read_text().startswith("# 2: 2 to 4 languages, test split\n")
    assert pictures._title(report) == "2 (test split): 2 to 4 languages, one after another"


def test_final_scores_have_a_column_for_every_language(tmp_path):
    write_run(tmp_path / "a", "naive", ["en", "de", "fr"], falling)
    write_run(tmp_path / "b", "ours", ["en", "ru"], falling)
    report = summarise(read_runs([tmp_path]))
    write_report(report, ReportOptions(tmp_path / "out", formats=("md",)))
    section = (tmp_path / "out" / "report.md").read_text().partition("## Final scores")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section if line.startswith("|")]
    assert rows[0] == ["", "en", "de", "fr", "ru"] and rows[3] == ["ours", "46.0", "n/a", "n/a", "56.0"]


def test_scores_computed_in_other_ways_have_no_best(tmp_path):
    write_run(tmp_path / "a", "naive", ["en", "de"], falling)
    write_run(tmp_path / "b", "ours", ["en", "de"], lambda *at: falling(*at) + 1, SIGNATURE.replace("bpe", "words"))
    assert "**" not in summary_table(summarise(read_runs([tmp_path])))


def test_identical_runs_have_no_best(tmp_path):
    for folder in ("a", "b"):
        write_run(tmp_path / folder, "naive", ["en", "de"], falling)
    report = summarise(read_runs([tmp_path]))
    assert len(report.methods) == 2 and report.comparable and "**" not in summary_table(report)


def test_missing_scores_stay_missing(tmp_path):
    write_run(tmp_path / "run", "naive", ["en", "de", "fr"], lambda *at: None if at[:2] == (2, 0) else falling(*at))
    report = summarise(read_runs([tmp_path / "run"]))
    assert report.warnings == ["naive: 1 of 6 scores are missing (en after fr)"]
    names = [path.name for path in write_report(report, ReportOptions(tmp_path / "out", formats=("json", "csv", "md")))]
    method = json.loads((tmp_path / "out" / "report.json").read_text())["methods"]["naive"]
    assert method["AA"]["r_mean"] is None and method["matrix"]["r_mean"][2] == [None, 46.0, 56.0]
    assert method["steps"]["AA"]["r_mean"][:2] == [56.0, 51.0] and method["missing"] == ["en after fr"]
    assert rows_of(tmp_path / "out" / "run_CL_retrieval_cl_AA.csv")[1] == ["naive", "txt_r1", "50.0", "45.0", "n/a"]
    assert "report.md" in names and "n/a" in (tmp_path / "out" / "report.md").read_text()


def test_a_score_of_zero_is_a_score(tmp_path):
    write_run(tmp_path / "run", "naive", ["en", "de"], lambda *_: 0)
    report = summarise(read_runs([tmp_path / "run"]))
    assert report.warnings == [] and report.methods[0].last("AA", "r_mean") == 0


def test_warnings_when_numbers_do_not_compare(tmp_path):
    write_run(tmp_path / "a", "naive", ["en", "de"], falling)
    write_run(tmp_path / "b", "ours", ["en", "fr"], falling, SIGNATURE.replace("bpe", "words").replace("{lang}1", "x"))
    assert summarise(read_runs([tmp_path])).warnings == [
        "the methods learned different languages or orders: AA and F do not compare",
        "scores were computed in different ways: tok is 'bpe' or 'words'",
        "scores on en were computed on different data: data differ",
    ]


def test_methods_with_fewer_languages_fill_their_part_of_the_csv(tmp_path):
    write_run(tmp_path / "a", "naive", ["en", "de", "fr"], falling)
    write_run(tmp_path / "b", "ours", ["en"], falling)
    write_report(summarise(read_runs([tmp_path])), ReportOptions(tmp_path / "out", formats=("csv",)))
    stem = tmp_path / "out" / "a_CL_retrieval"
    assert rows_of(f"{stem}.csv")[0] == ["model", "metric", "de", "en", "fr", "Average"]
    assert rows_of(f"{stem}.csv")[8] == ["ours", "txt_r1", "n/a", "50.0", "n/a", "50.0"]
    assert rows_of(f"{stem}_cl_F.csv")[8] == ["ours", "txt_r1", "", ""]


def test_pictures(tmp_path):
    from matplotlib.image import imread

    languages = ["en", "de", "fr"]
    write_run(tmp_path / "a", "naive/1", languages, lambda *at: None if at[:2] == (2, 1) else falling(*at))
    write_run(tmp_path / "b", "ours", languages[:1], falling)
    paths = write_report(summarise(read_runs([tmp_path])), ReportOptions(tmp_path / "out", formats=("png",)))
    names = ["report.png", "curves.png", "final.png", "matrix_naive_1.png", "matrix_ours.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        picture = imread(path)
        colours = np.unique(picture[::5, ::5, :3].reshape(-1, 3), axis=0)
        assert min(picture.shape[:2]) > 300 and len(colours) > 20


@pytest.mark.parametrize(
    "positions, limits, expected",
    [
        ([], (0, 9), []),
        ([5], (0, 9), [5]),
        ([0, 9], (0, 9), [0, 9]),
        ([4, 4], (0, 9), [3, 5]),
        ([0, 1, 8], (-1, 9), [-0.5, 1.5, 8]),
        ([0, 1, 8], (0, 9), [0, 2, 8]),
        ([8, 9, 9], (0, 9), [5, 7, 9]),
    ],
)
def test_labels_move_apart_within_the_picture(positions, limits, expected):
    assert spread(positions, 2, limits) == pytest.approx(expected)


def test_few_lines_differ_in_colour_variants_of_many_in_dashes():
    few = line_styles(["er", "er_with_teir", "der"])
    assert len({style["color"] for style in few.values()}) == 3
    names = [name + variant for name in "abcdefgh" for variant in ("", "_with_teir", "_with_teir_update")]
    many = line_styles(names)
    assert len({(style["color"], style["linestyle"]) for style in many.values()}) == len(names)
    assert many["a"]["color"] == many["a_with_teir"]["color"] != many["b"]["color"]


def test_unknown_format(tmp_path):
    report = summarise(read_runs([write_run(tmp_path / "run", "naive", ["en"], falling)]))
    with pytest.raises(UserError, match=f"unknown report format pdf; there are: {', '.join(format_names())}$"):
        write_report(report, ReportOptions(tmp_path, formats=("pdf",)))
