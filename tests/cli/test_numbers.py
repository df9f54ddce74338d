"""Numbers for which there is nothing to do are refused by name, before anything is loaded."""

from importlib import import_module

import pytest

EVALUATE = ["--checkpoint", "c", "--captions", "f", "--lang", "de"]


@pytest.mark.parametrize(
    "command, arguments, option",
    [
        ("analyse", ["attention", "run"], "--max-captions"),
        ("analyse", ["convergence", "run"], "--noise-draws"),
        ("cll", ["corpus", "run"], "--batch-size"),
        ("evaluate", EVALUATE, "--batch-size"),
        ("fuse", EVALUATE, "--batch-size"),
        ("prepare", ["corpus"], "--batch-size"),
        ("prepare", ["corpus"], "--bpe-size"),
        ("prepare", ["corpus"], "--max-bad-images"),
        ("quickstart", [], "--pictures"),
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_not_positive(command, arguments, option, value, capsys):
    parser = import_module(f"mlvl_fairseq.cli.{command}").build_parser()
    with pytest.raises(SystemExit):
        parser.parse_known_args([*arguments, f"{option}={value}"])
    assert f"argument {option}: {value} is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, arguments, option",
    [
        ("evaluate", EVALUATE, "--num-workers"),
        ("prepare", ["corpus"], "--num-workers"),
        ("prepare", ["corpus"], "--max-problems"),
    ],
)
def test_none_is_a_number_but_less_is_not(command, arguments, option, capsys):
    parser = import_module(f"mlvl_fairseq.cli.{command}").build_parser()
    assert getattr(parser.parse_args([*arguments, f"{option}=0"]), option[2:].replace("-", "_")) == 0
    with pytest.raises(SystemExit):
        parser.parse_args([*arguments, f"{option}=-1"])
    assert f"argument {option}: -1 is not a whole number of at least 0" in capsys.readouterr().err
