"""Pictures of archives are indexed where they lie, as those of a folder."""

import os
import tarfile

import numpy as np
import pytest
from drawn_photos import NAMES, draw

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.building import Changes
from mlvl_fairseq.search.folder import open_index
from mlvl_fairseq.search.sources import source_of


def pack(path, folder, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.add(folder / name, name)


def vectors(folder):
    index = open_index(folder)
    rows = range(len(NAMES))
    return {index.names[row].partition("/")[2] or index.names[row]: index.vectors([row])[0] for row in rows}


def test_tar_files(tmp_path, photos, update, index):
    (tmp_path / "shards").mkdir()
    pack(tmp_path / "shards" / "0.tar", photos, [*NAMES[:3], "notes.txt"])
    pack(tmp_path / "shards" / "1.tar", photos, NAMES[3:])
    assert update(tmp_path / "packed", tmp_path / "shards") == Changes(added=len(NAMES))
    draw(photos / "new.png", 60)
    pack(tmp_path / "shards" / "1.tar", photos, ["new.png", *NAMES[4:]])
    os.utime(tmp_path / "shards" / "1.tar", ns=(0, 0))
    changed = len(NAMES) - 4
    assert update(tmp_path / "packed", tmp_path / "shards") == Changes(added=1, gone=1, changed=changed, same=3)
    source = source_of(tmp_path / "shards" / "1.tar")
    assert source.kind == "archives" and source.names() == sorted(f"1.tar/{name}" for name in ["new.png", *NAMES[4:]])
    with pytest.raises(DataError, match="there is no picture 'notes.txt' in it"):
        source.picture("1.tar/notes.txt", 10**6)


def test_an_lmdb_and_a_parquet_file(tmp_path, photos):
    pa = pytest.importorskip("pyarrow", reason="pip install 'mlvl_fairseq[parquet]': pyarrow is not installed")
    lmdb = pytest.importorskip("lmdb", reason="pip install 'mlvl_fairseq[lmdb]': lmdb is not installed")
    from pyarrow import parquet

    contents = [(photos / name).read_bytes() for name in NAMES]
    parquet.write_table(pa.table({"jpg": contents}), tmp_path / "a.parquet")
    with lmdb.open(str(tmp_path / "a.lmdb"), map_size=1 << 22) as environment:
        with environment.begin(write=True) as transaction:
            for name, content in zip(NAMES, contents):
                transaction.put(name.encode(), content)
    for path, names in ((tmp_path / "a.parquet", map(str, range(len(NAMES)))), (tmp_path / "a.lmdb", NAMES)):
        source = source_of(path)
        own = [f"{path.name}/{name}" for name in names]
        assert source.names() == sorted(own) and (source.stamps([*own, "a.lmdb/none"])[:, 0] > 0).sum() == len(own)
        pixels = [np.asarray(source.picture(name, 10**6)) for name in own]
        for name, found in zip(NAMES, pixels):
            with source_of(photos).picture(name, 10**6) as picture:
                np.testing.assert_array_equal(found, np.asarray(picture))
