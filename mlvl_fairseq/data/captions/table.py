"""Captions in columns, what was wrong with them, and the builder that readers fill.

What is wrong is counted, shown by example, and never silently dropped.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Iterable, Mapping, Optional

import numpy as np

from mlvl_fairseq.data.captions.cells import no_caption
from mlvl_fairseq.data.image_names import image_name, refuse_outside
from mlvl_fairseq.errors import DataError, UserError

BAD_ENCODING = "bad encoding"
CONTROL_CHARACTERS = "control characters"
DAMAGED_LINE = "damaged line"
DUPLICATE = "duplicate"
EMPTY_CAPTION = "empty caption"
IMAGE_ID_CONFLICT = "image id conflict"
MISSING_FEATURE = "image without feature"
MISSING_FIELD = "missing field"
MISSING_IMAGE = "missing image"
NO_CAPTION = "image without caption"
NO_IMAGE = "caption without image"
ONE_LANGUAGE = "image in one language only"
REPEATED_ID = "repeated id"
RESPELLED = "image name in two spellings"
UNKNOWN_ENGLISH = "unknown English sentence"
UNPAIRED = "unpaired caption"
WRONG_COLUMN = "wrong column"
WRONG_COLUMN_COUNT = "wrong column count"
WRONG_TYPE = "wrong type"

POLICIES = ("skip", "error")


class Problems:
    """Counts of what was wrong, by kind, with the first few examples of each.

    A *skip* leaves a caption out because it cannot be used; ``on_problem`` decides whether that is an error. A *note*
    is worth knowing (a duplicate, say) but never stops anything.

    Args:
        on_problem: ``"skip"`` counts an unusable caption and goes on; ``"error"`` raises at the first one.
        max_problems: with ``"skip"``, the number of unusable captions above which reading stops with an error.
        max_examples: examples kept of each kind.
        things: what a file holds, in messages.

    Attributes:
        counts: ``{kind: number}`` of everything that was skipped or noted.
        examples: ``{kind: ["file:line field 'x': why", ...]}``.
        left_out: number of captions that are not in the table for any of these reasons.
    """

    def __init__(
        self,
        on_problem: str = "skip",
        max_problems: Optional[int] = None,
        max_examples: int = 3,
        things: str = "captions",
    ):
        if on_problem not in POLICIES:
            raise UserError(f"on_problem is '{on_problem}'; choose one of {', '.join(POLICIES)}")
        self.on_problem, self.max_problems, self.max_examples = on_problem, max_problems, max_examples
        self.things = things
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.left_out = 0
        self._skips = self._earlier_skips = 0

    def __bool__(self) -> bool:
        return bool(self.counts)

    def note(
        self, kind: str, why: str, path, line: Optional[int] = None, field: Optional[str] = None, left_out: int = 0
    ) -> None:
        """Count one problem that stops nothing; ``left_out`` captions are left out because of it."""
        self.counts[kind] += 1
        self.left_out += left_out
        examples = self.examples.setdefault(kind, [])
        if len(examples) < self.max_examples:
            examples.append(str(DataError(why, path, line, field)))

    def skip(
        self,
        kind: str,
        why: str,
        path,
        line: Optional[int] = None,
        field: Optional[str] = None,
        captions: int = 1,
        kept: bool = False,
    ) -> None:
        """Count one problem that makes ``captions`` captions unusable; an image without any counts as one. ``kept``:
        they are unusable for some purposes only, and stay.

        Raises:
            DataError: the policy is ``"error"``, or more than ``max_problems`` captions were skipped.
        """
        self.note(kind, why, path, line, field, left_out=0 if kept else captions)
        self._skips += max(captions, 1)
        if self.on_problem == "error":
            how = f"to {'count' if kept else 'count and leave out'} such {self.things}"
            raise DataError(f"{why}; mend it, or choose --on-problem skip {how}", path, line, field)
        if self.max_problems is not None and self._skips > self.max_problems:
            limit = f"more than {self.max_problems:,} unusable {self._things(self.max_problems)} ({self.brief()})"
            raise DataError(f"{why}; {limit}: mend the file, or raise --max-problems", path, line, field)

    def later(self) -> "Problems":
        """For what is found after reading: the same policy, and what was skipped so far counts for its limit."""
        problems = Problems(self.on_problem, self.max_problems, self.max_examples, self.things)
        problems._skips = problems._earlier_skips = self._skips
        return problems

    def add(self, later: "Problems") -> None:
        """Take over what :meth:`later` has counted since."""
        self.counts.update(later.counts)
        self.left_out += later.left_out
        self._skips = later._skips

    def brief(self) -> str:
        """The counts in one line: ``3 empty caption, 1 wrong type``."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.counts.most_common()) or "no problems"

    def _things(self, number: int) -> str:
        """``captions`` or, of one, ``caption``; ``pairs of sentences`` or ``pair of sentences``."""
        return re.sub(r"s\b", "", self.things, count=1) if number == 1 else self.things

    def summary(self) -> str:
        """The counts with their examples, one line each."""
        left_out = f"; {self.left_out:,} {self._things(self.left_out)} left out" if self else ""
        lines = [self.brief() + left_out]
        if self._skips > self._earlier_skips:
            lines[0] += " (--on-problem error stops at the first one)"
        for kind, count in self.counts.most_common():
            lines += [f"  {kind}: {example}" for example in self.examples[kind]]
            if count > len(self.examples[kind]):
                lines.append(f"  {kind}: ... and {count - len(self.examples[kind]):,} more")
        return "\n".join(lines)


