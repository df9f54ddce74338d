"""JSON files against a schema: every fault is one line with file and field."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Dict, List, Optional

import pytest
import torch
from msgspec import Meta

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import Count, Sha256, Size, checked, read_json, read_object


@dataclass
class Split:
    captions: Dict[str, Count]
    images: Count = 0


@dataclass
class Layout:
    width: Size
    splits: Dict[str, Split] = field(default_factory=dict)
    names: List[str] = field(default_factory=list)
    score: Optional[Annotated[float, Meta(ge=0, le=100)]] = None
    digest: Optional[Sha256] = None


def read(tmp_path, content, schema=Layout, **options):
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_json(path, schema, **options)


def test_an_object_is_read(tmp_path):
    path = tmp_path / "costs.json"
    path.write_text('{"größe": 1}', encoding="utf-8")
    assert read_object(path) == {"größe": 1}


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"a": ', "not JSON .*delete it and run the same command again"),
        (b'{"a": "\xff"}', "not JSON .*delete it and run the same command again"),
        (b"", "not JSON"),
        (b"[1]", "expected object, found a list of 1; delete it"),
        (b"null", "expected object, found null"),
        (b'{"a": NaN}', "not JSON .it holds NaN"),
        (b'{"a": -Infinity}', "not JSON .it holds -Infinity"),
        (b'{"a": 1e999}', "not JSON .it holds a number out of range .inf"),
        (b'{"a": [18446744073709551616]}', "not JSON .it holds a number out of range .18446744073709551616"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not JSON .Exceeds the limit"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "not JSON .the key 'c' occurs twice"),
        (b'{"a": "\\ud800"}', "not JSON .*surrogates not allowed"),
        (b'{"\\ud800": 1}', "not JSON .*surrogates not allowed"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "not JSON .nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "not JSON .nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON .nested too deeply"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"costs.json: {message}") as error:
        read_object(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_numbers_of_other_programs(tmp_path):
    content = '{"width": 3, "score": 1.5, "x": [1000000000000000019884624838656, -18446744073709551617]}'
    assert read(tmp_path, content, of_others=True) == Layout(3, score=1.5)
    assert read(tmp_path, content, Dict[str, Any], of_others=True)["x"] == [1e30, -(2.0**64)]
    with pytest.raises(DataError, match="it holds a number out of range"):
        read(tmp_path, content)
    with pytest.raises(DataError, match="it holds a number out of range .inf"):
        read(tmp_path, '{"width": 1' + "0" * 400 + "}", of_others=True)
    with pytest.raises(DataError, match="field 'width': expected int, found 1e.30"):
        read(tmp_path, '{"width": 1' + "0" * 30 + "}", of_others=True)


def test_what_is_as_deep_and_large_as_can_be_is_read(tmp_path):
    read(tmp_path, b'{"a": ' + b"[" * 62 + b"1" + b"]" * 62 + b"}", Dict[str, Any])
    numbers = read(tmp_path, '{"a": [18446744073709551615, -9223372036854775808, 1e308]}', Dict[str, List[Any]])
    assert numbers == {"a": [2**64 - 1, -(2**63), 1e308]}


def test_values_become_those_of_the_schema(tmp_path):
    content = '{"width": 2, "splits": {"train": {"captions": {"de": 3}, "new": 1}}, "score": 5, "other": []}'
    assert read(tmp_path, content) == Layout(2, {"train": Split({"de": 3})}, score=5.0)


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"width": "2"}', "field 'width': expected int, found '2'; fetch it again"),
        ('{"width": true}', "field 'width': expected int, found True"),
        ('{"width": 2.0}', "field 'width': expected int, found 2.0"),
        ('{"width": 0}', "field 'width': expected int >= 1, found 0"),
        ('{"width": 2147483648}', "field 'width': expected int <= 2147483647, found 2147483648"),
        ("{}", "field 'width': is missing"),
        ('{"width": 1, "splits": []}', "field 'splits': expected object, found a list of 0"),
        ('{"width": 1, "splits": {"train": {"captions": {"de": 1, "fr": -1, "it": 1}}}}',
         "field 'splits.train.captions.fr': expected int >= 0, found -1"),
        ('{"width": 1, "splits": {"a": {"captions": {}}, "b": {}}}', "field 'splits.b.captions': is missing"),
        ('{"width": 1, "names": ["a", null]}', r"field 'names\[1\]': expected str, found null"),
        ('{"width": 1, "score": 100.5}', "field 'score': expected float <= 100.0, found 100.5"),
        ('{"width": 1, "digest": "00"}', "field 'digest': expected str matching regex .*, found '00'"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=f"x.json {message}"):
        read(tmp_path, content, advice="fetch it again")


def test_a_long_value_is_shown_short(tmp_path):
    with pytest.raises(DataError) as error:
        read(tmp_path, '{"width": 1, "splits": {"%s": 1}}' % ("k" * 10_000))
    assert len(str(error.value)) < 300


def test_absent_large_and_irregular_files(tmp_path):
    with pytest.raises(DataError, match="x.json: no such file; make one with mlvl-prepare"):
        read_json(tmp_path / "x.json", Layout, missing="make one with mlvl-prepare")
    with pytest.raises(DataError, match=f"{tmp_path}: is a folder, not a regular file"):
        read_json(tmp_path, Layout)
    with pytest.raises(DataError, match="has more than 5 bytes"):
        read(tmp_path, "[1, 2]", limit=5)
    assert read(tmp_path, "[1,2]", List[int], limit=5) == [1, 2]


def test_parsed_values_are_checked_too():
    @dataclass
    class State:
        weight: torch.Tensor
        languages: List[str]

    weight = torch.zeros(2)
    assert checked({"weight": weight, "languages": ("en", "de")}, State, "a.pt").weight is weight
    with pytest.raises(DataError, match="a.pt field 'task.weight': expected Tensor, found 3"):
        checked({"weight": 3, "languages": []}, State, "a.pt", "task")
    with pytest.raises(DataError, match=r"a.pt field 'languages\[0\]': expected str, found a Tensor"):
        checked({"weight": weight, "languages": [weight]}, State, "a.pt")
    with pytest.raises(DataError, match="a.pt field 'state': holds text that is no Unicode"):
        checked({"\ud800": 3}, State, "a.pt", "state")
    with pytest.raises(DataError, match="a.pt field 'sizes': has a key that is no text"):
        checked({"sizes": {1: 2}}, Dict[str, Dict[str, int]], "a.pt")


def test_a_deep_field_is_named_in_full(tmp_path):
    schema = Dict[str, Dict[str, Dict[str, List[int]]]]
    place = r"field 'a_rather_long_name.another_long_name.the_last..name\[1\]': expected int"
    with pytest.raises(DataError, match=place):
        read(tmp_path, '{"a_rather_long_name": {"another_long_name": {"the_last\\nname": [1, "x"]}}}', schema)
