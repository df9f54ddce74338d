"""One split of a corpus while it is made: each language is read in a process of its own and written into a folder
beside its place, so that a corpus changes only when all of them are there.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Dict, List, Mapping, Optional, Tuple

import numpy as np
from msgspec import Meta

from mlvl_fairseq.data.captions import CaptionTable, Problems, english_rows, unique_texts, unmatched_english
from mlvl_fairseq.data.captions.table import ONE_LANGUAGE
from mlvl_fairseq.data.corpus.corpus import Corpus, read_lines
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json, write_text
from mlvl_fairseq.json_files import read_json
from mlvl_fairseq.process.parallel import in_processes

logger = logging.getLogger(__name__)
Row = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _Read:
    """What is known of one language's captions when its file has been read; the captions are in a file.

    Attributes:
        path: of the caption file. images: names. image_rows: int32 [n], each caption's row among them.
        english: int32 [n], row in the English list so far, or -1.
        sentences: that are not in that list. extra: int32 [n], row among these, or -1.
        problems: counts by kind.
    """

    path: str
    images: List[str]
    image_rows: np.ndarray
    english: np.ndarray
    sentences: List[str]
    extra: np.ndarray
    problems: Dict[str, int]


class SplitBuilder:
    """Images and English sentences of a split numbered across all its languages, in their order.

    Args:
        split: its name. source_lang: the teacher's language. staged: folder for what is made, until it is in its place.
        drop_unpaired: leave captions without an English partner out. workers: languages that are read at once.

    Attributes:
        images: names -> rows. english: sentences as files have them.
    """

    def __init__(self, split: str, source_lang: str, staged: Path, drop_unpaired: bool = False, workers: int = 1):
        self.split, self.source_lang, self.drop_unpaired = split, source_lang, drop_unpaired
        self.images: Dict[str, int] = {}
        self.english: List[str] = []
        self._staged, self._workers = staged, workers
        self._files: Dict[str, Tuple[Path, Path]] = {}  # captions and rows of a language
        self._counts: Dict[str, int] = {}
        self._problems: Dict[str, Dict[str, int]] = {}
        self._pictures: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}  # rows of images; those with English partners
        self._paths: Dict[str, str] = {}
        self._source: Optional[CaptionTable] = None
        self._source_rows: Optional[np.ndarray] = None

    def keep(self, corpus: Corpus) -> None:
        """Begin with all that a corpus has of the split; its caption files are not read again."""
        split = self.split
        self.images = {name: row for row, name in enumerate(corpus.images(split)[: self._known(corpus, "images")])}
        self.english = corpus.english(split)[: self._known(corpus, "english")]
        if _spaced_path(corpus, split).exists():
            for row, text in read_json(_spaced_path(corpus, split), List[Tuple[Row, str]]):
                self.english[row : row + 1] = [text] if row < len(self.english) else []
        for lang in corpus.languages(split):
            rows, path = corpus.rows(split, lang), corpus.captions_path(split, lang)
            self._files[lang] = path, corpus.rows_path(split, lang)
            self._note(lang, rows, dict(corpus.manifest["splits"][split].get("problems", {}).get(lang, {})), str(path))
            if lang == self.source_lang:
                self._source_rows = np.array(rows[:, 1])
                whole = CaptionTable(
                    path=str(path),
                    images=list(self.images),
                    image_rows=np.array(rows[:, 0]),
                    captions=[self.english[row] for row in rows[:, 1]],
                    english=None,
                    lines=np.arange(1, len(rows) + 1, dtype=np.int32),
                    unit="line",
                    problems=Problems(),
                )
                self._source = whole.select(np.arange(len(rows)))  # with the images that it has captions of

    def _known(self, corpus: Corpus, what: str) -> int:
        """Lists are longer than the manifest says where adding languages was interrupted."""
        return corpus.manifest["splits"][self.split][what]

    def add(self, tables: Mapping[str, CaptionTable]) -> None:
        """Add languages; the source language among them is numbered first."""
        if self.source_lang in tables:
            self._source = tables[self.source_lang]
            for name in self._source.images:
                self.images.setdefault(name, len(self.images))
            sentences, numbers = unique_texts(self._source.captions)
            self._source_rows = self._number_english(sentences)[numbers]
        self._staged.mkdir(parents=True, exist_ok=True)
        title = f"read {self.split} captions" if len(tables) > 1 else ""
        read = in_processes(lambda lang: self._read(lang, tables), tables, self._workers, title, len(tables))
        for lang, found in zip(tables, read):
            self._take(lang, found)

    def _read(self, lang: str, tables: Mapping[str, CaptionTable]) -> _Read:
        """Read a language and write its captions. Raises DataError: see :func:`build_corpus`."""
        if lang == self.source_lang:
            table, english, sentences = self._source, self._source_rows, []
            extra = np.full(len(table), -1, np.int32)
        else:
            table = tables[lang]
            problems = table.problems.later()
            english = self._english_rows(table, problems)
            sentences, extra = unmatched_english(table, english)
            paired = (english >= 0) | (extra >= 0)
            if self.drop_unpaired and not paired.all():
                if not paired.any():
                    message = f"none of its captions has a partner in '{self.source_lang}'; check the names"
                    raise DataError(message, table.path)
                table, english, extra = table.select(np.flatnonzero(paired)), english[paired], extra[paired]
            if problems:
                logger.warning("%s: %s", table.path, problems.summary())
                table.problems.add(problems)
        with open(self._place(lang, "txt"), "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{one_line(caption)}\n" for caption in table.captions)
        counts = dict(table.problems.counts)
        return _Read(table.path, table.images, table.image_rows, english, sentences, extra, counts)

    def _english_rows(self, table: CaptionTable, problems: Problems) -> np.ndarray:
        """int32: row in the English list of each caption, -1 where it has no partner there."""
        if self._source is None:
            return np.full(len(table), -1, np.int32)
        # English sentences that the source file lacks are appended later: nothing is wrong with them.
        found = english_rows(table, self._source, Problems() if table.english else problems, self.drop_unpaired)
        return np.where(found >= 0, self._source_rows[found], -1)

    def _take(self, lang: str, read: _Read) -> None:
        """Number what a language brings, behind what there is."""
        image_rows = np.array([self.images.setdefault(name, len(self.images)) for name in read.images], np.int32)
        numbers = self._number_english(read.sentences)
        english = np.where(read.extra >= 0, numbers[read.extra] if len(numbers) else -1, read.english)
        rows = np.stack([image_rows[read.image_rows], english], axis=1).astype(np.int32)
        self._files[lang] = self._place(lang, "txt"), self._place(lang, "rows.npy")
        with open(self._files[lang][1], "wb") as file:
            np.save(file, rows)
        self._note(lang, rows, read.problems, read.path)

    def _note(self, lang: str, rows: np.ndarray, problems: Dict[str, int], path: str) -> None:
        self._counts[lang], self._problems[lang], self._paths[lang] = len(rows), problems, path
        self._pictures[lang] = np.unique(rows[:, 0]), np.unique(rows[rows[:, 1] >= 0, 0])

    def _number_english(self, sentences: List[str]) -> np.ndarray:
        """int32: the row in the English list of each sentence; those that are not in it yet are appended."""
        known = {sentence: row for row, sentence in enumerate(self.english)} if sentences else {}
        numbers = np.array([known.setdefault(sentence, len(known)) for sentence in sentences], np.int32)
        self.english += list(known)[len(self.english) :]
        return numbers

    def note_single_languages(self, given: Mapping[str, CaptionTable]) -> None:
        """Count the images that one language alone has captions of, where there are several languages. Captions that
        lack a partner for that are counted already. `given`: the languages to tell it of.
        """
        languages = np.bincount(np.concatenate([own for own, _ in self._pictures.values()]), minlength=len(self.images))
        names = list(self.images)
        for lang in self._pictures if len(self._pictures) > 1 else ():
            paired, problems = self._pictures[lang][1], Problems()
            for row in paired[languages[paired] == 1] if lang in given else ():
                problems.note(ONE_LANGUAGE, f"'{names[row]}' has captions in '{lang}' only", self._paths[lang])
            if problems:
                logger.warning("%s: %s", self._paths[lang], problems.summary())

    @property
    def languages(self) -> List[str]:
        return list(self._files)

    def captions(self, lang: str) -> List[str]:
        return read_lines(self._files[lang][0])

    def rows(self, lang: str) -> np.ndarray:
        return np.load(self._files[lang][1], mmap_mode="r")

    def summary(self) -> dict:
        return {
            "images": len(self.images),
            "english": len(self.english),
            "captions": self._counts,
            "problems": self._problems,
            "sha256": self.digest(),
        }

    def digest(self) -> str:
        """Of everything that there is so far: two corpora of as many captions need not be the same."""
        digest = hashlib.sha256()
        for texts in (self.images, self.english):
            digest.update(_lines(texts).encode() + b"\0")
        for lang, (captions, _) in self._files.items():
            digest.update(captions.read_bytes() + b"\0")
        for lang in self._files:
            digest.update(np.ascontiguousarray(self.rows(lang)))
        return digest.hexdigest()

    @property
    def english_text(self) -> str:
        return _lines(map(one_line, self.english))

    def write(self, corpus: Corpus) -> None:
        """Put everything into its place."""
        write_text(corpus.images_path(self.split), _lines(self.images))
        write_text(corpus.english_path(self.split), self.english_text)
        spaced = [(row, text) for row, text in enumerate(self.english) if one_line(text) != text]
        if spaced:
            write_json(_spaced_path(corpus, self.split), spaced)
        else:
            _spaced_path(corpus, self.split).unlink(missing_ok=True)
        for lang, files in self._files.items():
            places = corpus.captions_path(self.split, lang), corpus.rows_path(self.split, lang)
            for file, place in zip(files, places):
                if file != place:
                    with open(file, "rb") as made:
                        os.fsync(made.fileno())
                    os.replace(file, place)

    def _place(self, lang: str, ending: str) -> Path:
        return self._staged / f"{self.split}.{lang}.{ending}"


def _spaced_path(corpus: Corpus, split: str) -> Path:
    """English sentences, by their rows, that have more than one space between words, which their list does not show."""
    return corpus.english_path(split).with_suffix(".json")


def one_line(text: str) -> str:
    """A text without line ends, its words separated by one space."""
    return " ".join(text.split())


def _lines(texts) -> str:
    return "".join(f"{text}\n" for text in texts)
