"""Directions of translation, and where fairseq-preprocess has put their files.

``fairseq-preprocess -s de -t en`` writes ``SPLIT.de-en.{de,en}.{bin,idx}`` and ``dict.{de,en}.txt``. Both directions of
the pair are read from them.
"""

import re
from pathlib import Path
from typing import Iterable, List, NamedTuple

from fairseq.data import Dictionary

from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import require_file


class Direction(NamedTuple):
    """From one language into another; written ``de-en``."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


def parse_directions(text: str) -> List[Direction]:
    """``"de-en, en-de"`` -> directions in this order.

    Raises:
        UserError: a part is no pair of two languages, or comes twice.
    """
    directions = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        languages = part.split("-")
        if len(languages) != 2 or not all(languages) or languages[0] == languages[1]:
            raise UserError(f"--lang-pairs: '{part}' is no direction; write e.g. de-en,en-de")
        directions.append(Direction(*languages))
    twice = {str(direction) for direction in directions if directions.count(direction) > 1}
    if twice:
        raise UserError(f"--lang-pairs names {', '.join(sorted(twice))} twice")
    return directions


def find_directions(folder, split: str = "train") -> List[Direction]:
    """Both directions of every pair that a split has files of, in alphabetical order of the pairs.

    Raises:
        UserError: there is none.
    """
    pattern = re.compile(rf"{re.escape(split)}\.([^.-]+)-([^.-]+)\.\1\.idx")
    names = (path.name for path in Path(folder).glob("*.idx"))
    found = sorted(match.groups() for match in map(pattern.fullmatch, names) if match)
    if not found:
        raise UserError(f"no parallel text {split}.SRC-TGT.SRC.idx in {folder}; write it with fairseq-preprocess")
    directions = [Direction(*pair) for source, target in found for pair in ((source, target), (target, source))]
    return list(dict.fromkeys(directions))


def pair_prefix(folder, split: str, direction: Direction) -> str:
    """``FOLDER/SPLIT.de-en`` or ``FOLDER/SPLIT.en-de``, whichever has files.

    Raises:
        UserError: neither has.
    """
    names = [f"{split}.{direction.source}-{direction.target}", f"{split}.{direction.target}-{direction.source}"]
    for name in names:
        if all((Path(folder) / f"{name}.{lang}.{kind}").exists() for lang in direction for kind in ("idx", "bin")):
            return str(Path(folder) / name)
    languages = "{" + ",".join(direction) + "}"
    raise UserError(
        f"no parallel text {names[0]}.{languages}.idx (nor {names[1]}...) in {folder}; "
        f"write it with fairseq-preprocess -s {direction.source} -t {direction.target}"
    )


def load_dictionaries(folder, languages: Iterable[str]) -> Dictionary:
    """The one dictionary of all languages, with XLM-R's ids.

    Raises:
        DataError: a ``dict.LANG.txt`` is missing or differs from the others.
    """
    first, *others = [Path(folder) / f"dict.{language}.txt" for language in languages]
    dictionary = load_xlmr_dictionary(first)
    for other in others:
        require_file(other, "run fairseq-preprocess again")
        if other.read_bytes() != first.read_bytes() and load_xlmr_dictionary(other).symbols != dictionary.symbols:
            message = f"differs from {first.name}; run fairseq-preprocess with one dict.txt as --srcdict and --tgtdict"
            raise DataError(message, other)
    return dictionary
