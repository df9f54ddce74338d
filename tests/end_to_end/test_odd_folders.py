"""Folders with names that a shell, str.format, a list of paths, a pattern or a configuration could read otherwise."""

import json
import shutil

import pytest

from mlvl_fairseq.continual.methods import as_arguments

ODD = 'o\'d "{x}{}":y,z $HOME %s #*[a-z]? \u00e9=\n\\1'


@pytest.fixture(scope="module")
def odd(tmp_path_factory, corpus, world, teacher):
    """A folder of that name with the world, a corpus that was moved there, and the teacher."""
    folder = tmp_path_factory.mktemp("odd") / ODD
    for source, name in ((world, "world"), (corpus, "corpus")):
        shutil.copytree(source, folder / name)
    shutil.copyfile(teacher, folder / "teacher.pt")
    return folder


@pytest.fixture(scope="module")
def odd_run(odd, succeed, sequence_options, teacher):
    """mlvl-cll there."""
    own = [odd / "teacher.pt" if option == teacher else option for option in sequence_options]
    succeed("mlvl-cll", odd / "corpus", odd / "run", "--method", "cll_clip_with_teir", "--order", "en,de", *own)
    return odd / "run"


def test_prepare(odd, succeed):
    files = {"train": "train.vision-en-{lang}.tsv", "valid": "valid.{lang}.json"}
    patterns = [f"--{split}={odd / 'world' / name}" for split, name in files.items()]
    made = ["mlvl-prepare", odd / "made", "--languages", "en,de", *patterns, "--order", "en,de", "--bpe-size", 300]
    succeed(*made, "--image-root", odd / "world" / "images", "--check-images")
    succeed("mlvl-prepare", odd / "made", "--teacher", odd / "teacher.pt")
    assert (odd / "made" / "features" / "train.image.npy").exists() and (odd / "made" / "bin" / "en+de" / "de").exists()


def test_sequence_evaluation_and_report(odd, odd_run, succeed, read_json):
    captions, best = odd / "world" / "test.{lang}.json", odd_run / "01-de" / "checkpoint_best.pt"
    options = ["--image-root", odd / "world" / "images", "--output-dir", odd / "scores", "--json", odd / "scores.json"]
    succeed("mlvl-evaluate", "--checkpoint", best, "--captions", captions, "--lang", "en,de", *options)
    mine, theirs = read_json(odd / "scores" / "de.test.json"), read_json(odd_run / "scores" / "01-de" / "de.test.json")
    assert mine["r_mean"] == pytest.approx(theirs["r_mean"])
    succeed("mlvl-report", odd_run, "--output", odd / "report")
    assert (odd / "report" / "report.md").exists()


def test_fuse_and_encode(odd, odd_run, succeed):
    best = odd_run / "01-de" / "checkpoint_best.pt"
    triplets, root = odd / "world" / "train.vision-en-de.tsv", odd / "world" / "images"
    fused = ["--captions", triplets, "--image-root", root, "--json", odd / "fused.json", "--eta", 0.5]
    succeed("mlvl-fuse", "--checkpoint", best, "--lang", "de", *fused)
    assert len(json.loads((odd / "fused.json").read_text())["scores"]) == 2
    (odd / "text").write_text("ein Stern\n")
    vocabulary = ["--vocabulary", odd / "corpus" / "bin" / "en+de"]
    succeed("mlvl-encode", *vocabulary, "--output-dir", odd / "encoded", odd / "text")
    assert (odd / "encoded" / "text").read_text().split()


@pytest.mark.parametrize("name", ["a${b}c", "a\\"])
def test_what_a_configuration_cannot_hold_is_refused_at_once(name, run, odd, teacher, cll, tmp_path):
    for option in (["mlvl-cll", odd / "corpus", tmp_path / name], ["mlvl-quickstart", "--output", tmp_path / name]):
        assert "choose a path without" in run(*option).error
    assert "choose a path without" in run("fairseq-train", *cll("en"), "--save-dir", tmp_path / name).error
    assert not (tmp_path / name).exists()


def test_only_known_placeholders_are_filled():
    options = {"save_dir": "/runs/{x}{}", "oracle_languages": "{languages}"}
    assert as_arguments(options, languages="en,{de}") == ["--save-dir=/runs/{x}{}", "--oracle-languages=en,{de}"]
