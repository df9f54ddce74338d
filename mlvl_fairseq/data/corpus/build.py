"""Caption files to the text half of a corpus folder: captions, image lists, rows."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.data.archives import is_picture
from mlvl_fairseq.data.captions import CaptionTable, Problems, english_rows, unique_texts, unmatched_english
from mlvl_fairseq.data.captions.table import ONE_LANGUAGE
from mlvl_fairseq.data.corpus.corpus import FORMAT, MANIFEST, Corpus
from mlvl_fairseq.data.corpus.extension import refuse_other_content, refuse_other_settings
from mlvl_fairseq.data.corpus.vocabularies import english_counts_path
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import atomic_path, write_json, write_text
from mlvl_fairseq.process.locks import locked

logger = logging.getLogger(__name__)

Tables = Dict[str, CaptionTable]  # by language
DEFAULTS = {"source_lang": "en", "bpe_size": 10_000, "image_root": None}


def build_corpus(
    folder,
    splits: Dict[str, Tables],
    source_lang: Optional[str] = None,
    bpe_size: Optional[int] = None,
    image_root: Optional[str] = None,
    allow_outside_root: bool = False,
    drop_unpaired: bool = False,
) -> Corpus:
    """Write captions, image lists and rows of every split, and the manifest; or add languages to what is there.

    Args:
        folder: the corpus folder; made if it is not there.
        splits: caption tables by split and language. The source language, where a split has it, gives the English
            rows; triplets bring their English sentences along. To add languages, give those that are there, too.
        source_lang: the teacher's language. bpe_size: largest BPE vocabulary of a language. image_root: folder of the
            image names, for what reads images later. None: as it is there, else ``en``, 10,000, and not known.
        allow_outside_root: whether image names may leave it.
        drop_unpaired: leave training captions without an English partner out.

    Raises:
        UserError: the folder holds a corpus of other captions or settings, an image is not under `image_root`, or what
            is to be a language's code is none.
        DataError: by the tables' policies for problems: captions have no English partner.
    """
    folder = Path(folder)
    for tables in splits.values():
        for lang in tables:
            language_code(lang)
    language_code(source_lang or DEFAULTS["source_lang"])
    there = Corpus(folder) if (folder / MANIFEST).exists() else None
    held = there.manifest if there else DEFAULTS
    settings = {
        "source_lang": held["source_lang"] if source_lang is None else source_lang,
        "bpe_size": held["bpe_size"] if bpe_size is None else bpe_size,
    }
    if there:
        refuse_other_settings(there, settings, splits)
    parts = {
        split: _build_split(there, split, tables, settings["source_lang"], drop_unpaired and split == "train")
        for split, tables in splits.items()
    }
    root = held["image_root"]
    if image_root:
        first_images = {split: next(iter(part.images)) for split, part in parts.items()}
        root = checked_image_root(image_root, first_images, allow_outside_root)
    summaries = {split: part.summary() for split, part in parts.items()}
    _write(folder, parts, {"format": FORMAT, **settings, "image_root": root, "splits": summaries})
    if there:
        _tell_what_was_added(there, summaries)
    return Corpus(folder)


def checked_image_root(image_root, first_images: Dict[str, str], allow_outside: bool = False) -> str:
    """The absolute path of a folder of images.

    Args:
        image_root: the folder.
        first_images: an image name of each split, which must be in it.
        allow_outside: whether they may lead out of it.

    Raises:
        UserError: one is not there. DataError: one leads out.
    """
    root = Path(image_root).resolve()
    for split, name in first_images.items():
        if not is_picture(ImageFolder(root, allow_outside).path(name)):
            raise UserError(
                f"--image-root {image_root}: there is no {root / name}, the first image of the {split} split; give the "
                "folder that image names start from (--check-images leaves out captions of missing images)"
            )
    return str(root)


def set_image_root(corpus: Corpus, image_root, allow_outside: bool = False) -> Corpus:
    """Let a corpus look for its images elsewhere.

    Raises:
        UserError: its images are not there.
    """
    first_images = {split: corpus.images(split)[0] for split in corpus.manifest["splits"]}
    root = checked_image_root(image_root, first_images, allow_outside)
    with locked(corpus.folder):
        write_json(corpus.folder / MANIFEST, {**Corpus(corpus.folder).manifest, "image_root": root})
    return Corpus(corpus.folder)


def _build_split(
    there: Optional[Corpus], split: str, tables: Tables, source_lang: str, drop_unpaired: bool
) -> "_SplitBuilder":
    """Languages that the corpus has come first, so that what is new is numbered behind."""
    held = there.languages(split) if there else list(tables)
    part = _SplitBuilder(source_lang, drop_unpaired)
    if there:
        tables = {lang: _as_spelled_there(table, there, split) for lang, table in tables.items()}
    part.add({lang: tables[lang] for lang in held})
    if there:
        lists = {"images": list(part.images), "English sentences": [_one_line(text) for text in part.english]}
        refuse_other_content(there, split, part.digest(), part.captions, part.rows, lists)
    part.add({lang: table for lang, table in tables.items() if lang not in held})
    part.note_single_languages(tables)
    return part


def _as_spelled_there(table: CaptionTable, there: Corpus, split: str) -> CaptionTable:
    """Earlier versions kept names as files spelled them; a corpus of theirs goes on with its spellings."""
    spelled = {image_name(name, there.manifest["image_root"]): name for name in there.images(split)}
    return replace(table, images=[spelled.get(name, name) for name in table.images])


def _write(folder: Path, parts: Dict[str, "_SplitBuilder"], manifest: dict) -> None:
    paths = Corpus.__new__(Corpus)  # only its paths: there may be no manifest to read yet
    paths.folder = folder
    for sub in ("images", "captions", "features", "bpe", "bin"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if "train" in parts and not _holds(paths.english_path("train"), parts["train"].english_text):
            english_counts_path(paths).unlink(missing_ok=True)  # counted again when asked for
        for split, part in parts.items():
            part.write(paths, split)
        write_json(folder / MANIFEST, manifest)  # last: its presence says the corpus is complete


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() == text.encode("utf-8")


def _tell_what_was_added(there: Corpus, summaries: Dict[str, dict]) -> None:
    for split, summary in summaries.items():
        before = there.manifest["splits"][split]
        languages = [lang for lang in summary["captions"] if lang not in before["captions"]]
        more = {kind: summary[kind] - before[kind] for kind in ("images", "english")}
        if languages:
            logger.info(
                "%s: added %s, with %d more images and %d more English sentences%s",
                split,
                ", ".join(languages),
                more["images"],
                more["english"],
                "; run mlvl-prepare --teacher again for their features" if any(more.values()) else "",
            )


class _SplitBuilder:
    """One split: images and English sentences numbered across all its languages."""

    def __init__(self, source_lang: str, drop_unpaired: bool = False):
        self.source_lang, self.drop_unpaired = source_lang, drop_unpaired
        self.captions: Dict[str, List[str]] = {}
        self.rows: Dict[str, np.ndarray] = {}
        self.problems: Dict[str, Dict[str, int]] = {}
        self.images: Dict[str, int] = {}
        self.english: List[str] = []
        self.source: Optional[CaptionTable] = None
        self.source_rows: Optional[np.ndarray] = None

    def add(self, tables: Tables) -> None:
        """Add languages; the source language among them is numbered first."""
        if self.source_lang in tables:
            self.source = tables[self.source_lang]
            for name in self.source.images:
                self.images.setdefault(name, len(self.images))
            sentences, numbers = unique_texts(self.source.captions)
            self.source_rows = self._number_english(sentences)[numbers]
        for lang, table in tables.items():
            self._add(lang, table, self.source)

    def _add(self, lang: str, table: CaptionTable, source: Optional[CaptionTable]) -> None:
        problems = table.problems.later()
        english = self.source_rows if table is source else self._english_rows(table, source, problems)
        if self.drop_unpaired and (english < 0).any():
            if (english < 0).all():
                raise DataError(
                    f"none of its captions has a partner in '{self.source_lang}'; check the names", table.path
                )
            table, english = table.select(np.flatnonzero(english >= 0)), english[english >= 0]
        if problems:
            logger.warning("%s: %s", table.path, problems.summary())
            table.problems.add(problems)
        image_rows = np.array([self.images.setdefault(name, len(self.images)) for name in table.images], np.int32)
        self.captions[lang] = [_one_line(caption) for caption in table.captions]
        self.rows[lang] = np.stack([image_rows[table.image_rows], english], axis=1).astype(np.int32)
        self.problems[lang] = dict(table.problems.counts)

    def _english_rows(self, table: CaptionTable, source: Optional[CaptionTable], problems: Problems) -> np.ndarray:
        """Row in the English list of each caption; sentences that are not in it yet are appended."""
        rows = np.full(len(table), -1, np.int32)
        if source is not None:
            # English sentences that the source file lacks are appended below: nothing is wrong with them.
            found = english_rows(table, source, Problems() if table.english else problems, self.drop_unpaired)
            rows = np.where(found >= 0, self.source_rows[found], -1)
        sentences, extra = unmatched_english(table, rows)
        numbers = self._number_english(sentences)
        return np.where(extra >= 0, numbers[extra] if len(numbers) else -1, rows)

    def _number_english(self, sentences: List[str]) -> np.ndarray:
        """int32: the row in the English list of each sentence; those that are not in it yet are appended."""
        known = {sentence: row for row, sentence in enumerate(self.english)} if sentences else {}
        numbers = np.array([known.setdefault(sentence, len(known)) for sentence in sentences], np.int32)
        self.english += list(known)[len(self.english) :]
        return numbers

    def note_single_languages(self, tables: Tables) -> None:
        """Count the images that one language alone has captions of, where there are several languages. Captions that
        lack a partner for that are counted already.
        """
        held = {lang: np.unique(rows[:, 0]) for lang, rows in self.rows.items()}
        languages = np.bincount(np.concatenate(list(held.values())), minlength=len(self.images))
        names = list(self.images)
        for lang in held if len(held) > 1 else ():
            paired = np.unique(self.rows[lang][self.rows[lang][:, 1] >= 0, 0])
            alone, problems = paired[languages[paired] == 1], Problems()
            for row in alone:
                problems.note(ONE_LANGUAGE, f"'{names[row]}' has captions in '{lang}' only", tables[lang].path)
            if problems:
                logger.warning("%s: %s", tables[lang].path, problems.summary())

    def summary(self) -> dict:
        return {
            "images": len(self.images),
            "english": len(self.english),
            "captions": {lang: len(captions) for lang, captions in self.captions.items()},
            "problems": self.problems,
            "sha256": self.digest(),
        }

    def digest(self) -> str:
        """Of everything that :meth:`write` writes so far: two corpora of as many captions need not be the same."""
        digest = hashlib.sha256()
        for texts in (self.images, self.english, *self.captions.values()):
            digest.update(_lines(texts).encode() + b"\0")
        for rows in self.rows.values():
            digest.update(rows.tobytes())
        return digest.hexdigest()

    @property
    def english_text(self) -> str:
        return _lines(map(_one_line, self.english))

    def write(self, corpus: Corpus, split: str) -> None:
        write_text(corpus.images_path(split), _lines(self.images))
        write_text(corpus.english_path(split), self.english_text)
        for lang, captions in self.captions.items():
            write_text(corpus.captions_path(split, lang), _lines(captions))
            with atomic_path(corpus.rows_path(split, lang)) as path, open(path, "wb") as file:
                np.save(file, self.rows[lang])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _lines(texts) -> str:
    return "".join(f"{text}\n" for text in texts)
