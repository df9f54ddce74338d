"""Reports of what mlvl-evaluate wrote: models and seeds by their folders, any metrics, comparisons of any results."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from run_folders import SIGNATURE, falling, random_ranks, same_images, write_evaluation, write_ranked_run, write_run

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.evaluation.report import ReportOptions, compare, read_runs, summarise, write_report
from mlvl_fairseq.evaluation.report.formats.markdown import final_section, summary_table


def flat(value):
    """The same score of every metric."""
    return dict.fromkeys(METRICS, value)


def report_of(*folders):
    return summarise(read_runs(folders))


def cells_of(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


@pytest.fixture
def variants(tmp_path):
    """Two variants, the better one with three seeds: 10, 20 and 60 in German, 50 in English."""
    for seed, score in ((1, 10), (2, 20), (3, 60)):
        write_evaluation(
            tmp_path / "trikd" / "full" / f"seed{seed}" / "scores",
            {"de": flat(score), "en": flat(50)},
            model=f"weights {seed}",
        )
    write_evaluation(tmp_path / "trikd" / "small" / "seed1" / "scores", {"de": flat(15), "en": flat(5)})
    return tmp_path / "trikd"


def test_folders_that_differ_in_a_seed_are_one_model(variants):
    report = report_of(variants)
    assert [(method.name, method.seeds) for method in report.methods] == [("full", [1, 2, 3]), ("small", [1])]
    assert cells_of(summary_table(report))[:3] == [
        ["method", "AA r_mean ↑", "AA i2t R@1 ↑", "AA t2i R@1 ↑", "AA mean R@10 ↑"],
        ["full", *["**40.0 ± 13.2**"] * 4],  # 30, 35 and 55
        ["small", *["10.0"] * 4],
    ]
    assert cells_of(final_section(report, "img_r1")) == [
        ["", "de", "en"],
        ["full", "30.0 ± 26.5", "50.0 ± 0.0"],
        ["small", "15.0", "5.0"],
    ]


def test_all_formats(variants, tmp_path):
    report = report_of(variants)
    paths = write_report(report, ReportOptions(tmp_path / "out"))
    assert {path.name for path in paths} == {
        *("report.md", "report.json", "summary.csv", "scores.csv", "report.png", "final.png")
    }
    rows = list(csv.DictReader(open(tmp_path / "out" / "scores.csv", encoding="utf-8")))
    assert len(rows) == 2 * 2 * len(METRICS)
    assert rows[0] == {
        **{"model": "full", "seeds": "3", "language": "de", "metric": "txt_r1", "score": "30.0", "deviation": "26.5"}
    }
    written = json.loads((tmp_path / "out" / "report.json").read_text())["methods"]["full"]
    assert written["final"]["r_mean"]["de"] == pytest.approx({"mean": 30, "deviation": np.sqrt(700)})
    assert written["AA"]["r_mean"] == 40 and written["F"]["r_mean"] is None and written["Fen_language"] is None
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# trikd: 2 languages, test split\n") and "orgetting of" not in text
    assert "`full`: signature `data:*|split:test|lang:*|images:5|texts:9|tok:bpe`" in text


@pytest.mark.parametrize(
    "folders, names",
    [
        (["scores/clip"], ["clip"]),
        (["scores/clip", "scores/trikd"], ["clip", "trikd"]),
        (["m/full/seed1", "m/full/seed2"], ["full"]),
        (["m/full/seed1/en", "m/small/seed1/ru"], ["full/en", "small/ru"]),
        (["seed1/full", "seed2/full", "seed1/small"], ["full", "small"]),
    ],
)
def test_names_of_models(tmp_path, folders, names):
    for folder in folders:
        write_evaluation(tmp_path / folder, {"de": flat(1)})
    assert [method.name for method in report_of(*(tmp_path / folder for folder in folders)).methods] == names


def test_other_settings_are_another_model(tmp_path):
    for seed, recall in ((1, "standard"), (2, "deduplicated")):
        write_evaluation(tmp_path / "m" / "full" / f"seed{seed}", {"de": flat(1)}, recall=recall)
    assert [len(method.runs) for method in report_of(tmp_path).methods] == [1, 1]


def test_runs_and_scores_side_by_side(tmp_path):
    write_run(tmp_path / "runs" / "teir", "teir", ["en", "de"], falling, seed=1)
    write_evaluation(tmp_path / "scores" / "clip", {"de": flat(3), "en": flat(4)})
    report = report_of(tmp_path)
    assert report.warnings == [] and report.comparable and report.dataset == "teir"
    header, *rows = cells_of(summary_table(report))
    assert header[:4] == ["method", "AA r_mean ↑", "F r_mean ↓", "Fen r_mean ↓"]
    assert [row[:4] for row in rows] == [["teir", "**51.0**", "10.0", "10.0"], ["clip", "3.5", "n/a", "n/a"]]
    paths = write_report(report, ReportOptions(tmp_path / "out"))
    names = {path.name for path in paths}
    assert {"teir_CL_retrieval.csv", "scores.csv", "curves.png", "matrix_teir.png"} <= names
    table = (tmp_path / "out" / "teir_CL_retrieval.csv").read_text()
    assert "teir,r_mean" in table and "clip" not in table


def test_scores_of_any_evaluator(tmp_path):
    accuracy = {"top1": 71.25, "top5": 90.0}
    write_evaluation(tmp_path / "lilt" / "a", {"en": accuracy, "de": {**accuracy, "top1": 1}}, evaluator="classify")
    write_evaluation(tmp_path / "lilt" / "b", {"en": flat(30)})
    report = report_of(tmp_path / "lilt")
    header, first, second = cells_of(summary_table(report))
    assert header[1] == "AA r_mean ↑" and header[-2:] == ["AA top1 ↑", "AA top5 ↑"]
    assert first[1] == "n/a" and first[-2:] == ["36.1", "90.0"] and second[1] == "30.0" and second[-1] == "n/a"
    assert report.main_metric() == "r_mean" and report_of(tmp_path / "lilt" / "a").main_metric() == "top1"
    tables = cells_of(final_section(report, "r_mean"))
    assert ["a", "1.0", "71.2"] in tables and ["b", "n/a", "30.0"] in tables
    with pytest.raises(UserError, match="no scores have a metric 'bleu'; there are: top1, top5, txt_r1"):
        report.main_metric("bleu")
    with pytest.raises(
        UserError, match=r"cannot compare a and b: a has no retrieval metrics \(txt_r1, .*\), but top1, top5"
    ):
        compare(report.method("a"), report.method("b"))
    names = {path.name for path in write_report(report, ReportOptions(tmp_path / "out", "top1"))}
    assert {"scores.csv", "report.png"} <= names


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("de.test.json", {"top1": "high"}, "de.test.json field 'top1': expected a number, found 'high'"),
        ("en.test.json", {"top5": 3}, "en.test.json field 'top1': expected a number, found None"),
        ("settings.json", {"model": "m", "split": 3}, "settings.json field 'split': expected text, found 3"),
    ],
)
def test_bad_scores(tmp_path, name, content, message):
    folder = write_evaluation(tmp_path / "a", {"de": {"top1": 1}, "en": {"top1": 2}})
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_runs([folder])


def test_other_splits_and_folders_without_scores(tmp_path):
    folder = write_evaluation(tmp_path / "a", {"de": flat(1)}, split="valid")
    assert read_runs([folder])[0].split == "valid"
    with pytest.raises(UserError, match="no score of split 'test' yet; there are scores of valid: use --split"):
        read_runs([folder], "test")
    write_evaluation(tmp_path / "begun", {}, split="valid")
    report = report_of(tmp_path)
    assert [method.name for method in report.methods] == ["a"]
    assert report.warnings == [f"without any score of split 'valid' yet, left out: {tmp_path / 'begun'}"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "settings.json").write_text("{}")  # somebody else's
    with pytest.raises(UserError, match="no run.json and no scores in it or below it"):
        read_runs([tmp_path / "other"])


def test_fen_is_of_english_where_there_is_english(tmp_path):
    """German falls by 10 a language; English, learned second, by 4."""

    def scores(step, j, m):
        return 50.0 - (4 if j == 1 else 10) * (step - j)

    write_run(tmp_path / "a" / "with", "with", ["de", "en", "fr"], scores)
    report = report_of(tmp_path / "a")
    assert report.methods[0].last("Fen", "r_mean") == 4 and "Fen r_mean ↓" in summary_table(report)
    write_run(tmp_path / "b" / "without", "without", ["de", "fr", "ru"], lambda step, j, m: 50.0 - 10 * (step - j))
    report = report_of(tmp_path / "b")
    assert np.isnan(report.methods[0].last("Fen", "r_mean")) and report.methods[0].last("F", "r_mean") == 15
    assert "Fen" not in summary_table(report) and "F r_mean ↓" in summary_table(report)
    write_report(report, ReportOptions(tmp_path / "out", formats=("md", "json", "csv")))
    assert "Fen" not in (tmp_path / "out" / "report.md").read_text()
    written = json.loads((tmp_path / "out" / "report.json").read_text())["methods"]["without"]
    assert written["Fen_language"] is None and written["Fen"]["r_mean"] is None and written["F"]["r_mean"] == 15
    both = report_of(tmp_path / "a", tmp_path / "b")
    (line,) = (line for line in summary_table(both).splitlines() if line.startswith("| without"))
    assert [cell.strip() for cell in line.split("|")][2:5] == ["40.0", "15.0", "n/a"]
    write_report(both, ReportOptions(tmp_path / "both", formats=("md",)))
    assert "Fen: that of English, lower is better" in (tmp_path / "both" / "report.md").read_text()


@pytest.fixture
def base():
    """Ranks of a weak model in three languages."""
    rng = np.random.default_rng(0)
    return {lang: random_ranks(rng, 120, 0.2) for lang in ("en", "de", "fr")}


def better(base, seed=1):
    rng = np.random.default_rng(seed)
    return {lang: same_images(ranks, rng, 0.5) for lang, ranks in base.items()}


def test_two_models_are_compared_on_the_languages_of_both(tmp_path, base):
    write_evaluation(tmp_path / "weak", {lang: base[lang] for lang in ("de", "fr")})
    write_evaluation(tmp_path / "strong", {lang: better(base)[lang] for lang in ("en", "de")})
    report = report_of(tmp_path)
    strong, weak = report.method("strong"), report.method("weak")
    comparison = compare(strong, weak, 200)
    assert comparison.languages == ["de"]
    for metric in METRICS:
        gain = strong.final_figures(metric)["de"].mean - weak.final_figures(metric)["de"].mean
        assert comparison.differences[metric].observed == pytest.approx(gain, abs=1e-9)
    assert comparison.differences["r_mean"].interval()[0] > 0 and comparison.to_json()["languages"] == ["de"]
    write_evaluation(tmp_path / "english", {"en": base["en"]})
    report = report_of(tmp_path)
    message = r"cannot compare english and weak: they were scored on different languages \(only english: en; only weak"
    with pytest.raises(UserError, match=message):
        compare(report.method("english"), report.method("weak"))


def test_a_model_against_every_seed_of_another(tmp_path, base):
    write_evaluation(tmp_path / "clip", base)
    for seed in (1, 2):
        write_evaluation(tmp_path / "full" / f"seed{seed}", better(base, seed), model=f"weights {seed}")
    report = report_of(tmp_path)
    for names, sign in ((("full", "clip"), 1), (("clip", "full"), -1)):
        comparison = compare(*map(report.method, names), 2)
        gain = report.method("full").last("AA", "r_mean") - report.method("clip").last("AA", "r_mean")
        assert comparison.seeds == [1, 2]
        assert comparison.differences["r_mean"].observed == pytest.approx(sign * gain, abs=1e-9)


def test_a_runs_final_model_against_any_model(tmp_path, base):
    """The run counts images by its corpus, the model by their names; the signatures say that they are the same."""
    write_ranked_run(tmp_path / "runs" / "teir", "teir", better(base), seed=1)
    named = {lang: replace(ranks, images=ranks.images * 7919 + 5) for lang, ranks in base.items()}
    write_evaluation(tmp_path / "scores" / "clip", {lang: named[lang] for lang in ("de", "en")})
    report = report_of(tmp_path)
    teir, clip = report.method("teir"), report.method("clip")
    comparison = compare(teir, clip, 100)
    assert comparison.languages == ["en", "de"] and comparison.seeds == [1]
    of_teir, of_clip = (method.final_figures("r_mean") for method in (teir, clip))
    gain = np.mean([of_teir[lang].mean - of_clip[lang].mean for lang in ("en", "de")])
    assert comparison.differences["r_mean"].observed == pytest.approx(gain, abs=1e-9)
    mirrored = compare(clip, teir, 100).differences["r_mean"]
    assert mirrored.observed == pytest.approx(-gain, abs=1e-9)


def signed(**changes):
    """Scores with a signature that says something else."""
    parts = dict(part.split(":") for part in SIGNATURE.format(lang="de").split("|"))
    return {"signature": "|".join(f"{key}:{value}" for key, value in {**parts, **changes}.items())}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": "cd34"}, r"cannot compare a and b: on de they were tested on different data \(data is cd34 or de1\)"),
        ({"captions": "deduplicated"}, r"on de they were scored in different ways \(captions is any or deduplicated\)"),
        ({"folds": 5}, "averages over 5 parts of the images: no paired bootstrap is defined of them; evaluate without"),
    ],
)
def test_results_that_cannot_be_compared(tmp_path, base, changes, message):
    for name in "ab":
        write_evaluation(tmp_path / name, {"de": base["de"]})
    path = tmp_path / "b" / "de.test.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **signed(**changes)}))
    report = report_of(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        compare(report.method("a"), report.method("b"))
    assert "\n" not in str(error.value)


def test_scores_without_ranks(tmp_path, base):
    for name in "ab":
        write_evaluation(tmp_path / name, {"de": base["de"]})
    (tmp_path / "b" / "de.test.ranks.npz").unlink()
    report = report_of(tmp_path)
    message = (
        "de.test.ranks.npz: no ranks of single queries .* delete the scores beside them and run the same mlvl-eval"
    )
    with pytest.raises(UserError, match=message):
        compare(report.method("a"), report.method("b"))


def test_images_in_another_order_are_other_data(tmp_path, base):
    """Two evaluations whose signatures say nothing of it: the images themselves differ."""
    write_evaluation(tmp_path / "a", {"de": base["de"]})
    write_evaluation(tmp_path / "b", {"de": replace(base["de"], images=base["de"].images[::-1].copy())})
    report = report_of(tmp_path)
    with pytest.raises(UserError, match="the models were tested on different images or captions"):
        compare(report.method("a"), report.method("b"))
