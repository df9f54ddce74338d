"""What a corpus holds stays what it is: languages can be added to it, nothing else can be changed."""

from typing import Dict, Iterable, List, Mapping

import numpy as np

from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.errors import UserError


def refuse_other_settings(corpus: Corpus, settings: Mapping[str, object], splits: Mapping[str, Iterable[str]]) -> None:
    """Check that all that a corpus has is given again, with its settings.

    Args:
        corpus: the one that is there.
        settings: values by their names in its manifest.
        splits: the languages given of each split.

    Raises:
        UserError: a setting is another, or a split or language is missing.
    """
    manifest = corpus.manifest
    differ = [f"{k} is {manifest[k]} there, {settings[k]} here" for k in settings if manifest[k] != settings[k]]
    differ += [f"its {split} captions are not given" for split in manifest["splits"] if split not in splits]
    differ += [f"it has no {split} captions" for split in splits if split not in manifest["splits"]]
    for split in splits:
        held = corpus.languages(split)
        missing = [lang for lang in held if lang not in splits[split]]
        if missing:
            added = [lang for lang in splits[split] if lang not in held]
            every = ",".join([*held, *added])
            differ.append(f"its {split} captions in {', '.join(missing)} are not given: give --languages {every}")
    if differ:
        _refuse(corpus, differ)


def refuse_other_content(
    corpus: Corpus,
    split: str,
    digest: str,
    captions: Dict[str, List[str]],
    rows: Dict[str, np.ndarray],
    lists: Dict[str, List[str]],
) -> None:
    """Check that a split, made of the languages that a corpus has of it, is what the corpus has.

    Args:
        corpus, split: what is there.
        digest: of the split as it is made now; the other arguments serve to say what is different.
        captions, rows: by language. lists: what rows point to, images and English sentences, by name.

    Raises:
        UserError: it is not.
    """
    if digest != corpus.manifest["splits"][split]["sha256"]:
        _refuse(corpus, [_difference(corpus, split, captions, rows, lists)])


def _difference(corpus: Corpus, split: str, captions, rows, lists) -> str:
    for lang, texts in captions.items():
        place = _first_difference(corpus.captions(split, lang), texts)
        if place:
            return f"the {split} captions in {lang} are others: {place}"
    for lang, numbers in rows.items():
        if not np.array_equal(corpus.rows(split, lang), numbers):
            return f"the {split} captions in {lang} have other images or English sentences"
    for name, there in (("images", corpus.images(split)), ("English sentences", corpus.english(split))):
        place = _first_difference(there[: len(lists[name])], lists[name])
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
