"""Text in two languages, a sentence and its translation a line: two files as they come, Tatoeba's or FLORES's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Tuple

from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.table import BAD_ENCODING, Problems
from mlvl_fairseq.errors import DataError, UserError

EMPTY_LINE = "empty line"


class Layout(NamedTuple):
    """Names of the files below a folder; {lang}, {pivot} and {split} stand for what they say."""

    sentences: str
    translations: str


LAYOUTS: Dict[str, Layout] = {
    # LASER's Tatoeba (Artetxe and Schwenk 2019): tatoeba.deu-eng.deu beside tatoeba.deu-eng.eng
    "tatoeba": Layout("tatoeba.{lang}-{pivot}.{lang}", "tatoeba.{lang}-{pivot}.{pivot}"),
    # FLORES-200 (NLLB Team 2022): dev/deu_Latn.dev beside dev/eng_Latn.dev
    "flores": Layout("{split}/{lang}.{split}", "{split}/{pivot}.{split}"),
}


@dataclass(frozen=True)
class Bitext:
    """Sentence pairs.

    Attributes:
        path: of the sentences. sentences: n of them. translations: n, of the same lines.
        problems: the lines that were left out.
    """

    path: str
    sentences: List[str]
    translations: List[str]
    problems: Problems

    def __len__(self) -> int:
        return len(self.sentences)


def filled(pattern: str, **values: str) -> str:
    """A pattern with ``{lang}`` and the like replaced; any other brace is one."""
    for name, value in values.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


def file_codes(text: str) -> Mapping[str, str]:
    """``de=deu,en=eng`` as a mapping. Raises UserError: it is none."""
    codes: Dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        lang, equals, code = part.partition("=")
        if not (lang and equals and code) or lang in codes:
            raise UserError(f"--file-codes {text}: give each language once, as de=deu,en=eng")
        codes[lang] = code
    return codes


def read_bitext(sentences, translations, problems: Problems) -> Bitext:
    """Two files, plain or gzip. Pairs of which a line is empty, or is not UTF-8, are left out and counted.

    Args:
        sentences, translations: paths. problems: what counts them, and may stop at them.

    Raises:
        DataError: a file cannot be read, the files have different numbers of lines, or no pair is left; by policy.
    """
    sides = [list(text_lines(path)) for path in (sentences, translations)]
    if len(sides[0]) != len(sides[1]):
        sides = [_without_blank_end(side) for side in sides]
    if len(sides[0]) != len(sides[1]):
        message = (
            f"has {len(sides[0]):,} lines, and '{translations}' has {len(sides[1]):,}: line by line they are pairs"
        )
        raise DataError(message, sentences)
    pairs: List[Tuple[str, str]] = []
    for number, pair in enumerate(zip(*sides), 1):
        pair = tuple(text.strip() for text in pair)
        fault = next((side for side in (0, 1) if _fault(pair[side])), None)
        if fault is None:
            pairs.append(pair)
        else:
            kind, why = _fault(pair[fault])
            problems.skip(kind, why, (sentences, translations)[fault], number)
    if not pairs:
        raise DataError(f"no line of it and of '{translations}' is a pair of sentences ({problems.brief()})", sentences)
    return Bitext(str(sentences), *map(list, zip(*pairs)), problems)


def _fault(text: str) -> Tuple[str, str]:
    """Kind and reason why a line cannot be used; empty where it can."""
    if not text:
        return EMPTY_LINE, "is empty"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return BAD_ENCODING, "is not valid UTF-8"
    return ()


def _without_blank_end(lines: List[str]) -> List[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def in_layout(name: str, root: str) -> Layout:
    """The patterns of a layout, below a folder. Raises UserError: there is no such layout or folder."""
    if name not in LAYOUTS:
        raise UserError(f"--layout {name}: there are {', '.join(LAYOUTS)}")
    if not Path(root).is_dir():
        raise UserError(f"--root {root} is no folder")
    return Layout(*(str(Path(root) / pattern) for pattern in LAYOUTS[name]))
