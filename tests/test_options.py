"""A config is the union of the options of its parts."""

from dataclasses import asdict, dataclass, field, fields

import pytest
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import with_options


@dataclass
class Base(FairseqDataclass):
    """What the base is."""

    lang: str = field(default="en", metadata={"help": "the language"})


@dataclass
class First:
    first: int = field(default=3, metadata={"help": "of the first part"})


@dataclass
class Second:
    second: bool = False


def own_fields(config):
    return {option.name for option in fields(config)} - {option.name for option in fields(FairseqDataclass)}


def test_the_union_has_every_field_with_default_and_help():
    union = with_options(Base, [First, Second])
    assert own_fields(union) == {"lang", "first", "second"}
    assert {"lang": "en", "first": 3, "second": False}.items() <= asdict(union()).items()
    assert union.__dataclass_fields__["first"].metadata["help"] == "of the first part"
    assert issubclass(union, FairseqDataclass)


def test_name_module_and_description_are_the_base_s():
    """fairseq and OmegaConf show them in messages."""
    union = with_options(Base, [First])
    assert (union.__name__, union.__module__, union.__doc__) == ("Base", __name__, "What the base is.")


def test_no_parts_no_more_options():
    assert own_fields(with_options(Base, iter([]))) == {"lang"}


def test_two_options_of_one_name_are_refused():
    @dataclass
    class Third:
        first: int = 0

    with pytest.raises(UserError, match="option 'first' is in First and in Third: rename one"):
        with_options(Base, [First, Second, Third])

    @dataclass
    class Fourth:
        lang: str = ""

    with pytest.raises(UserError, match="option 'lang' is in Base and in Fourth"):
        with_options(Base, [Fourth])


def test_bases_are_left_alone():
    with_options(Base, [First])
    assert own_fields(Base) == {"lang"} and not hasattr(Base(), "first")
