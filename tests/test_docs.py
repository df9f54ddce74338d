"""What the documentation names is there: links, commands, options."""

import re
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import pytest
from fairseq import options
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceConfig
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRScheduleConfig
from hydra._internal.utils import get_args_parser

from mlvl_fairseq.cli import evaluate
from mlvl_fairseq.cli.options import components
from mlvl_fairseq.evaluation.evaluators import EVALUATORS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("", "docs/", "examples/*/", "benchmarks/")
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md"))
OF_OTHERS = {"--dataset", "--annotation", "--model", "--pretrained", "--recall", "--no"}  # CLIP_benchmark's, up to a _
OF_OTHERS |= {"--nnodes", "--nproc-per-node", "--max-restarts", "--rdzv-backend", "--rdzv-endpoint"}  # torchrun's
OF_OTHERS |= {"--nodes", "--ntasks-per-node", "--gpus", "--gpus-per-node", "--cpus-per-task"}  # Slurm's
OF_OTHERS |= {"--array", "--mem", "--wrap"}
COMMANDS = (
    "analyse", "cll", "convert", "encode", "evaluate", "export", "fuse", "list", "picture-world", "prepare",
    "quickstart", "options", "report", "search", "sentencepiece",
)  # fmt: skip


def names(page):
    return str(page.relative_to(ROOT))


def gen_parser_for(dataclass):
    parser = ArgumentParser()
    gen_parser_from_dataclass(parser, dataclass())
    return parser


@pytest.fixture(scope="module")
def known_options():
    """Every option of our commands, of fairseq's, and of the programs and scripts in benchmarks/ and examples/."""
    parsers = [options.get_training_parser(), options.get_preprocessing_parser()]
    parsers += [options.get_interactive_generation_parser(), gen_parser_for(SentencepieceConfig), get_args_parser()]
    parsers.append(gen_parser_for(PolynomialDecayLRScheduleConfig))
    for command in COMMANDS:
        parser = import_module(f"mlvl_fairseq.cli.{command.replace('-', '_')}").build_parser()
        if command == "evaluate":
            parsers += [evaluate.build_parser(name) for name in EVALUATORS]
        nested = [action.choices.values() for action in parser._actions if isinstance(action.choices, dict)]
        parsers += [parser, *(inner for group in nested for inner in group)]
    for component in components():
        if component.dataclass is not None:
            gen_parser_from_dataclass(parsers[0], component.dataclass(), delete_default=True)
    known = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    programs = [
        path for folder in ("benchmarks", "examples/*", "examples/*/published") for path in ROOT.glob(f"{folder}/*.py")
    ]
    texts = "".join(path.read_text(encoding="utf-8") for path in programs)
    scripts = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("examples/*/lib.sh"))
    known |= set(re.findall(r"^\s*(--[a-z-]+)\) ", scripts, re.MULTILINE))  # a case of a script's own options
    return known | set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', texts))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_options(page, known_options):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text(encoding="utf-8")))
    assert not named - known_options - OF_OTHERS


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing
