"""The smaller commands: options, tokens by hand, and the quickstart from end to end."""

import dataclasses
import io
import shlex
import sys

import numpy as np
import pytest
from fairseq.dataclass.utils import gen_parser_from_dataclass

from mlvl_fairseq.cli.options import components
from mlvl_fairseq.cli.quickstart import Quickstart
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.token_files import open_tokens


class Arguments:
    """Stands for a parser; keeps what is added to it."""

    def __init__(self):
        self.help = {}

    def add_argument(self, *names, **options):
        self.help[names[0]] = options.get("help")


def options_of(dataclass):
    arguments = Arguments()
    gen_parser_from_dataclass(arguments, dataclass())
    return arguments.help


def test_every_option_is_printed_with_its_help(succeed):
    found = components()
    names = ["cll_retrieval", "image_text_retrieval", "clip", "cll_clip", "clip_contrastive", "row_adamw"]
    assert {*names, "warmup_constant"} <= {component.name for component in found}
    assert [component.title for component in found if component.name == "trikd"] == [
        "--task trikd",
        "--arch {trikd,trikd_base,trikd_large,trikd_tiny}",
        "--criterion trikd",
    ]
    printed = " ".join(succeed("mlvl-options").split())
    for _, title, dataclass in found:
        assert title in printed
        for name, text in options_of(dataclass).items() if dataclass else ():
            assert name in printed
            assert text and " ".join(text.split())[:40] in printed, f"{title}: {name} has no help"


def test_every_field_is_an_option():
    """But for those that fairseq fills in from its own options, as ``seed`` and ``lr``."""
    for _, title, dataclass in components():
        for field in dataclasses.fields(dataclass) if dataclass else ():
            if not field.name.startswith("_") and "${" not in str(field.default):
                names = options_of(dataclass)
                assert field.name in names or f"--{field.name.replace('_', '-')}" in names, f"{title}: {field.name}"


def test_options_of_one_component(succeed, run):
    printed = succeed("mlvl-options", "cll_retrieval")
    assert "--row-scale-on {gradient,update}" in printed and "--embed-dim" not in printed
    about = "the language to learn now; en,de,fr: several at once (joint training) (required)"
    assert about in " ".join(printed.split())
    assert "no component nonsense; there are: cclm_pretraining, cll_retrieval" in run("mlvl-options", "nonsense").error
    for method in ("der_with_teir", "er+oewc"):
        error = run("mlvl-options", method).error
        assert error.startswith(f"{method}: a method") and "docs/methods.md" in error and "--list-methods" in error


class Stream(io.TextIOWrapper):
    """Standard input or output."""

    def __init__(self, text=""):
        super().__init__(io.BytesIO(text.encode("utf-8")), encoding="utf-8", write_through=True)


@pytest.mark.parametrize("lang", ["de", "ru"])
def test_tokens_by_hand(run_here, succeed, corpus, user_dir, monkeypatch, tmp_path, lang):
    """mlvl-encode and fairseq-preprocess make what mlvl-prepare makes."""
    order = {"de": "en+de", "ru": "en+de+ru"}[lang]
    prepared = Corpus(corpus)
    output = Stream()
    monkeypatch.setattr(sys, "stdin", Stream(prepared.captions_path("train", lang).read_text(encoding="utf-8")))
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-encode", "--vocabulary", corpus / "bin" / order)
    monkeypatch.undo()
    assert not end.value.code
    (tmp_path / "train").write_bytes(output.buffer.getvalue())
    task = ["--user-dir", user_dir, "--task", "cll_retrieval", "--only-source"]
    files = ["--srcdict", corpus / "bin" / order / "dict.txt", "--trainpref", tmp_path / "train"]
    succeed("fairseq-preprocess", *task, *files, "--destdir", tmp_path / "bin")
    by_hand, ours = open_tokens(tmp_path / "bin" / "train"), open_tokens(corpus / "bin" / order / lang / "train")
    assert len(by_hand) == len(ours) == 120
    assert all(np.array_equal(one, other) for one, other in zip(by_hand, ours))


@pytest.fixture
def few_pictures(monkeypatch):
    """The quickstart validates and tests with 12 pictures instead of hundreds, which is what takes its time."""
    step = Quickstart.step

    def smaller(self, line, *job, **options):
        sizes = " --valid 12 --test 12" if line.startswith("mlvl-picture-world") else ""
        step(self, line + sizes, *job, **options)

    monkeypatch.setattr(Quickstart, "step", smaller)


def test_quickstart(succeed, few_pictures, composed, tmp_path, read_json, monkeypatch, root):
    """Every step of it, in a folder whose name wants quoting; and a second call, which does only what is new."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    sizes = ["--pictures", 40, "--epochs", 1, "--teacher-epochs", 1, "--methods", "cll_clip", "--order"]
    out = tmp_path / "quick start"
    printed = succeed("mlvl-quickstart", "--output", out, *sizes, "en")
    commands = [line.split()[1] for line in printed.splitlines() if line.startswith("$ ")]
    names = "export mlvl-picture-world mlvl-prepare fairseq-train mlvl-prepare mlvl-cll mlvl-report"
    assert " ".join(commands) == names
    report = read_json(out / "report.json")["methods"]
    assert list(report) == ["cll_clip"] and report["cll_clip"]["languages"] == ["en"]
    end = printed.partition("$ mlvl-report ")[2].splitlines()
    assert end[6:8] == [f"report:  {out / 'report.md'}", f"picture: {out / 'report.png'}"]
    assert end[2].startswith("| method ") and end[4].startswith("| cll_clip ")
    assert (out / "report.md").exists() and (out / "report.png").exists()
    trained = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint_best.pt")}
    assert len(trained) == 2
    printed = succeed("mlvl-quickstart", "--output", out, *sizes, "en,de")  # one language more
    longer = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint_best.pt")}
    assert trained.items() < longer.items() and longer.keys() - trained.keys() == {
        out / "runs" / "cll_clip" / "01-de" / "checkpoint_best.pt"
    }
    report = read_json(out / "report.json")["methods"]["cll_clip"]
    assert report["languages"] == ["en", "de"] and [len(row) for row in report["matrix"]["r_mean"]] == [1, 2]
    lines = [shlex.split(line) for line in printed.splitlines() if line.startswith("  mlvl-search ")]
    assert [line[1] for line in lines] == ["index", "query", "serve"]
    succeed(*lines[0])
    assert "train/00" in succeed(*lines[1])
