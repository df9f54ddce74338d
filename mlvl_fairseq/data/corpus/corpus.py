"""Where everything lies in a corpus folder, and how to read it. `docs/data.md` describes every file."""

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from msgspec import Meta

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.codes import data_set_name, language_code
from mlvl_fairseq.data.feature_manifest import array_path, feature_manifest_path, read_feature_manifest
from mlvl_fairseq.data.features import StoredFeatures, read_features
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import open_file
from mlvl_fairseq.json_files import Count, Sha256, Size, checked, read_json

FORMAT = 1
MANIFEST = "corpus.json"
SPLITS = ("train", "valid", "test")
TEACHER_FEATURES = ("image", "text")
OF_DATA_SET = "@"  # between a split and a data set
EXAMPLES = 3  # named in messages
_COLUMNS = {"inputs": 0, "image": 0, "text": 1}  # of a caption's rows: which one is a row of these features
_AGAIN = "restore it from a copy, or make the corpus anew with mlvl-prepare"


@dataclass
class SplitManifest:
    """What ``corpus.json`` says of a split: how many there are of everything, a digest of the contents, and problems by
    language and kind."""

    images: Count
    english: Count
    captions: Dict[str, Annotated[int, Meta(ge=1, le=2**31 - 1)]]
    sha256: Sha256
    problems: Dict[str, Dict[str, Count]] = field(default_factory=dict)


@dataclass
class CorpusManifest:
    """What ``corpus.json`` holds."""

    format: int
    source_lang: str
    bpe_size: Size
    splits: Dict[str, SplitManifest]
    image_root: Optional[str] = None


# Verified once, not once a use: by this process, or by the one that it was forked from.
_stored: Dict[Path, Tuple[tuple, StoredFeatures]] = {}


