"""What an example is, what a format of examples is, and the builder that readers fill. A format is one file in
``readers/``."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from mlvl_fairseq.data.captions.json_rows import type_name
from mlvl_fairseq.data.captions.table import BAD_ENCODING, MISSING_FIELD, WRONG_TYPE, Problems, shown
from mlvl_fairseq.registry import registering

EMPTY_TEXT = "empty text"
NO_ANSWER = "no answer"
NO_GOLD_LABEL = "no gold label"
UNKNOWN_LABEL = "unknown label"
NO_AGREEMENT = "-"  # the label where annotators did not agree (SNLI)

ImageFields = Mapping[str, str]  # what a template of image names may use


@dataclass(frozen=True, slots=True)
class Example:
    """A text about images.

    Attributes:
        id: as the file has it; where it has none, the number of the line.
        images: names below the image root, in the order in which the text means them.
        text: as it stands in the file.
        label: None, where there is none: annotators did not agree, or it is a question.
        answers: to a question, with the score of each.
        lang: of the text, where it is known.
        line: where it stands in the file, from 1; the row of a list, or of a dictionary.
    """

    id: str
    images: Tuple[str, ...]
    text: str
    label: Optional[str] = None
    answers: Mapping[str, float] = field(default_factory=dict)
    lang: Optional[str] = None
    line: int = 0

    @property
    def answer(self) -> Optional[str]:
        """The best of its answers, the first of these that are equally good; None: it has none."""
        return max(self.answers, key=lambda answer: self.answers[answer], default=None)


@dataclass(frozen=True)
class Examples:
    """Those of a file.

    Attributes:
        path, format: the file, and the name of its format.
        examples: in the file's order.
        classes: the labels there are, in the order of their numbers; none: it holds questions.
        images_per_text: how many images each example has.
        problems: what was wrong in the file.
    """

    path: str
    format: str
    examples: List[Example]
    classes: Tuple[str, ...]
    images_per_text: int
    problems: Problems

    def __len__(self) -> int:
        return len(self.examples)


class ExampleReader(ABC):
    """Reads one format of examples. Formats are told apart by content: one ``sniff`` may be true of a file.

    Attributes:
        name: `register_example_reader` sets it.
        classes: the labels there are, in the order of their numbers; none: it holds questions and answers.
        images_per_text: how many images an example has.
        layouts: templates of image names below the image root, the published one first; ``{image}``: as the file has
            it; ``{name}``: without folders; ``{below}``: without ``images/`` in front; others as the reader gives them.
    """

    name: ClassVar[str]
    classes: ClassVar[Tuple[str, ...]] = ()
    images_per_text: ClassVar[int] = 1
    layouts: ClassVar[Tuple[str, ...]]

    @abstractmethod
    def sniff(self, head: str) -> bool:
        """Is a file that starts with ``head`` (its first 65,536 characters at most) of this format?"""

    @abstractmethod
    def read(self, path: str, rows: "ExampleBuilder") -> None:
        """Add every example of a file to ``rows``.

        Raises:
            DataError: the file as a whole cannot be read, or by the policy for problems.
        """


EXAMPLE_READERS: Dict[str, ExampleReader] = {}


def register_example_reader(name: str) -> Callable[[Type[ExampleReader]], Type[ExampleReader]]:
    """Class decorator: make an :class:`ExampleReader` available as ``format=name``."""
    return registering(EXAMPLE_READERS, "a format of examples", name, instance=True, name=name)


@dataclass(frozen=True, slots=True)
class Draft:
    """An example whose images are not yet named.

    Attributes:
        example: without images. images: what each one's name is made of.
    """

    example: Example
    images: Tuple[ImageFields, ...]


class ExampleBuilder:
    """Collects a reader's examples; checks each one.

    Args:
        path: the file, as shown in messages.
        classes: the labels there are; none: it holds questions.
        problems: where unusable examples are counted.
        keep_unlabelled: whether examples stay that have no label, or no answer.
        lang: of the texts, where it is known.
    """

    def __init__(
        self,
        path: str,
        classes: Sequence[str],
        problems: Problems,
        keep_unlabelled: bool = False,
        lang: Optional[str] = None,
    ):
        self.path, self.classes, self.problems, self.lang = path, frozenset(classes), problems, lang
        self.keep_unlabelled = keep_unlabelled
        self.drafts: List[Draft] = []

    def add(
        self,
        line: int,
        images: Sequence[ImageFields],
        text: str,
        field: str,
        label: Optional[str] = None,
        answers: Optional[Mapping[str, float]] = None,
        id: Any = None,
        lang: Optional[str] = None,
    ) -> None:
        """Add an example, or count why it cannot be used.

        Args:
            line: where it stands. images: of each image what its name is made of. text, label, answers: of it.
            field: that the text is from. id: None: the line. lang: of the text, where the file says it.

        Raises:
            DataError: by the policy for problems.
        """
        if not text.strip():
            self.skip(EMPTY_TEXT, "is empty", line, field)
            return
        if not _is_unicode(text):
            self.skip(BAD_ENCODING, f"{shown(text)} is not valid UTF-8", line, field)
            return
        answers = dict(answers or {})
        if label is not None and label != NO_AGREEMENT and label not in self.classes:
            known = ", ".join(sorted(self.classes))
            self.skip(UNKNOWN_LABEL, f"{shown(label)} is no label; there are {known}", line, "label")
            return
        label = None if label == NO_AGREEMENT else label
        if (label is None) if self.classes else not answers:
            why = f"its label is '{NO_AGREEMENT}'" if self.classes else "is a question without an answer"
            kind = NO_GOLD_LABEL if self.classes else NO_ANSWER
            self.problems.note(kind, why, self.path, line, left_out=0 if self.keep_unlabelled else 1)
            if not self.keep_unlabelled:
                return
        name, lang = str(line if id is None else id), self.lang or lang
        self.drafts.append(Draft(Example(name, (), text, label, answers, lang, line), tuple(images)))

    def skip(self, kind: str, why: str, line: int, field: Optional[str] = None) -> None:
        """Count an example that cannot be used; see :meth:`Problems.skip`."""
        self.problems.skip(kind, why, self.path, line, field)

    def fields(self, row: Any, line: int, **wanted: type) -> Optional[Dict[str, Any]]:
        """Fields of a row that is to be an object; None: it is not, or lacks one, or one is of another type, which is
        counted.

        Args:
            wanted: field -> its type; `str` takes numbers, too, which some files have for names of images.
        """
        if not isinstance(row, dict):
            self.skip(WRONG_TYPE, f"expected an object, found {type_name(row)}", line)
            return None
        found = {}
        for name, kind in wanted.items():
            value = row.get(name)
            if value is None:
                self.skip(MISSING_FIELD, "is missing", line, name)
                return None
            if kind is str and isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, kind):
                names = {str: "a string", dict: "an object", list: "a list", object: "anything"}
                self.skip(WRONG_TYPE, f"expected {names[kind]}, found {type_name(value)}", line, name)
                return None
            found[name] = value
        return found


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that was not UTF-8, or half of a \\u escape pair in JSON
        return False
    return True
