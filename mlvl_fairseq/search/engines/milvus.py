"""A Milvus database: embedded (a file), or a server that may be distributed over many machines."""

import contextlib
import os
from typing import List, Optional

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.errors import UserError, one_line
from mlvl_fairseq.search.engines.base import Engine, register_engine
from mlvl_fairseq.search.folder import Index

BATCH = 2_000  # vectors of a message
BLOCK = 10_000  # rows that are compared with those that are there; a query of Milvus gives at most 16,384
CANDIDATES = 100  # at least, that are compared exactly
MOST = 16_384


@register_engine("milvus")
class MilvusEngine(Engine):
    """Asks a Milvus database: --uri FILE.db is embedded (Milvus Lite), --uri http://HOST:19530 a server.

    What is uploaded is rows and vectors, no names and no pictures; the best ones are compared exactly here. The
    environment variable MILVUS_TOKEN is handed over to servers that ask for one.
    """

    about = "found by Milvus, the best compared exactly"
    requires = "pymilvus"
    extra = "milvus"

    def __init__(self, index: Index, uri: Optional[str] = None):
        super().__init__(index)
        self._name = _name(index)
        with _said(uri):
            self._client = _connect(index, uri)
            there = self._client.has_collection(self._name)
            if there:
                self._client.load_collection(self._name)
        if not there:
            raise UserError(
                f"{_uri(index, uri)}: does not hold this index yet: run mlvl-search index with --engine milvus"
            )

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        limit = min(max(4 * k, CANDIDATES), MOST)
        with _said("Milvus"):
            answers = self._client.search(self._name, data=list(queries), limit=limit, output_fields=["row"])
        found = [np.array([hit["row"] for hit in answer], np.int64) for answer in answers]
        inside = [rows[rows < self.index.bound] for rows in found]
        return [rows[self.index.live[rows]] for rows in inside]

    @classmethod
    def prepare(cls, index: Index, uri: Optional[str] = None) -> bool:
        name, changed = _name(index), 0
        with _said(_uri(index, uri)):
            client = _connect(index, uri)
            if not client.has_collection(name):
                _create(client, name, index.dim)
            client.load_collection(name)
            with tqdm(total=index.bound, unit="vector", desc="milvus") as progress:
                for start in range(0, index.bound, BLOCK):
                    stop = min(start + BLOCK, index.bound)
                    changed += _agree(client, name, index, start, stop)
                    progress.update(stop - start)
            client.flush(name)
            client.close()
        return changed > 0


def _agree(client, name: str, index: Index, start: int, stop: int) -> int:
    """Make the database hold the live rows of a block, and no others; how many were changed."""
    answer = client.query(name, filter=f"row >= {start} and row < {stop}", output_fields=["row"], limit=MOST)
    there = np.array([one["row"] for one in answer], np.int64)
    wanted = start + np.flatnonzero(index.live[start:stop])
    gone, missing = np.setdiff1d(there, wanted), np.setdiff1d(wanted, there)
    if len(gone):
        client.delete(name, ids=gone.tolist())
    for first in range(0, len(missing), BATCH):
        rows = missing[first : first + BATCH]
        client.upsert(name, [{"row": int(row), "vector": vector} for row, vector in zip(rows, index.vectors(rows))])
    return len(gone) + len(missing)


def _create(client, name: str, dim: int) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    parameters = client.prepare_index_params()
    parameters.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=parameters, consistency_level="Strong")


def _name(index: Index) -> str:
    """Of the collection: several indexes may share a database."""
    return f"mlvl_{index.manifest.id}"


def _uri(index: Index, uri: Optional[str]) -> str:
    return uri or str(index.folder / "engines" / "milvus.db")


def _connect(index: Index, uri: Optional[str]):
    from pymilvus import MilvusClient

    address = _uri(index, uri)
    if "://" not in address:
        folder = os.path.dirname(os.path.abspath(address))
        if not address.endswith(".db"):
            raise UserError(f"--uri {address}: give a file that ends in .db, or an address as http://host:19530")
        os.makedirs(folder, exist_ok=True)
    return MilvusClient(address, token=os.environ.get("MILVUS_TOKEN", ""))


@contextlib.contextmanager
def _said(where):
    """What Milvus refuses is said in one line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, ConnectionError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None
