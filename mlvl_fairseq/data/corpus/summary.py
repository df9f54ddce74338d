"""What a corpus holds, what of it takes part in nothing, and the command that comes next."""

import logging
import shlex
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from mlvl_fairseq.data.corpus.corpus import MANIFEST, TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.corpus.overlap import shared_by_content, shared_by_name
from mlvl_fairseq.data.corpus.teacher import TeacherRecord, recorded_teacher
from mlvl_fairseq.data.feature_manifest import read_feature_manifest

logger = logging.getLogger(__name__)


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


def taught_languages(folder) -> List[str]:
    """The training languages of a corpus that has a teacher's features; empty: it has none, or is not there yet."""
    corpus = Corpus(folder) if (Path(folder) / MANIFEST).exists() else None
    return corpus.languages("train") if corpus and recorded_teacher(corpus) else []


def next_command(
    corpus: Corpus, teacher: Optional[str] = None, wordpiece: Optional[str] = None, before: Sequence[str] = ()
) -> str:
    """What ``mlvl-cll`` still needs of the corpus, or the line that starts it; of a LilT where BERT cut the captions.

    Args:
        teacher: whose features the corpus has; None: as noted beside them. wordpiece: BERT's folder, if one was given.
        before: :func:`taught_languages` before languages were added; a run of these can go on.
    """
    folder = shlex.quote(str(corpus.folder))
    if wordpiece and not teacher:
        return (
            f'fairseq-train {folder} --user-dir "$(mlvl-path)" --task image_text_retrieval '
            f"--tokenizer-folder {shlex.quote(wordpiece)} --arch lilt_base ... (docs/lilt.md)"
        )
    splits = corpus.manifest["splits"]
    if all(_is_complete(corpus, split, kind) for split in splits for kind in TEACHER_FEATURES):
        order = ",".join(corpus.languages("train"))
        longer = before and list(before) != corpus.languages("train")
        again = " (or the command of your run again, with the longer --order)" if longer else ""
        return f"mlvl-cll {folder} runs/NAME --order {order} {_start(recorded_teacher(corpus), teacher)}{again}"
    if corpus.manifest["image_root"] or all(corpus.has_features(split, "inputs") for split in splits):
        return f"mlvl-prepare {folder} --teacher PATH"
    return f"mlvl-prepare {folder} --image-root DIR --teacher PATH"


def _start(record: Optional[TeacherRecord], teacher: Optional[str]) -> str:
    """``--arch clip_vit_b16 --init-from ViT-B-16.pt``: what a student starts from whose teacher gave the features."""
    noted = record.path if record and record.path and Path(record.path).exists() else None
    path, arch = shlex.quote(teacher or noted or "TEACHER"), record and record.architecture
    if arch or record is None or record.family in (None, "clip"):
        return f"--arch {arch or 'ARCH'} --init-from {path}"
    return f"--arch ARCH --init-from CLIP (the teacher, of the family {record.family}, is none: docs/methods.md)"


def _is_complete(corpus: Corpus, split: str, kind: str) -> bool:
    return corpus.has_features(split, kind) and read_feature_manifest(corpus.feature_stem(split, kind)).complete


def tell_what_is_left_out(corpus: Corpus) -> None:
    """Warn of captions that take part in nothing: those of images that could not be read, or are not known."""
    for split in corpus.manifest["splits"]:
        kinds = corpus.finished_features(split)
        message = corpus.left_out(split, {lang: corpus.usable(split, lang, kinds) for lang in corpus.languages(split)})
        if message:
            logger.warning("%s", message)


def tell_shared_photos(corpus: Corpus, by_content: bool, allow_outside_root: bool) -> None:
    """Warn of photos that a model would be scored on and was trained on, told by name and, if asked for, by content."""
    overlaps = [f"{overlap}" for overlap in shared_by_name(corpus)]
    if by_content:
        found = shared_by_content(corpus, allow_outside_root)
        overlaps += [f"by content, {overlap}" for overlap in found]
        if not found:
            logger.info("no two splits share the content of a photo")
    for overlap in overlaps:
        logger.warning("%s", overlap)
