"""What a corpus holds, in a line a split, and the command that comes next."""

import shlex
from typing import Dict, List, Optional

from mlvl_fairseq.data.corpus.corpus import TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.feature_manifest import read_feature_manifest


def describe(corpus: Corpus) -> List[str]:
    """``train: 20 photos, 40 English sentences, 41 captions (40 en, 1 de); without an English partner: 1 de``."""
    return [_describe_split(corpus, split, counts) for split, counts in corpus.manifest["splits"].items()]


def _describe_split(corpus: Corpus, split: str, counts: dict) -> str:
    captions: Dict[str, int] = counts["captions"]
    unpaired = {lang: int((corpus.rows(split, lang)[:, 1] < 0).sum()) for lang in captions}
    line = (
        f"{split}: {counts['images']:,} photos, {counts['english']:,} English sentences, "
        f"{sum(captions.values()):,} captions ({_by_language(captions)})"
    )
    missing = {lang: number for lang, number in unpaired.items() if number}
    return f"{line}; without an English partner: {_by_language(missing)}" if missing else line


def _by_language(counts: Dict[str, int]) -> str:
    return ", ".join(f"{count:,} {lang}" for lang, count in counts.items())


def next_command(corpus: Corpus, teacher: Optional[str] = None) -> str:
    """What ``mlvl-cll`` still needs of the corpus, or the line that starts it.

    Args:
        teacher: whose features the corpus has; None: not known here.
    """
    folder = shlex.quote(str(corpus.folder))
    splits = corpus.manifest["splits"]
    if all(_is_complete(corpus, split, kind) for split in splits for kind in TEACHER_FEATURES):
        order = ",".join(corpus.languages("train"))
        return (
            f"mlvl-cll {folder} runs/NAME --order {order} --init-from {shlex.quote(teacher) if teacher else 'TEACHER'}"
        )
    if corpus.manifest["image_root"] or all(corpus.has_features(split, "inputs") for split in splits):
        return f"mlvl-prepare {folder} --teacher PATH"
    return f"mlvl-prepare {folder} --image-root DIR --teacher PATH"


def _is_complete(corpus: Corpus, split: str, kind: str) -> bool:
    return corpus.has_features(split, kind) and read_feature_manifest(corpus.feature_stem(split, kind)).complete
