"""What nests too deeply is refused before it is unpickled: it would end the process."""

import io
import pickle
import zipfile

import pytest
import torch

from mlvl_fairseq.checkpoints.nesting import MAX_NESTING, TooDeep, require_shallow
from mlvl_fairseq.checkpoints.safe_loading import load
from mlvl_fairseq.errors import DataError

DEEP_KEY = b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s."  # {((((...),),),): 1}


def nested(depth, wrap):
    value = ()
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda x: (x,), lambda x: (1, x), lambda x: (1, 2, 3, 4, x), lambda x: [x]])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_depth_is_that_of_the_value(wrap, protocol):
    require_shallow(io.BytesIO(pickle.dumps(nested(MAX_NESTING, wrap), protocol)))
    with pytest.raises(TooDeep):
        require_shallow(io.BytesIO(pickle.dumps(nested(MAX_NESTING + 2, wrap), protocol)))


def test_many_and_shared_values_are_not_deep():
    shared = (1, (2, 3))
    rows = [shared] * 5000 + [{"a": (i, shared)} for i in range(5000)]
    require_shallow(io.BytesIO(pickle.dumps({"rows": rows, "set": {1, 2}}, 2)))


# put, pop, get, a tuple of it
@pytest.mark.parametrize("step", [b"q\x010h\x01\x85", b"r\0\x01\0\x000j\0\x01\0\0\x85", b"p7\n0g7\n\x85"])
def test_depth_is_known_through_the_memo(step):
    require_shallow(io.BytesIO(b"\x80\x02)" + step * MAX_NESTING + b"."))
    with pytest.raises(TooDeep):
        require_shallow(io.BytesIO(b"\x80\x02)" + step * (MAX_NESTING + 2) + b"."))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_stands_in_a_value_is_no_operation(protocol):
    values = ["\x85" * 300, b"\x85" * 300, b"\x85" * 9, "(" * 70_000, 2**2000, 1.5, 3, 300, 70_000, None, True]
    file = io.BytesIO(pickle.dumps([*values, set(), [], {}], protocol) + b"more")
    require_shallow(file)
    assert file.read() == b"more"


@pytest.mark.parametrize("pickled", [b"", b"\x80\x02", b"X\x05\0\0\0ab.", b"X\x05", b"K", b"\xff.", b"q\x01."])
def test_what_is_no_pickle(pickled):
    with pytest.raises((ValueError, IndexError)):
        require_shallow(io.BytesIO(pickled))


def repacked(path, target, pickled):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else source.read(name))
    return target


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints(tmp_path, legacy):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=not legacy)
    assert load(path)["a"].tolist() == [1, 1, 1]
    if legacy:
        content = path.read_bytes()
        head = sum(len(pickle.dumps(one, 2)) for one in pickles(content)[:3])
        path.write_bytes(content[:head] + DEEP_KEY)
    else:
        path = repacked(path, tmp_path / "deep.pt", DEEP_KEY)
    with pytest.raises(DataError, match=r"\.pt: is truncated, damaged, or not .*nests deeper than 200 containers"):
        load(path)


def pickles(content):
    file = io.BytesIO(content)
    return [pickle.load(file) for _ in range(3)]