class Corpus:
    """A prepared corpus folder, opened for reading.

    A corpus may hold several data sets: each has the images in a folder of its own, the first part of their names
    (``coco/1.jpg``). Where a split is asked for, ``test@coco`` stands for the captions of one of them.

    Args:
        folder: what ``mlvl-prepare`` wrote.

    Raises:
        DataError: it is no corpus folder, was written by another version, or its manifest is damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder / MANIFEST)
        self._kept: Optional[Dict[Path, List[str]]] = None

    @contextlib.contextmanager
    def reading_once(self) -> Iterator[None]:
        """Within it, names of images and English sentences stay in memory, for whoever asks again and again."""
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the manifest and of every caption and row file it names: what earlier versions wrote
        into ``run.json``, see :meth:`language_fingerprint`."""
        digest = hashlib.sha256((self.folder / MANIFEST).read_bytes())
        for split in self.manifest["splits"]:
            for lang in self.languages(split):
                for path in (self.captions_path(split, lang), self.rows_path(split, lang)):
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def language_fingerprint(self, lang: str) -> str:
        """sha256 (hex) of one language: settings, captions, rows, and what rows can point to. Other languages that are
        added to the corpus do not change it, nor does another image root."""
        digest = hashlib.sha256(f"{self.source_lang} {self.bpe_size}".encode())
        for split in self.manifest["splits"]:
            if lang not in self.languages(split):
                continue
            digest.update(f"\0{split}\0".encode())
            for path in (self.captions_path(split, lang), self.rows_path(split, lang)):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            lists = self.images(split), self.english(split)
            for names, last in zip(lists, self.rows(split, lang).max(axis=0)):
                digest.update(hashlib.sha256("\n".join(names[: last + 1]).encode()).digest())
        return digest.hexdigest()

    @property
    def source_lang(self) -> str:
        return self.manifest["source_lang"]

    @property
    def bpe_size(self) -> int:
        return self.manifest["bpe_size"]

    def languages(self, split: str = "train") -> List[str]:
        """Languages with captions in a split, in the order they were given."""
        languages, data_set = list(self._counts(split).get("captions", {})), split.partition(OF_DATA_SET)[2]
        if not data_set:
            return languages
        return [lang for lang in languages if self.members(_whole(split), lang, data_set).any()]

    def require(self, split: str, lang: str) -> None:
        """Raises UserError: the corpus has no captions of this language and split."""
        if lang not in self.languages(split):
            splits, known = self.manifest["splits"], ", ".join(self.languages(split)) or "none"
            known = known if _whole(split) in splits else f"the splits {', '.join(splits)}"
            raise UserError(f"{self.folder}: no {split} captions in language '{lang}' (there are: {known})")

    def members(self, split: str, lang: str, data_set: str) -> np.ndarray:
        """bool [captions]: which captions of a split and language are of a data set.

        Raises:
            DataError: a data set cannot have this name.
        """
        data_set_name(data_set)
        own = np.array([name.startswith(f"{data_set}/") for name in self.images(split)], bool)
        return own[self.rows(_whole(split), lang)[:, 0]]

    # Files. Paths need not exist yet: the builders write them.
    def images_path(self, split: str) -> Path:
        return self.folder / "images" / f"{_whole(split)}.txt"

    def captions_path(self, split: str, lang: str) -> Path:
        return self.folder / "captions" / f"{_whole(split)}.{lang}.txt"

    def rows_path(self, split: str, lang: str) -> Path:
        return self.folder / "captions" / f"{_whole(split)}.{lang}.rows.npy"

    def english_path(self, split: str) -> Path:
        return self.folder / "captions" / f"{_whole(split)}.english.txt"

    def feature_stem(self, split: str, kind: str) -> Path:
        """`kind`: ``inputs`` (frozen image features given by the user), ``image`` or ``text`` (the teacher's)."""
        return self.folder / "features" / f"{_whole(split)}.{kind}"

    # Contents.
    def images(self, split: str) -> List[str]:
        """Image names; position = image row."""
        return self._shared_lines(self.images_path(split), self._counts(split).get("images"))

    def captions(self, split: str, lang: str) -> List[str]:
        self.require(split, lang)
        data_set = split.partition(OF_DATA_SET)[2]
        captions = self._lines(self.captions_path(split, lang), self._counts(split)["captions"][lang])
        if not data_set:
            return captions
        return [captions[row] for row in np.flatnonzero(self.members(split, lang, data_set))]

    def english(self, split: str) -> List[str]:
        """The distinct English sentences beside the captions; position = English row."""
        return self._shared_lines(self.english_path(split), self._counts(split).get("english"))

    def rows(self, split: str, lang: str) -> np.ndarray:
        """int32 [captions, 2]: the image row and the English row (-1: none) of each caption."""
        self.require(split, lang)
        data_set = split.partition(OF_DATA_SET)[2]
        path, counts = self.rows_path(split, lang), self._counts(split)
        expected = counts["captions"][lang]
        rows = map_array(path, ("int32",), ("captions", 2), _AGAIN)
        if len(rows) != expected:
            raise DataError(f"shape {rows.shape} does not fit the manifest's {expected} captions", path)
        smallest, largest = rows.min(axis=0), rows.max(axis=0)
        if smallest[0] < 0 or smallest[1] < -1 or largest[0] >= counts["images"] or largest[1] >= counts["english"]:
            raise DataError(f"points to images or English sentences that are not there; {_AGAIN}", path)
        return rows[self.members(split, lang, data_set)] if data_set else rows

    def _counts(self, split: str) -> Dict[str, Any]:
        """What the manifest says of a split; empty: it has none."""
        return self.manifest["splits"].get(_whole(split), {})

    def _shared_lines(self, path: Path, expected: Optional[int]) -> List[str]:
        if self._kept is None:
            return self._lines(path, expected)
        if path not in self._kept:
            self._kept[path] = self._lines(path, expected)
        return self._kept[path]

    def _lines(self, path: Path, expected: Optional[int]) -> List[str]:
        lines = read_lines(path)
        if expected is not None and len(lines) < expected:  # more: languages were being added to the corpus
            raise DataError(f"has {len(lines)} lines, not the {expected} of {MANIFEST}; {_AGAIN}", path)
        return lines

    def features(self, split: str, kind: str) -> np.ndarray:
        """Memory-mapped features [rows, dims] of `kind`, verified against this corpus's row order and their digests.

        Raises:
            DataError: they are absent, incomplete, damaged, or of other rows.
        """
        return self._stored_features(split, kind).array

    def unusable(self, split: str, kind: str) -> np.ndarray:
        """bool [rows]: features of `kind` that stand for nothing, as those of unreadable pictures; see `features`."""
        return self._stored_features(split, kind).unusable

    def usable(self, split: str, lang: str, kinds: Sequence[str] = TEACHER_FEATURES) -> np.ndarray:
        """int64: the captions of a split, ascending, whose image and English sentence stand for something in the
        features of `kinds` (of those that are stored). The others take part in nothing."""
        rows = self.rows(split, lang)
        usable = np.ones(len(rows), bool)
        for kind in kinds:
            if self.has_features(split, kind):
                column, unusable = rows[:, _COLUMNS[kind]], self.unusable(split, kind)
                usable &= ~((column >= 0) & unusable[column])
        return np.flatnonzero(usable)

    def finished_features(self, split: str) -> List[str]:
        """The kinds of features of a split that are there for all of its rows."""
        rows = {"text": len(self.english(split))}
        kinds = [kind for kind in _COLUMNS if self.has_features(split, kind)]
        manifests = {kind: read_feature_manifest(self.feature_stem(split, kind)) for kind in kinds}
        images = len(self.images(split))
        return [kind for kind, m in manifests.items() if m.complete and m.shape[0] == rows.get(kind, images)]

    def left_out(self, split: str, usable: Mapping[str, np.ndarray]) -> str:
        """A sentence on the captions of a split that :meth:`usable`, by language, leaves out; '' if there are none."""
        left_out = {lang: self.left_out_images(split, lang, rows) for lang, rows in usable.items()}
        images = sorted({name for names, _ in left_out.values() for name in names})
        if not images:
            return ""
        captions = ", ".join(f"{number} in {lang}" for lang, (_, number) in left_out.items() if number)
        examples = ", ".join(images[:EXAMPLES]) + (", ..." if len(images) > EXAMPLES else "")
        return f"{split}: {len(images)} images have no usable features ({examples}); captions left out: {captions}"

    def left_out_images(self, split: str, lang: str, usable: np.ndarray) -> Tuple[List[str], int]:
        """Images of the captions of a split that :meth:`usable` leaves out, and the number of these captions."""
        rows, names = self.rows(split, lang)[:, 0], self.images(split)
        left_out = np.delete(rows, usable)
        return [names[row] for row in np.unique(left_out)], len(left_out)

    def teacher_fingerprint(self, lang: str) -> Optional[str]:
        """sha256 (hex) of the teacher's features that the captions of a language point to, in all splits. Images and
        sentences that are added to the corpus do not change it. None: a split has none yet."""
        digest = hashlib.sha256()
        for split in self.manifest["splits"]:
            if lang not in self.languages(split):
                continue
            for kind in TEACHER_FEATURES:
                if not self.has_features(split, kind):
                    return None
                rows = int(self.rows(split, lang)[:, _COLUMNS[kind]].max()) + 1
                features = self._stored_features(split, kind)
                cut = f" {features.manifest.transform}" if features.manifest.transform else ""
                digest.update(f"{split} {kind} {features.fingerprint(rows)}{cut}\n".encode())
        return digest.hexdigest()

    def _stored_features(self, split: str, kind: str) -> StoredFeatures:
        stem = self.feature_stem(split, kind).absolute()
        names = self.english_path(split) if kind == "text" else self.images_path(split)
        state = tuple(_state(path) for path in (array_path(stem), feature_manifest_path(stem), names))
        if _stored.get(stem, (None,))[0] != state:
            rows = self.english(split) if kind == "text" else self.images(split)
            _stored[stem] = state, read_features(stem, expect_row_names=rows)
        return _stored[stem][1]

    def image_transform(self, split: str) -> Optional[str]:
        """``name@size`` of what cut the pictures behind the teacher's features; None: the teacher's own, or nothing."""
        if not self.has_features(split, "image"):
            return None
        return read_feature_manifest(self.feature_stem(split, "image")).transform

    def require_one_teacher(self) -> None:
        """Check that one model has encoded the images and the English sentences of all splits.

        Raises:
            DataError: the features of a split come from other weights.
        """
        stems = [self.feature_stem(s, k) for s in self.manifest["splits"] for k in TEACHER_FEATURES]
        manifests = {stem: read_feature_manifest(stem) for stem in stems if feature_manifest_path(stem).exists()}
        weights = {manifest.weights_fingerprint: (stem, manifest.model) for stem, manifest in manifests.items()}
        if len(weights) > 1:
            (first, teacher), (other, another), *_ = weights.values()
            message = f"computed by another teacher ({another}) than {first.name} ({teacher}); delete and extract again"
            raise DataError(message, array_path(other))
        transforms = {manifest.transform: stem for stem, manifest in manifests.items() if stem.name.endswith(".image")}
        if len(transforms) > 1:
            (one, first), (two, second), *_ = transforms.items()
            message = f"pictures were cut by {two or 'the teacher'}, in {first.name} by {one or 'the teacher'}"
            raise DataError(f"{message}; delete and extract again", array_path(second))

    def has_features(self, split: str, kind: str) -> bool:
        return feature_manifest_path(self.feature_stem(split, kind)).exists()


