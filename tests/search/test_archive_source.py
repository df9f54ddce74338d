"""Pictures of Parquet files and of an LMDB are searched where they lie; test_index.py has those of tar files."""

import numpy as np
import pytest
from drawn_photos import NAMES

from mlvl_fairseq.search.sources import source_of


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