# C0 and C1 controls, DEL and Unicode's own line ends: each would break a file of one caption a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte that was not UTF-8, or half of a \\u escape pair in JSON


@dataclass(frozen=True)
class CaptionTable:
    """Captions of one file in one language; n captions of m images.

    Attributes:
        path: the file they were read from.
        images: m image names (:func:`~mlvl_fairseq.data.image_names.image_name`), unique, in order of first appearance.
        image_rows: int32 ``[n]``, row of each caption's image in ``images``.
        captions: n captions.
        english: n English source sentences, or None where the file has none.
        lines: int32 ``[n]``, 1-based line (text files) or row (JSON lists) of each caption.
        unit: what ``lines`` counts, ``"line"`` or ``"row"``.
        problems: what was wrong in the file.
    """

    path: str
    images: list[str]
    image_rows: np.ndarray
    captions: list[str]
    english: Optional[list[str]]
    lines: np.ndarray
    unit: str
    problems: Problems

    def __len__(self) -> int:
        return len(self.captions)

    def select(self, rows: np.ndarray) -> "CaptionTable":
        """The captions at ``rows`` (int ``[k]``, ascending) with only the images they use, renumbered."""
        used, first, image_rows = np.unique(self.image_rows[rows], return_index=True, return_inverse=True)
        rank = np.empty(len(used), np.int32)
        rank[np.argsort(first)] = np.arange(len(used), dtype=np.int32)
        return replace(
            self,
            images=[self.images[row] for row in used[np.argsort(first)]],
            image_rows=rank[image_rows],
            captions=[self.captions[row] for row in rows],
            english=None if self.english is None else [self.english[row] for row in rows],
            lines=self.lines[rows],
        )


