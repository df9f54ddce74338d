import pytest

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_object


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
        (b"[1]", "expected a JSON object, found a list"),
        (b"null", "expected a JSON object, found a NoneType"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"costs.json: {message}"):
        read_object(path)
