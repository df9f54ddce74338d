"""Configs that are no YAML of sections and options are one line."""

import pytest

from mlvl_fairseq.configs import compose_config
from mlvl_fairseq.errors import DataError


@pytest.mark.parametrize(
    "content, message",
    [
        (b"task:\n  _name: \xff\n", "c.yaml:2: not UTF-8"),
        (b"task:\n  _name: \0\n", "c.yaml: is no YAML of sections and options: unacceptable character"),
        (b"task:\n\t_name: a\n", "c.yaml: is no YAML of sections and options: while scanning"),
        (b"task: {a: 1, a: 2}\n", "c.yaml: is no YAML of sections and options: while constructing"),
        (b"[" * 3000, "c.yaml: is no YAML of sections and options: "),
        (b"task: 1\n", "c.yaml field 'task': expected str | object | null, found 1"),
        (b"task:\n  _name: [a]\n", "c.yaml field 'task._name': expected str | null, found a list of 1"),
        (b"#" * (1 << 20) + b"\n", "c.yaml: has more than 1,048,576 bytes"),
    ],
)
def test_damaged_configs(tmp_path, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(DataError) as raised:
        compose_config(str(tmp_path / "c.yaml"))
    assert str(raised.value).startswith(f"{tmp_path}/{message}") and "\n" not in str(raised.value)


def test_a_config_with_a_name_and_an_open_section(tmp_path):
    (tmp_path / "c.yaml").write_text("task:\n  _name: cll_retrieval\n  lang: de\noptimizer: adam\nmodel:\n")
    config = compose_config(str(tmp_path / "c.yaml"))
    assert config == {"task": {"_name": "cll_retrieval", "lang": "de"}, "optimizer": "adam", "model": None}
