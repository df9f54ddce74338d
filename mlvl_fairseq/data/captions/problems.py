"""What was wrong in a caption file: counted, shown by example, never silently dropped."""

from collections import Counter
from typing import Optional

from mlvl_fairseq.errors import DataError, UserError

BAD_ENCODING = "bad encoding"
CONTROL_CHARACTERS = "control characters"
DUPLICATE = "duplicate"
EMPTY_CAPTION = "empty caption"
IMAGE_ID_CONFLICT = "image id conflict"
MISSING_FIELD = "missing field"
MISSING_IMAGE = "missing image"
NO_CAPTION = "image without caption"
UNKNOWN_ENGLISH = "unknown English sentence"
UNPAIRED = "unpaired caption"
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

    Attributes:
        counts: ``{kind: number}`` of everything that was skipped or noted.
        examples: ``{kind: ["file:line field 'x': why", ...]}``.
        left_out: number of captions that are not in the table for any of these reasons.
    """

    def __init__(self, on_problem: str = "skip", max_problems: Optional[int] = None, max_examples: int = 3):
        if on_problem not in POLICIES:
            raise UserError(f"on_problem is '{on_problem}'; choose one of {', '.join(POLICIES)}")
        self.on_problem, self.max_problems, self.max_examples = on_problem, max_problems, max_examples
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.left_out = 0
        self._skips = 0

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
        self, kind: str, why: str, path, line: Optional[int] = None, field: Optional[str] = None, captions: int = 1
    ) -> None:
        """Count one problem that makes ``captions`` captions unusable.

        Raises:
            DataError: the policy is ``"error"``, or more than ``max_problems`` captions were skipped.
        """
        self.note(kind, why, path, line, field, left_out=captions)
        self._skips += captions
        if self.on_problem == "error":
            raise DataError(f"{why}; mend it, or choose 'skip' to count and leave out such captions", path, line, field)
        if self.max_problems is not None and self._skips > self.max_problems:
            limit = f"more than {self.max_problems:,} unusable captions ({self.brief()})"
            raise DataError(f"{why}; {limit}: mend the file or raise the limit", path, line, field)

    def brief(self) -> str:
        """The counts in one line: ``3 empty caption, 1 wrong type``."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.counts.most_common()) or "no problems"

    def summary(self) -> str:
        """The counts with their examples, one line each."""
        lines = [f"{self.brief()}; {self.left_out:,} captions left out" if self else self.brief()]
        for kind, count in self.counts.most_common():
            lines += [f"  {kind}: {example}" for example in self.examples[kind]]
            if count > len(self.examples[kind]):
                lines.append(f"  {kind}: ... and {count - len(self.examples[kind]):,} more")
        return "\n".join(lines)