def unique_texts(texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Number texts by first appearance.

    Returns:
        the distinct texts in order of first appearance, and int32 ``[n]``: the number of each text.
    """
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int32)
    return list(numbers), rows


class TableBuilder:
    """Collects a reader's captions; cleans and checks each one.

    Args:
        path: the caption file, as shown in messages.
        problems: where unusable captions are counted.
        unit: what the reader's line numbers count, ``"line"`` or ``"row"`` (of a JSON list).
        field_paths: ``{field: file}`` for fields that come from another file than ``path``.
        image_root: folder that image names start from; None: not known.
        allow_outside_root: whether they may leave it.
    """

    def __init__(
        self,
        path,
        problems: Problems,
        unit: str = "line",
        field_paths: Optional[Mapping[str, str]] = None,
        image_root: Optional[str] = None,
        allow_outside_root: bool = False,
    ):
        self.path, self.problems, self.unit = str(path), problems, unit
        self.field_paths = field_paths or {}
        self.image_root, self.allow_outside_root = image_root, allow_outside_root
        self.image_rows_by_name: dict[str, int] = {}
        self._rows_by_spelling: dict[str, int] = {}
        self._spellings: list[str] = []  # the first of each image
        self.image_rows: list[int] = []
        self.captions: list[str] = []
        self.english: list[str] = []
        self.lines: list[int] = []
        self.other_languages: Counter[str] = Counter()  # rows of a file that holds several, by language

    def add(self, line: int, image: str, caption: str, english: Optional[str] = None) -> None:
        """Add a caption, or count why it cannot be used. A file gives ``english`` for all its captions or for none.

        Raises:
            DataError: the image is outside the image root; or by the policy for problems.
        """
        caption = self._clean(caption, line, "caption")
        if caption is None:
            return
        other = no_caption(caption)
        if other:
            self.skip(WRONG_COLUMN, f"{shown(caption)} {other}", line, "caption")
            return
        if english is not None:
            english = self._clean(english, line, "english")
            if english is None:
                return
        row = self._image_row(image, line)
        if row is None:
            return
        self.image_rows.append(row)
        self.captions.append(caption)
        self.lines.append(line)
        if english is not None:
            self.english.append(english)

    def skip(self, kind: str, why: str, line: int, field: Optional[str] = None, captions: int = 1) -> None:
        """Count a caption or row that cannot be used; see :meth:`Problems.skip`."""
        path = self.field_paths.get(field, self.path)
        self.problems.skip(kind, why + self._row(line), path, line, field, captions)

    def note(self, kind: str, why: str, line: int, field: Optional[str] = None) -> None:
        """Count something worth knowing; see :meth:`Problems.note`."""
        self.problems.note(kind, why + self._row(line), self.field_paths.get(field, self.path), line, field)

    def table(self) -> CaptionTable:
        """The collected table.

        Raises:
            DataError: not one usable caption was found.
        """
        if not self.captions and self.other_languages and not self.problems:
            raise DataError(f"has no captions in this language, but in {', '.join(self.other_languages)}", self.path)
        if not self.captions:
            first = next(iter(self.problems.examples.values()), [""])[0]
            reason = f"no usable caption: {self.problems.brief()}; first: {first}" if first else "holds no caption"
            raise DataError(reason, self.path)
        return CaptionTable(
            path=self.path,
            images=list(self.image_rows_by_name),
            image_rows=np.array(self.image_rows, np.int32),
            captions=self.captions,
            english=self.english or None,
            lines=np.array(self.lines, np.int32),
            unit=self.unit,
            problems=self.problems,
        )

    def _row(self, line: int) -> str:
        return f" (row {line})" if self.unit == "row" else ""

    def _clean(self, text: str, line: int, field: str) -> Optional[str]:
        """Strip a caption; blank out control characters; None if nothing usable is there."""
        text = text.strip()
        if not text:
            self.skip(EMPTY_CAPTION, "is empty", line, field)
            return None
        if text.isprintable():  # fast and true of most captions; false does not yet mean that something is wrong
            return text
        if _SURROGATE.search(text):
            self.skip(BAD_ENCODING, f"{shown(text)} is not valid UTF-8", line, field)
            return None
        cleaned = _CONTROL.sub(" ", text)
        if cleaned != text:
            self.note(CONTROL_CHARACTERS, f"{shown(text)}: control characters became spaces", line, field)
        return cleaned

    def _image_row(self, image: str, line: int) -> Optional[int]:
        """Row of an image by name; a new name is checked and appended. None if the name is unusable."""
        row = self._rows_by_spelling.get(image)
        if row is not None:
            return row
        spelling = image.strip()
        if not spelling:
            self.skip(MISSING_FIELD, "has no image name", line, "image")
        elif _SURROGATE.search(spelling):
            self.skip(BAD_ENCODING, f"{shown(spelling)} is not valid UTF-8", line, "image")
        elif _CONTROL.search(spelling):
            self.skip(CONTROL_CHARACTERS, f"{shown(spelling)} holds control characters", line, "image")
        elif not (name := image_name(spelling, self.image_root)):
            self.skip(MISSING_FIELD, f"{shown(spelling)} names no image", line, "image")
        else:
            self._rows_by_spelling[image] = row = self._row_of(name, spelling, line)
        return row

    def _row_of(self, name: str, spelling: str, line: int) -> int:
        if self.image_root is not None and not self.allow_outside_root:
            refuse_outside(name, self.image_root, self.field_paths.get("image", self.path), line, "image")
        row = self.image_rows_by_name.setdefault(name, len(self.image_rows_by_name))
        if row == len(self._spellings):
            self._spellings.append(spelling)
        elif spelling != self._spellings[row]:
            why = f"{shown(spelling)} and {shown(self._spellings[row])} are one image"
            self.note(RESPELLED, why, line, "image")
        return row


def shown(text: str, width: int = 60) -> str:
    """A text as it can stand in a one-line message: escaped and not too long."""
    return repr(text if len(text) <= width else text[:width] + "...")
