"""Whether a folder holds this very run: what decides a result must be the same, where things lie need not be."""

import logging
import os
from dataclasses import asdict, fields
from typing import Callable, Dict, List, Optional

from mlvl_fairseq.continual.training_options import shown
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.digests import weights_fingerprint

logger = logging.getLogger(__name__)

FINGERPRINTS = "corpus_fingerprint"
TEACHER = "teacher_fingerprint"
WEIGHTS = "init_from_fingerprint"
_BY_CONTENT = ("corpus", "init_from", "extra")  # compared by fingerprint or by meaning, not as they were typed
_FREE = ("eval_split", "protocol")  # one decides no training; the other, the method says


def differences(theirs: Dict, mine, corpus: Corpus, options: Callable[[List[str]], Dict], verify: bool) -> List[str]:
    """What makes a run another one than that of a folder, in words.

    Args:
        theirs: the folder's ``run.json``.
        mine: settings of this run.
        corpus: of this run.
        options: further arguments of fairseq-train -> all options that decide what is learned, by name.
        verify: whether weights may have to be read again: something is still to be trained.
    """
    theirs = {**theirs, "languages": _continued(theirs, mine)}
    names = [field.name for field in fields(mine) if field.name not in (*_BY_CONTENT, *_FREE)]
    found = [
        f"{_option(name)} is {_shown(theirs.get(name))} there, {_shown(getattr(mine, name))} here"
        for name in names
        if theirs.get(name) != getattr(mine, name)
    ]
    found += _other_options(theirs, mine, options)
    found += _other_weights(theirs, mine.init_from, verify)
    found += _other_corpus(theirs.get(FINGERPRINTS), mine.languages, corpus)
    return found + _other_teacher(theirs.get(TEACHER) or {}, mine.languages, corpus)


def _continued(theirs: Dict, mine) -> object:
    """The languages of a run; of one that goes on with more of them, these."""
    languages = theirs.get("languages")
    goes_on = mine.protocol != "joint" and mine.languages[: len(languages or [])] == languages
    return mine.languages if goes_on else languages


def _option(name: str) -> str:
    return "--order" if name == "languages" else shown(name)


def _shown(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value}"


def _other_options(theirs: Dict, mine, options: Callable[[List[str]], Dict]) -> List[str]:
    typed = theirs.get("extra", [])
    if typed == mine.extra:
        return []
    there, here = options(typed), options(mine.extra)
    return [
        f"{shown(name)} is {_shown(there.get(name))} there, {_shown(here.get(name))} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


def _other_weights(theirs: Dict, path: Optional[str], verify: bool) -> List[str]:
    before, known = theirs.get("init_from"), theirs.get(WEIGHTS)
    if path is None or before is None:
        return [] if path == before else [f"--init-from is {before} there, {path} here"]
    same_place = path == before or os.path.exists(before) and os.path.samefile(path, before)
    if same_place and not (known and verify):
        return []
    if known is None and os.path.exists(before):
        known = weights_fingerprint(before)
    if known is None:  # an earlier version's run; its checkpoints refuse other frozen weights when they are loaded
        logger.info("--init-from was %s, which is gone; %s takes its place", before, path)
        return []
    return [] if known == weights_fingerprint(path) else [f"--init-from {path} holds other weights than {before} did"]


def _other_corpus(recorded, languages: List[str], corpus: Corpus) -> List[str]:
    """What has changed in the corpus since a run began. Languages that the run had not then do not count.

    Args:
        recorded: fingerprint by language; in runs of earlier versions, one of the whole folder.
    """
    if not isinstance(recorded, dict):
        message = "the corpus has changed since, and it is not recorded whether in these languages"
        return [] if recorded == corpus.fingerprint else [message]
    changed = [lang for lang in languages if lang in recorded and recorded[lang] != corpus.language_fingerprint(lang)]
    return [f"the corpus holds other captions in {', '.join(changed)} than it did"] if changed else []


def _other_teacher(recorded: Dict, languages: List[str], corpus: Corpus) -> List[str]:
    """Whether the teacher's features are others than a run began with; `recorded`: fingerprint by language, None where
    there were none, or no version has recorded them."""
    now = {lang: corpus.teacher_fingerprint(lang) for lang in languages if recorded.get(lang)}
    changed = [lang for lang, found in now.items() if found and found != recorded[lang]]
    named = ", ".join(changed)
    return [f"the teacher's features of the captions in {named} are others than they were"] if changed else []


def manifest_of(mine, theirs: Dict, corpus: Corpus) -> Dict:
    """``run.json`` of a run: its settings, and what they stand for. Of a run that goes on, what may change and is not
    about a place stays as it was.

    Args:
        theirs: what it says already; empty: nothing.
    """
    kept = {name: theirs[name] for name in ("eval_split", "extra", WEIGHTS) if name in theirs}
    weights = {} if WEIGHTS in kept else {WEIGHTS: mine.init_from and weights_fingerprint(mine.init_from)}
    languages = {lang: corpus.language_fingerprint(lang) for lang in mine.languages}
    recorded = theirs.get(TEACHER) or {}
    teacher = {lang: recorded.get(lang) or corpus.teacher_fingerprint(lang) for lang in mine.languages}
    return {**asdict(mine), **weights, **kept, FINGERPRINTS: languages, TEACHER: teacher}
