"""Costs, comparisons of two methods, and published figures, as the report writes them."""

import csv
import json
import math

import numpy as np
import pytest
from run_folders import random_ranks, same_images, write_ranked_run, write_run

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.evaluation.report import (
    ReportOptions,
    compare,
    published_methods,
    published_names,
    read_runs,
    summarise,
    write_report,
)
from mlvl_fairseq.evaluation.report.formats.markdown import comparison_section, summary_table
from mlvl_fairseq.evaluation.report.tables import value_table

LANGUAGES = ["en", "de"]
TABLES = ("csv", "json", "md")


def fifty(*_):
    return 50.0


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def report_of(*folders):
    return summarise(read_runs(folders))


def costs(step):
    jobs = {"binarize": {"seconds": 1}, "train": {"seconds": 10.0 + 4 * step, "peak_mib": 300 + step, "runs": 1}}
    jobs.update(finish={"seconds": 2, "peak_mib": 200}, evaluate={"seconds": 3 + step, "peak_mib": 100})
    return jobs, {"trainable_parameters": 1000 + 500 * step, "checkpoint_bytes": 2**20 * (step + 1), "r_mean": 1}


def test_costs(tmp_path):
    write_run(tmp_path / "a", "naive", LANGUAGES, fifty, costs=costs)
    write_run(tmp_path / "b", "joint", LANGUAGES, fifty, protocol="joint", costs=lambda step: ({}, costs(step)[1]))
    report = report_of(tmp_path)
    files = write_report(report, ReportOptions(tmp_path / "out", formats=(*TABLES, "png")))
    assert {"costs.csv", "costs.png"} <= {path.name for path in files}
    naive, joint = rows_of(tmp_path / "out" / "costs.csv")
    assert list(naive.values()) == ["naive", "24.00", "12.00", "6.00", "7.00", "301.00", "1250.00", "2.00"]
    assert list(joint.values()) == ["joint", *["n/a"] * 5, "1000.00", "1.00"]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    row = next(line for line in text[text.index("## Costs") :].splitlines() if line.startswith("| naive"))
    assert row.replace("|", "").split() == ["naive", "24", "12.0", "6", "7", "301", "1,250", "2.0"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())["methods"]
    assert written["naive"]["costs"]["train_seconds"] == 24 and written["joint"]["costs"]["train_seconds"] is None


def test_costs_of_seeds_and_of_joint_training(tmp_path):
    def twice(step):
        jobs, done = costs(step)
        return {name: {key: 3 * value for key, value in job.items()} for name, job in jobs.items()}, done

    write_run(tmp_path / "1", "naive", LANGUAGES, fifty, seed=1, costs=costs)
    write_run(tmp_path / "2", "naive", LANGUAGES, fifty, seed=2, costs=twice)
    write_run(tmp_path / "3", "joint", LANGUAGES, fifty, seed=1, protocol="joint", costs=costs)
    naive, joint = (method.costs() for method in report_of(tmp_path).methods)
    assert (naive["train_seconds"], naive["peak_mib"]) == (48, 903)
    assert (joint["train_seconds"], joint["train_seconds_per_language"]) == (10, 5)


def test_no_costs_no_files(tmp_path):
    write_run(tmp_path / "a", "naive", LANGUAGES, fifty)
    write_report(report_of(tmp_path), ReportOptions(tmp_path / "out", formats=TABLES))
    assert not list((tmp_path / "out").glob("cost*")) and "Costs" not in (tmp_path / "out" / "report.md").read_text()


@pytest.fixture
def compared(tmp_path):
    """Folder of two methods, two seeds; `good` is better."""
    rng = np.random.default_rng(0)
    base = {lang: random_ranks(rng, 120, 0.2) for lang in LANGUAGES}
    for seed in (1, 2):
        for method, skill in (("good", 0.5), ("naive", 0.2)):
            ranks = {lang: same_images(base[lang], rng, skill) for lang in LANGUAGES}
            write_ranked_run(tmp_path / f"seed{seed}" / method, method, ranks, seed=seed)
    return tmp_path


def test_comparison(compared):
    report = report_of(compared)
    good, naive = (report.method(name) for name in ("good", "naive"))
    comparison = compare(good, naive, resamples=200)
    for metric in METRICS:
        expected = good.last("AA", metric) - naive.last("AA", metric)
        assert comparison.differences[metric].observed == pytest.approx(expected, abs=1e-9)
    mean = comparison.difference(["txt_r10", "img_r10"])
    parts = [comparison.differences[metric] for metric in ("txt_r10", "img_r10")]
    assert mean.observed == pytest.approx(np.mean([part.observed for part in parts]))
    report.comparisons.append(comparison)
    write_report(report, ReportOptions(compared / "out", formats=TABLES))
    rows = rows_of(compared / "out" / "comparisons.csv")
    assert [row["metric"] for row in rows] == ["r_mean", "i2t R@1", "t2i R@1", "mean R@10"]
    assert float(rows[0]["low_95"]) > 0 and float(rows[0]["p_value"]) == pytest.approx(1 / 201, abs=1e-4)
    assert comparison_section(comparison) in (compared / "out" / "report.md").read_text(encoding="utf-8")
    (written,) = json.loads((compared / "out" / "report.json").read_text())["comparisons"]
    assert written["seeds"] == [1, 2] and written["AA"]["r_mean"]["p_value"] == 1 / 201


def test_only_common_seeds_are_compared(compared):
    (compared / "seed2" / "naive" / "run.json").unlink()
    report = report_of(compared)
    assert compare(report.method("good"), report.method("naive"), 2).seeds == [1]


