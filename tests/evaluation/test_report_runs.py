"""Which runs are found, how they are read, and which of them are one method with several seeds."""

import json
import math

import numpy as np
import pytest
from run_folders import falling, write_run

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.report import read_runs, summarise

LANGUAGES = ["en", "de", "fr"]


def names(folder):
    return [method.name for method in summarise(read_runs([folder])).methods]


def test_runs_at_any_depth(tmp_path):
    for place, method in (("a/b/c/x", "one"), ("b", "two"), ("b/analysis", "not a run of its own")):
        write_run(tmp_path / place, method, LANGUAGES, falling)
    assert [run.method for run in read_runs([tmp_path])] == ["one", "two"]
    assert [run.method for run in read_runs([tmp_path / "b", tmp_path / "a", tmp_path])] == ["two", "one"]


def test_seeds_are_one_method(tmp_path):
    """Scores 0, 2 and 7 points apart: mean 3, sample standard deviation sqrt(13)."""
    for seed, shift in ((10, 7), (1, 0), (2, 2)):

        def shifted(step, j, m, shift=shift):
            return falling(step, j, m) + shift * (step == 2)

        write_run(tmp_path / f"seed{seed}" / "naive", "naive", LANGUAGES, shifted, seed=seed, lr=0.1)
    (method,) = summarise(read_runs([tmp_path])).methods
    assert sorted(method.seeds) == [1, 2, 10] and method.name == "naive"
    figure = method.figure("AA", ["txt_r1"])
    assert figure == pytest.approx((40 + 3, math.sqrt(13)))
    assert method.figure("F", ["txt_r1"]) == pytest.approx((15 - 3, math.sqrt(13)))
    assert method.figure("AA", ["txt_r10", "img_r10"]).mean == pytest.approx(40 + 3 + (2 + 5) / 2)
    np.testing.assert_allclose(method.matrix("txt_r1")[2], [33, 43, 53])
    np.testing.assert_allclose(method.learned("txt_r1"), [50, 50, 53])


def test_one_seed_has_no_deviation(tmp_path):
    write_run(tmp_path / "run", "naive", LANGUAGES, falling, seed=1)
    figure = summarise(read_runs([tmp_path])).methods[0].figure("AA", ["r_mean"])
    assert figure.mean == 46 and math.isnan(figure.deviation)


def test_a_missing_score_of_one_seed_is_missing_in_the_mean(tmp_path):
    write_run(tmp_path / "1" / "x", "naive", LANGUAGES, falling, seed=1)
    write_run(tmp_path / "2" / "x", "naive", LANGUAGES, lambda *a: None if a[:2] == (2, 1) else falling(*a), seed=2)
    report = summarise(read_runs([tmp_path]))
    assert math.isnan(report.methods[0].last("AA", "r_mean")) and report.methods[0].steps("AA", "r_mean")[0, 2] == 46
    assert report.warnings == ["naive (seed 2): 1 of 6 scores are missing (de after fr)"]


def test_other_settings_are_another_method_named_by_its_folder(tmp_path):
    for rate in (1, 2):
        for seed in (1, 2):
            place = tmp_path / f"lr{rate}" / f"seed{seed}" / "naive"
            write_run(place, "naive", LANGUAGES, falling, seed=seed, lr=rate)
    assert names(tmp_path) == ["lr1/naive", "lr2/naive"]


def test_the_place_of_the_corpus_does_not_matter_where_its_fingerprint_is_known(tmp_path):
    for seed in (1, 2):
        known = {"corpus": f"/disk{seed}/photos", "corpus_fingerprint": "f"}
        write_run(tmp_path / f"{seed}a", "known", LANGUAGES, falling, seed=seed, **known)
        write_run(tmp_path / f"{seed}b", "unknown", LANGUAGES, falling, seed=seed, corpus=f"/disk{seed}/photos")
    assert names(tmp_path) == ["known", "1b", "2b"]


@pytest.mark.parametrize("manifest", [{}, {"seed": 1}])
def test_the_same_seed_twice_is_no_second_measurement(tmp_path, manifest):
    for folder in ("first", "second"):
        write_run(tmp_path / folder, "naive", LANGUAGES, falling, **manifest)
    assert names(tmp_path) == ["first", "second"]


