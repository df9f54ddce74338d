"""What a corpus holds stays what it is: languages can be added to it, nothing else can be changed."""

from typing import Iterable, List, Mapping

import numpy as np

from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.corpus.split_building import SplitBuilder, one_line
from mlvl_fairseq.errors import UserError


def refuse_other_settings(corpus: Corpus, settings: Mapping[str, object], splits: Iterable[str]) -> None:
    """Check that a corpus has the settings and splits that are given.

    Args:
        corpus: the one that is there.
        settings: values by their names in its manifest.
        splits: that are given.

    Raises:
        UserError: a setting is another, or the corpus has no such split.
    """
    manifest = corpus.manifest
    differ = [f"{k} is {manifest[k]} there, {settings[k]} here" for k in settings if manifest[k] != settings[k]]
    differ += [f"it has no {split} captions" for split in splits if split not in manifest["splits"]]
    if differ:
        _refuse(corpus, differ)


def refuse_more_alone(corpus: Corpus, split: str, kept: SplitBuilder) -> None:
    """Check that a corpus can be gone on with from its own files.

    Args:
        kept: the split as these files have it.

    Raises:
        UserError: they are not what was written, or are an earlier version's, which did not write everything: lines
            have no double spaces.
    """
    if kept.digest() != corpus.manifest["splits"][split]["sha256"]:
        every = ",".join(corpus.languages(split))
        raise UserError(
            f"{corpus.folder}: its {split} captions are not, to the letter, those that it was made of, so that no "
            f"language can be added to them alone: give the files of {every}, too"
        )


def refuse_other_content(corpus: Corpus, split: str, part: SplitBuilder) -> None:
    """Check that a split, made of the languages that a corpus has of it, is what the corpus has.

    Raises:
        UserError: it is not.
    """
    if part.digest() != corpus.manifest["splits"][split]["sha256"]:
        _refuse(corpus, [_difference(corpus, split, part)])


def _difference(corpus: Corpus, split: str, part: SplitBuilder) -> str:
    for lang in part.languages:
        place = _first_difference(corpus.captions(split, lang), part.captions(lang))
        if place:
            return f"the {split} captions in {lang} are others: {place}"
    for lang in part.languages:
        if not np.array_equal(corpus.rows(split, lang), part.rows(lang)):
            return f"the {split} captions in {lang} have other images or English sentences"
    english = [one_line(text) for text in part.english]
    for name, there, here in (
        ("images", corpus.images(split), list(part.images)),
        ("English sentences", corpus.english(split), english),
    ):
        place = _first_difference(there[: len(here)], here)
        if place:
            return f"the {split} {name} are others: {place}"
    return f"the {split} captions are others"


def _first_difference(there: List[str], here: List[str]) -> str:
    for line, (old, new) in enumerate(zip(there, here), 1):
        if old != new:
            return f"line {line} is {old!r} there, {new!r} here"
    return "" if len(there) == len(here) else f"{len(there)} lines there, {len(here)} here"


def _refuse(corpus: Corpus, differ: List[str]) -> None:
    raise UserError(
        f"{corpus.folder} holds a corpus of other captions or settings ({'; '.join(differ)}), and features and "
        "vocabularies that belong to it; only languages can be added: choose another folder or remove this one"
    )
