"""What is searched for: words, words that are not wanted, a picture, or one of the index; all of them as one vector.

A vector is the sum of those of what is wanted, less half of that of each thing that is not: "dog -snow" is what is like
"dog" and not like "snow". Scores are cosines with it.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, List, Optional

import numpy as np

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.errors import UserError

if TYPE_CHECKING:
    from mlvl_fairseq.api import Model
    from mlvl_fairseq.data.images.given import Picture
    from mlvl_fairseq.search.folder import Index

UNWANTED = 0.5  # weight of words that are not wanted
MAX_CHARACTERS = 1000
# A dash before a word or before words in quotes, at the beginning or after space; not within a word, nor a lonely one.
_UNWANTED = re.compile(r"(?:^|(?<=\s))-(?:\"([^\"]*)\"|“([^”]*)”|„([^“”]*)[“”]|([^\s\"“„-]\S*))")


@dataclass
class Query:
    """What is searched for.

    Attributes:
        text: words that are wanted. unwanted: words that are not, each by itself. lang: of both.
        picture: as `Model.encode_image` takes it. like: a row of the index, whose picture is not found itself.
    """

    text: str = ""
    unwanted: List[str] = field(default_factory=list)
    lang: Optional[str] = None
    picture: Optional["Picture"] = None
    like: Optional[int] = None

    @classmethod
    def typed(cls, line: str, **others) -> "Query":
        """A line in which a dash stands before what is not wanted: ``dog -snow -"wet street"``.

        Raises:
            UserError: it is too long.
        """
        if len(line) > MAX_CHARACTERS:
            raise UserError(f"a query has at most {MAX_CHARACTERS} characters, this one {len(line)}")
        unwanted = ["".join(filter(None, found.groups())).strip() for found in _UNWANTED.finditer(line)]
        text = " ".join(_UNWANTED.sub(" ", line).split())
        return cls(text, [*filter(None, unwanted)], **others)

    @property
    def words_only(self) -> bool:
        """Whether it is nothing but words that are wanted: what a fusion encoder reads."""
        return bool(self.text) and not self.unwanted and self.picture is None and self.like is None

    def vector(self, model: "Model", index: "Index") -> np.ndarray:
        """float32 [1, d], of length 1.

        Raises:
            UserError: nothing is wanted, or see `Model.encode_text`.
            DataError: the picture cannot be used, or the index has no such row.
        """
        wanted = []
        if self.text:
            wanted.append(model.encode_text([self.text], self.lang))
        if self.picture is not None:
            wanted.append(model.encode_image([self.picture]))
        if self.like is not None:
            index.part_of(self.like)
            wanted.append(index.vectors([self.like]))
        if not wanted:
            only = "; words after a dash are only left out" if self.unwanted else ""
            raise UserError(f"say what is searched for: words, or a picture{only}")
        vector = np.sum(wanted, axis=0)
        if self.unwanted:
            vector = vector - UNWANTED * model.encode_text(self.unwanted, self.lang).sum(axis=0, keepdims=True)
        return unit_rows(vector)