def _whole(split: str) -> str:
    """The split that one of a data set is part of."""
    return split.partition(OF_DATA_SET)[0]


def _read_manifest(path: Path) -> Dict[str, Any]:
    """``corpus.json``, every value of the type and in the range that it must have. Names of languages and splits become
    names of files: what could name any other file is refused.

    Raises:
        DataError: it is not so.
    """
    manifest = read_json(path, Dict[str, Any], _AGAIN, "no corpus here; make one with mlvl-prepare")
    if manifest.get("format") != FORMAT:
        message = f"format {manifest.get('format')!r} is not {FORMAT}: another version has written it"
        raise DataError(f"{message}; use that one, or make the corpus anew, in another folder, with mlvl-prepare", path)
    typed = checked(manifest, CorpusManifest, path, advice=_AGAIN)
    language_code(typed.source_lang, path, "source_lang")
    for split, counts in typed.splits.items():
        if split not in SPLITS:
            raise DataError(f"{split!r} is none of the splits {', '.join(SPLITS)}", path, field="splits")
        for lang in counts.captions:
            language_code(lang, path, f"splits.{split}.captions")
    return {**manifest, "image_root": typed.image_root}


def read_lines(path: Path) -> List[str]:
    """Lines of a UTF-8 text file without their ends.

    Raises:
        DataError: the file is absent or not UTF-8.
    """
    with open_file(path, "run mlvl-prepare again") as file:
        if b"\0" in file.peek(1):  # before all of it is read: what is all zeros may be of any size
            raise DataError(f"holds NUL bytes; {_AGAIN}", path, 1)
        content = file.read()
    try:
        return content.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", path) from None


def _state(path: Path) -> Optional[Tuple[int, ...]]:
    """What changes when a file is written or replaced; None: it is not there."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
