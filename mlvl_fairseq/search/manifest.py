"""``index.json``: what an index folder holds. It is written last, and at once: what it does not name is not there."""

import json
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Count, Sha256, Size, checked, read_json

FORMATS = (1, 2)  # 2: numbers of pictures need not follow each other (search/compacting.py)
MANIFEST = "index.json"
_AGAIN = "restore it from a copy, or make the index anew with mlvl-search index"


@dataclass
class SourceEntry:
    """Where pictures are from: the `kind` of source, and its absolute path."""

    kind: str
    path: str


@dataclass
class PartEntry:
    """Pictures that are stored together, in ``parts/NAME``.

    Attributes:
        source: of all of them; None: ``rows.npy`` says it of each, and its number.
        rows: how many. first: the number of the first one; where there is no ``rows.npy``, the others follow.
    """

    name: str
    source: Optional[Count]
    rows: Size
    first: Optional[Count] = None


@dataclass
class IndexManifest:
    """What an index is made of.

    Attributes:
        model: the checkpoint that made the vectors, an absolute path. frozen: where its frozen files were, by option.
        weights_fingerprint: of its weights. embed_dim: of its vectors.
        dtype: of the stored vectors. transform, pictures: see `FeatureManifest`.
        sources, parts: in the order of their pictures' numbers.
        rows: numbers that were given to pictures so far, and are not given again.
        id: the index's own name, drawn when it was made; what it is called in other systems.
        marks: the file that says which rows are gone; '' where none is.
        generation: goes up with every change.
        digest: CRC-32 of all other fields.
    """

    model: str
    weights_fingerprint: Sha256
    embed_dim: Size
    dtype: Literal["float16", "float32"]
    transform: Optional[str] = None
    pictures: Optional[str] = None
    frozen: Dict[str, str] = field(default_factory=dict)
    sources: List[SourceEntry] = field(default_factory=list)
    parts: List[PartEntry] = field(default_factory=list)
    rows: Count = 0
    id: str = ""
    marks: str = ""
    generation: Count = 0
    format: int = FORMATS[0]
    digest: str = ""

    def __post_init__(self) -> None:
        """Pictures without numbers, those of a new part and of earlier versions, get the next ones."""
        for part in self.parts:
            if part.first is None:
                part.first, self.rows = self.rows, self.rows + part.rows


def manifest_path(folder) -> Path:
    """``FOLDER/index.json``."""
    return Path(folder) / MANIFEST


def read_manifest(folder) -> IndexManifest:
    """Read ``index.json``.

    Raises:
        DataError: the folder is no index, the file is damaged, or of another version.
    """
    path = manifest_path(folder)
    if not path.exists():
        raise DataError("is no index: make one with mlvl-search index IMAGES OUT --checkpoint MODEL", folder)
    content = read_json(path, Dict[str, Any], _AGAIN)
    if content.get("format") not in FORMATS:
        raise DataError(f"is of version {content.get('format')}, and this program reads up to {FORMATS[-1]}", path)
    if content.get("digest") != _digest(content):
        raise DataError(f"is damaged: it is not what was written; {_AGAIN}", path)
    manifest = checked(content, IndexManifest, path, advice=_AGAIN)
    outside = [part.name for part in manifest.parts if (part.source or 0) >= len(manifest.sources)]
    if outside:
        raise DataError(f"is damaged: part {outside[0]} is of no source; {_AGAIN}", path)
    return manifest


def write_manifest(folder, manifest: IndexManifest) -> IndexManifest:
    """Write ``index.json`` as the next generation, which is given back."""
    manifest = replace(manifest, generation=manifest.generation + 1)
    manifest.digest = _digest(asdict(manifest))
    write_json(manifest_path(folder), asdict(manifest))
    return manifest


def _digest(content: Dict[str, Any]) -> str:
    """Of what the file holds; fields that another version of this program adds change nothing."""
    others = {name: value for name, value in content.items() if name != "digest"}
    return f"{zlib.crc32(json.dumps(others, sort_keys=True).encode()):08x}"