def test_what_cannot_be_compared(compared, tmp_path):
    write_run(tmp_path / "other" / "de", "german", ["de"], fifty, seed=1)
    write_run(tmp_path / "other" / "old", "old", LANGUAGES, fifty, seed=1)
    write_run(tmp_path / "other" / "late", "late", LANGUAGES, fifty, seed=9)
    report = report_of(tmp_path)
    messages = {
        "german": r"cannot compare good and german: they learned different languages \(only good: en\)",
        "late": "no seed in common",
        "old": "no ranks of single queries",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            compare(report.method("good"), report.method(name))
    with pytest.raises(UserError, match="no method 'best' in this report; there are: german, late, old, good, naive"):
        report.method("best")
    with pytest.raises(UserError, match=r"\(only german: de; only english: en\)"):
        write_run(tmp_path / "other" / "en", "english", ["en"], fifty, seed=1)
        report = report_of(tmp_path)
        compare(report.method("german"), report.method("english"))


def test_methods_are_known_by_the_folders_of_their_runs_too(tmp_path, monkeypatch):
    for folder, method in (("a/first", "one"), ("b/second", "two"), ("c/second", "three"), ("d/one", "four")):
        write_run(tmp_path / folder, method, LANGUAGES, fifty)
    report = report_of(tmp_path)
    monkeypatch.chdir(tmp_path / "b")
    for name, method in (("first", "one"), (str(tmp_path / "c" / "second"), "three"), ("./second", "two")):
        assert report.method(name).name == method
    assert report.method("one").name == "one"  # a method's name goes first
    with pytest.raises(UserError, match="several methods have a run in a folder 'second'; say which: two, three"):
        report.method("second")


def test_ranks_that_do_not_belong_to_their_score(compared):
    path = compared / "seed1" / "good" / "scores" / "01-de" / "en.test.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "txt_r1": 1.0}))
    report = report_of(compared)
    with pytest.raises(DataError, match="ranks on en do not give its score"):
        compare(report.method("good"), report.method("naive"))


def test_published_headlines():
    """Yang et al. 2024: TEIR adds 6.7 points of t2i R@1 on XM3600."""
    assert published_names() == ["xm3600", "coco"]
    xm3600, coco = (published_methods(name) for name in published_names())
    gain = xm3600["cll_clip_with_teir"].figure("AA", ["img_r1"]).mean - xm3600["cll_clip"].figure("AA", ["img_r1"]).mean
    assert gain == pytest.approx(6.7)
    assert xm3600["mla_with_teir"].figure("F", ["txt_r1"]).mean == 12.3 and xm3600["joint"].figures["r_mean"] == [63.2]
    assert coco["codaprompt_with_teir"].figure("AA", ["r_mean"]).mean == 51.4
    assert math.isnan(coco["joint"].figure("F", ["r_mean"]).mean) and set(coco) == set(xm3600)
    for table in (xm3600, coco):
        for name, method in table.items():
            assert set(method.figures) == {"txt_r1", "txt_r10", "img_r1", "img_r10", "r_mean"}
            assert {len(row) for row in method.figures.values()} == {1 if name == "joint" else 3}


def test_published_figures_stand_beside_ours_and_are_marked(tmp_path):
    write_run(tmp_path / "a", "cll_clip", LANGUAGES, lambda *_: 20.0)
    write_run(tmp_path / "b", "mine", LANGUAGES, lambda *_: 30.0)
    report = report_of(tmp_path)
    report.published = published_methods("xm3600")
    lines = summary_table(report).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells] == ["cll_clip", "cll_clip (published, CLIP ViT-B/16, 36 languages)", "mine"]
    assert [row[1] for row in cells] == ["20.0", "36.9", "**30.0**"] and cells[1][2:4] == ["25.3", "15.3"]
    write_report(report, ReportOptions(tmp_path / "out", formats=TABLES))
    assert "Yang et al. 2024" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    rows = rows_of(tmp_path / "out" / "summary.csv")
    assert [row["source"] for row in rows[::4]] == ["ours", "Yang et al. 2024 (arXiv 2401.17186)", "ours"]
    assert (rows[4]["AA"], rows[4]["AA_deviation"], rows[0]["seeds"]) == ("36.9", "n/a", "1")
    written = json.loads((tmp_path / "out" / "report.json").read_text())["published"]["cll_clip"]
    assert written["figures"]["r_mean"] == {"AA": 36.9, "F": 25.3, "Fen": 15.3}


def test_deviation_is_shown(tmp_path):
    for seed, shift in ((1, 0), (2, 2)):
        write_run(tmp_path / f"{seed}", "naive", LANGUAGES, lambda *_, score=50.0 + shift: score, seed=seed)
    cells = [cell.strip() for cell in summary_table(report_of(tmp_path)).splitlines()[2].strip("|").split("|")]
    assert cells[:4] == ["naive", "51.0 ± 1.4", "0.0 ± 0.0", "0.0 ± 0.0"]
    write_report(report_of(tmp_path), ReportOptions(tmp_path / "out", formats=TABLES))
    assert "over 2 seeds" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    written = json.loads((tmp_path / "out" / "report.json").read_text())["methods"]["naive"]
    assert written["per_seed"]["AA"]["r_mean"] == [50, 52] and written["deviation"]["AA"]["r_mean"] == math.sqrt(2)


def test_values_have_four_significant_digits():
    table = value_table("loss", ["a", "b"], {"er": [1.23456, None], "der": [0.000123456, 12345.6]})
    assert table.splitlines() == [
        "| loss |         a |         b |",
        "|------|----------:|----------:|",
        "| er   |     1.235 |       n/a |",
        "| der  | 0.0001235 | 1.235e+04 |",
    ]
    assert "1.23 |" in value_table("loss", ["a"], {"er": [1.23456]}, digits=3)
