"""Caption files to the text half of a corpus folder: captions, image lists, rows."""

import hashlib
import logging
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from mlvl_fairseq.data.atomic_files import atomic_path, write_json, write_text
from mlvl_fairseq.data.captions import CaptionTable, Problems, english_rows, unique_texts, unmatched_english
from mlvl_fairseq.data.corpus.corpus import FORMAT, Corpus
from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)

Tables = Dict[str, CaptionTable]  # by language


def build_corpus(
    folder, splits: Dict[str, Tables], source_lang: str = "en", bpe_size: int = 10_000, image_root: Optional[str] = None
) -> Corpus:
    """Write captions, image lists and rows of every split, and the manifest.

    Args:
        folder: the corpus folder; made if it is not there.
        splits: caption tables by split and language. The source language, where a split has it, gives the English
            rows; triplets bring their English sentences along.
        source_lang: the teacher's language.
        bpe_size: largest BPE vocabulary of a language.
        image_root: folder of the image names, for what reads images later.

    Raises:
        UserError: the folder holds a corpus of other captions or settings.
    """
    folder = Path(folder)
    manifest = {
        "format": FORMAT,
        "source_lang": source_lang,
        "bpe_size": bpe_size,
        "image_root": str(Path(image_root).resolve()) if image_root else None,
        "splits": {},
    }
    parts = {split: _SplitBuilder(tables, source_lang) for split, tables in splits.items()}
    manifest["splits"] = {split: part.summary() for split, part in parts.items()}
    _refuse_other_corpus(folder, manifest)
    paths = Corpus.__new__(Corpus)  # only its paths: there is no manifest to read yet
    paths.folder = folder
    for sub in ("images", "captions", "features", "bpe", "bin"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for split, part in parts.items():
        part.write(paths, split)
    write_json(folder / "corpus.json", manifest)  # last: its presence says the corpus is complete
    return Corpus(folder)


def _refuse_other_corpus(folder: Path, manifest: dict) -> None:
    if (folder / "corpus.json").exists() and Corpus(folder).manifest != manifest:
        raise UserError(
            f"{folder} holds a corpus of other captions or settings, and features and vocabularies that belong to it; "
            "choose another folder or remove this one"
        )


class _SplitBuilder:
    """One split: images and English sentences numbered across all its languages."""

    def __init__(self, tables: Tables, source_lang: str):
        self.captions: Dict[str, List[str]] = {}
        self.rows: Dict[str, np.ndarray] = {}
        self.problems: Dict[str, Dict[str, int]] = {}
        source = tables.get(source_lang)
        self.images = {name: row for row, name in enumerate(source.images if source else [])}
        self.english, self.source_rows = unique_texts(source.captions) if source else ([], None)
        for lang, table in tables.items():
            self._add(lang, table, source)

    def _add(self, lang: str, table: CaptionTable, source: Optional[CaptionTable]) -> None:
        image_rows = np.array([self.images.setdefault(name, len(self.images)) for name in table.images], np.int32)
        english = self.source_rows if table is source else self._english_rows(table, source)
        self.captions[lang] = [" ".join(caption.split()) for caption in table.captions]
        self.rows[lang] = np.stack([image_rows[table.image_rows], english], axis=1).astype(np.int32)
        self.problems[lang] = dict(table.problems.counts)
        if table.problems:
            logger.warning("%s: %s", table.path, table.problems.summary())

    def _english_rows(self, table: CaptionTable, source: Optional[CaptionTable]) -> np.ndarray:
        """Row in the English list of each caption; sentences that are not in it yet are appended."""
        rows = np.full(len(table), -1, np.int32)
        if source is not None:
            # English sentences that the source file lacks are appended below: nothing is wrong with them.
            found = english_rows(table, source, problems=Problems() if table.english else None)
            rows = np.where(found >= 0, self.source_rows[found], -1)
        sentences, extra = unmatched_english(table, rows)
        known = {sentence: row for row, sentence in enumerate(self.english)} if sentences else {}
        numbers = np.array([known.setdefault(sentence, len(known)) for sentence in sentences], np.int32)
        self.english += list(known)[len(self.english) :]
        return np.where(extra >= 0, numbers[extra] if len(numbers) else -1, rows)

    def summary(self) -> dict:
        return {
            "images": len(self.images),
            "english": len(self.english),
            "captions": {lang: len(captions) for lang, captions in self.captions.items()},
            "problems": self.problems,
            "sha256": self._digest(),
        }

    def _digest(self) -> str:
        """Of everything that :meth:`write` writes: two corpora of as many captions need not be the same."""
        digest = hashlib.sha256()
        for texts in (self.images, self.english, *self.captions.values()):
            digest.update(_lines(texts).encode() + b"\0")
        for rows in self.rows.values():
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def write(self, corpus: Corpus, split: str) -> None:
        write_text(corpus.images_path(split), _lines(self.images))
        write_text(corpus.english_path(split), _lines(" ".join(sentence.split()) for sentence in self.english))
        for lang, captions in self.captions.items():
            write_text(corpus.captions_path(split, lang), _lines(captions))
            with atomic_path(corpus.rows_path(split, lang)) as path, open(path, "wb") as file:
                np.save(file, self.rows[lang])


def _lines(texts) -> str:
    return "".join(f"{text}\n" for text in texts)
