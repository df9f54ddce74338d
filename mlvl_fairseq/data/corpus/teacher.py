"""Whether a corpus has all features of a teacher, told by the bytes of its file: its weights need not be read."""

import hashlib
import os
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Optional

from mlvl_fairseq.data.corpus.corpus import TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.feature_manifest import (
    array_path,
    feature_manifest_path,
    fingerprint_of_names,
    read_feature_manifest,
)
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Sha256, read_json


@dataclass
class TeacherRecord:
    """Which file gave the features.

    Attributes:
        content: sha256 of its bytes. weights_fingerprint: of its weights.
        family: of its network. architecture: the ``--arch`` that can start from it. None: earlier versions did not note
            it, or, of the architecture, there is none.
        path: where the file or folder was; None: not noted, as by earlier versions.
    """

    content: Sha256
    weights_fingerprint: str
    family: Optional[str] = None
    architecture: Optional[str] = None
    path: Optional[str] = None


def _record_path(corpus: Corpus) -> Path:
    return corpus.folder / "features" / "teacher.json"


def remember_teacher(
    corpus: Corpus,
    teacher,
    weights_fingerprint: str,
    family: Optional[str] = None,
    architecture: Optional[str] = None,
) -> None:
    """Note that the features of all splits are those of a teacher.

    Args:
        teacher: its file or folder. weights_fingerprint, family, architecture: see :class:`TeacherRecord`.
    """
    path = os.path.abspath(teacher)
    noted = path if path.isprintable() else None  # bytes that are no UTF-8 are no JSON
    record = TeacherRecord(_content_sha256(Path(teacher)), weights_fingerprint, family, architecture, noted)
    write_json(_record_path(corpus), asdict(record))


def recorded_teacher(corpus: Corpus) -> Optional[TeacherRecord]:
    """What is noted about the teacher whose features a corpus has; None: nothing is."""
    path = _record_path(corpus)
    return read_json(path, TeacherRecord) if path.is_file() else None


def has_all_features(corpus: Corpus, teacher) -> bool:
    """Whether there is nothing left to compute with the teacher in this file or folder. False also where only reading
    its weights can tell."""
    record = recorded_teacher(corpus)
    if record is None or not (Path(teacher).is_file() or Path(teacher).is_dir()):
        return False
    for split, kind in product(corpus.manifest["splits"], TEACHER_FEATURES):
        stem = corpus.feature_stem(split, kind)
        if not (feature_manifest_path(stem).is_file() and array_path(stem).is_file()):
            return False
        manifest = read_feature_manifest(stem)
        names = corpus.english(split) if kind == "text" else corpus.images(split)
        if (
            not manifest.complete
            or manifest.bad_rows  # whether these are accepted is asked every time
            or manifest.transform  # whether it is the one that is wanted, the model has to say
            or manifest.pictures  # how they are to be read is said every time
            or manifest.precision  # and how they are computed
            or manifest.weights_fingerprint != record.weights_fingerprint
            or manifest.row_names_fingerprint != fingerprint_of_names(names)
        ):
            return False
    return _content_sha256(Path(teacher)) == record.content


def _content_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; of a folder, of the names and bytes of its files."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.iterdir() if file.is_file()):
        digest.update(f"{file.name}\0{file_sha256(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
