"""`mlvl-options ARCH --count`."""

import pytest

from mlvl_fairseq.cli.options import main
from mlvl_fairseq.errors import UserError


@pytest.mark.parametrize("arguments, trained, total, base, percentages", [
    ("lilt --count --preset lwa", "14,595,585", "209,330,433", "195,128,577", ("6.9725%", "7.4800%")),
    ("--count --preset LilT_DA --arch lilt_base", "14,646,273", "209,304,321", "195,128,577", ("6.9976%", "7.5060%")),
    ("lilt_tiny --count --preset=lwa+ln", "574,849", "10,469,057", "9,987,521", ("5.4909%", "5.7557%")),
    ("lilt_base_mbert --count", "263,499,777", "263,499,777", "263,499,777", ("100.0000%", "100.0000%")),
])  # fmt: skip
def test_numbers_of_the_published_code(capsys, arguments, trained, total, base, percentages):
    main(arguments.split())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["trainable", trained], ["total", total], ["base", base]]
    assert (lines[1][2], lines[2][2]) == percentages


def test_options_of_the_model_are_taken(capsys):
    sizes = "--image-tower features --image-feature-dim 10 --text-width 16 --text-heads 2 --embed-dim 4"
    main(f"lilt_tiny --count --preset proj --vocab-size 7 {sizes}".split())
    assert capsys.readouterr().out.split()[1] == str((10 + 1) * 4 + (16 + 1) * 4 + 1)


@pytest.mark.parametrize("arguments, message", [
    ("--count", "--count takes one --arch of .*lilt_tiny"),
    ("clip_tiny --count", "--count takes one --arch of .*lilt_tiny"),
    ("lilt lilt_tiny --count", "--count takes one --arch of"),
    ("lilt --count --presett lwa", "--count: unrecognized arguments: --presett lwa"),
    ("lilt --count --vocab-size many", "--count: argument --vocab-size: invalid int value: 'many'"),
    ("lilt --count --preset lwax", "--preset lwax: there are full, lit"),
])  # fmt: skip
def test_what_cannot_be_counted(arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments.split())


def test_an_architecture_stands_for_its_model(capsys):
    main(["lilt_tiny"])
    assert "--image-tower" in capsys.readouterr().out
