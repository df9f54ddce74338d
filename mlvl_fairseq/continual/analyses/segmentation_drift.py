"""How many captions of earlier languages a growing vocabulary cuts differently than when they were learned.

Merges that a later language appends can join pieces of a word of an earlier language. Its tokens were never trained for
that word: no care for the embedding helps against such forgetting (``--segmentation frozen`` avoids it).
"""

from collections import Counter
from typing import Dict, List, Optional, Sequence

from tqdm import tqdm

from mlvl_fairseq.continual.analyses.inputs import sample_rows
from mlvl_fairseq.continual.methods import method_options
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary
from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.runs.folder import MANIFEST, RunFolder, read_run_manifest

Counts = Dict[str, int]


def segmentation_drift(
    run: RunFolder, split: str = "train", max_captions: Optional[int] = None, seed: int = 1
) -> Dict[str, Dict[str, Counts]]:
    """Count what each step's vocabulary cuts differently, in the captions of each language that was learned before.

    Args:
        run: a sequence of at least two languages, whose vocabularies are prepared; no model is read.
        split: whose captions. max_captions: captions a language, drawn with `seed`; None: all.

    Returns:
        language -> later language -> what :func:`count_changes` gives, by the vocabularies after the two.

    Raises:
        UserError: no sequence, its vocabulary does not grow, or the corpus has no such captions.
    """
    if not run.protocol.in_order or len(run.languages) < 2:
        raise UserError(f"{run.folder}: a vocabulary grows along a sequence of at least two languages; this is none")
    settings = read_run_manifest(run.folder / MANIFEST).settings
    if "oracle_languages" in method_options(str(settings.get("method")), str(settings.get("preset", "default"))):
        raise UserError(f"{run.folder}: its vocabulary was that of all languages from the beginning, and does not grow")
    corpus = Corpus(run.corpus)
    for lang in run.languages:
        corpus.require(split, lang)
    captions = {lang: _some(corpus, split, lang, max_captions, seed) for lang in run.languages[:-1]}
    found: Dict[str, Dict[str, Counts]] = {lang: {} for lang in captions}
    words: Dict[str, List[List[tuple]]] = {}
    for step, later in enumerate(tqdm(run.languages, desc=f"{run.name} vocabularies", unit=" languages")):
        tokenizer = _tokenizer(corpus, run.languages[: step + 1])
        for lang in run.languages[:step]:
            found[lang][later] = count_changes(words[lang], tokenizer.words(captions[lang]))
        if later in captions:
            words[later] = tokenizer.words(captions[later])
    return found


def count_changes(before: Sequence[Sequence[tuple]], after: Sequence[Sequence[tuple]]) -> Counts:
    """Compare two segmentations of captions into words, and of these into tokens.

    Args:
        before, after: for each caption the ids of each word; words are the same.

    Returns:
        ``captions``, ``words`` and ``tokens`` (as cut before), how many of each are cut differently
        (``changed_captions``, ``changed_words``, ``changed_tokens``), and ``tokens_now``.
    """
    counts: Counter = Counter()
    for old, new in zip(before, after, strict=True):
        changed = [word for word, now in zip(old, new, strict=True) if word != now]
        counts.update(
            captions=1,
            changed_captions=int(bool(changed)),
            words=len(old),
            changed_words=len(changed),
            tokens=sum(map(len, old)),
            changed_tokens=sum(map(len, changed)),
            tokens_now=sum(map(len, new)),
        )
    return dict(counts)


def _some(corpus: Corpus, split: str, lang: str, limit: Optional[int], seed: int) -> List[str]:
    """Captions that take part in what a split is there for."""
    captions, usable = corpus.captions(split, lang), corpus.usable(split, lang, corpus.finished_features(split))
    return [captions[row] for row in usable[sample_rows(len(usable), limit, seed)]]


def _tokenizer(corpus: Corpus, languages: Sequence[str]) -> ClipTokenizer:
    vocabulary = GrownVocabulary(corpus, languages)
    if not vocabulary.is_prepared:
        raise UserError(f"no vocabulary in {vocabulary.folder}; {vocabulary.how_to_prepare(languages[-1:])} makes it")
    return vocabulary.tokenizer