def test_different_seeds_are_mentioned(tmp_path):
    for method, seeds in (("a", (1, 2)), ("b", (1, 2)), ("c", (1,))):
        for seed in seeds:
            write_run(tmp_path / f"{seed}" / method, method, LANGUAGES, falling, seed=seed)
    assert summarise(read_runs([tmp_path])).warnings == ["not all methods were run with the seeds 1, 2 (c: 1)"]


@pytest.mark.parametrize("protocol", ["joint", "single"])
def test_without_an_order_there_is_an_average_and_no_forgetting(tmp_path, protocol):
    write_run(tmp_path / "x", protocol, LANGUAGES, lambda step, j, m: 60.0 + 3 * j, protocol=protocol)
    write_run(tmp_path / "y", "naive", LANGUAGES, falling)
    report = summarise(read_runs([tmp_path]))
    method = report.method(protocol)
    assert method.last("AA", "r_mean") == 63 and report.warnings == [] and len(report.sequences) == 1
    assert math.isnan(method.last("F", "r_mean")) and math.isnan(method.last("Fen", "r_mean"))
    np.testing.assert_array_equal(method.learned("r_mean"), [60, 63, 66])
    written = method.to_json()
    assert written["matrix"]["r_mean"] == [[60, 63, 66]] and written["F"]["r_mean"] is None
    (tmp_path / "x" / "scores" / ("00-joint" if protocol == "joint" else "01-de") / "de.test.json").unlink()
    missing = f"{protocol}: 1 of 3 scores are missing (de after {'joint' if protocol == 'joint' else 'de'})"
    assert summarise(read_runs([tmp_path])).warnings == [missing]


def test_joint_training_has_no_order_to_differ_in(tmp_path):
    write_run(tmp_path / "x", "joint", LANGUAGES[::-1], lambda *_: 60.0, protocol="joint")
    write_run(tmp_path / "y", "naive", LANGUAGES, falling)
    assert summarise(read_runs([tmp_path])).warnings == []


def test_splits(tmp_path):
    run = write_run(tmp_path / "run", "naive", ["en"], falling, split="valid", eval_split="valid")
    assert read_runs([run])[0].split == "valid"
    with pytest.raises(UserError, match="no score of split 'test' yet; there are scores of valid: use --split"):
        read_runs([run], split="test")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("run.json", "{", "run.json: not JSON"),
        ("run.json", "[]", "expected object, found a list of 0; mend it"),
        ("run.json", '{"languages": ["en"]}', "run.json field 'method': expected text, found None"),
        ("run.json", '{"method": "m", "languages": []}', "field 'languages': expected a list of different languages"),
        (
            "run.json",
            '{"languages": ["en"], "protocol": "x"}',
            "unknown protocol 'x'; there are: sequence, joint, single",
        ),
        ("scores/00-en/en.test.json", '{"txt_r1": NaN}', "json: not JSON .it holds NaN"),
        ("scores/00-en/en.test.json", '{"txt_r1": "9"}', "field 'txt_r1': expected a score in %, found '9'"),
        ("scores/00-en/en.test.json", "\xff", "not JSON"),
        ("00-en/costs.json", '{"train": 3}', "field 'train': expected object, found 3"),
        ("00-en/costs.json", '{"train": {"seconds": -1}}', "field 'train.seconds': expected float >= 0.0, found -1"),
        (
            "00-en/done.json",
            '{"checkpoint_bytes": "9"}',
            "'checkpoint_bytes': expected float . null, found '9'; mend it",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    run = write_run(tmp_path / "run", "naive", ["en"], falling, costs=lambda step: ({}, {}))
    (run / name).write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        read_runs([run])


def test_a_damaged_signature_is_named_with_its_file(tmp_path):
    run = write_run(tmp_path / "run", "naive", ["en"], falling)
    path = run / "scores" / "00-en" / "en.test.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "signature": "80.0"}))
    with pytest.raises(DataError, match="en.test.json: not a signature: '80.0' in '80.0' is no key:value pair"):
        read_runs([run])
