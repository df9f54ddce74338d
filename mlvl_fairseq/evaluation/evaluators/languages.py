"""One model on many languages: the model is loaded once, images are encoded once, finished languages are kept."""

from typing import Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.retrieval import score_retrieval
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.evaluation.signature import common_signature, data_fingerprint, parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.runs.result_folder import ResultFolder

Scores = Dict[str, object]


def evaluate_languages(
    encoder: Encoder,
    tables: Mapping[str, CaptionTable],
    encode_images: Callable[[List[str]], np.ndarray],
    split: str = "test",
    n_fold: int = 1,
    results: Optional[ResultFolder] = None,
    recall: str = "standard",
) -> Dict[str, Scores]:
    """Retrieval scores of every language, each as if it were evaluated alone.

    Args:
        encoder: the model; it need not have learned the languages (zero-shot).
        tables: language -> captions. Languages may have different images, in different orders.
        encode_images: names -> features [names, embed_dim]; called once with the images of all languages, and not at
            all where every language is finished.
        split: for the signature.
        n_fold: average over this many contiguous parts of a language's images.
        results: where finished languages are found and kept, as ``<language>.<split>``.
        recall: how it is counted, see :data:`mlvl_fairseq.evaluation.metrics.retrieval.CONVENTIONS`.

    Returns:
        language -> ``txt_r1 ... r_mean`` in % and ``signature``.

    Raises:
        UserError: a finished language was scored on other captions, or features do not fit.
    """
    done = {lang: _finished(results, lang, split, table) for lang, table in tables.items()} if results else {}
    scores = {lang: found for lang, found in done.items() if found}
    waiting = [lang for lang in tables if lang not in scores]
    images = ImageFeatures.encoded(_all_images(tables.values()), encode_images) if waiting else None
    for lang in tqdm(waiting, desc="evaluate", unit=" languages", disable=len(waiting) < 2):
        table = tables[lang]
        scores[lang] = score_retrieval(
            encoder,
            images.of(table.images),
            table.images,
            table.captions,
            table.image_rows,
            lang,
            split,
            n_fold,
            recall,
        )
        if results:
            results.put(f"{lang}.{split}", scores[lang])
    return {lang: scores[lang] for lang in tables}


def average_scores(scores: Mapping[str, Scores]) -> Scores:
    """Each metric's mean over languages, and the signature with ``*`` where theirs differ."""
    means = {metric: float(np.mean([one[metric] for one in scores.values()])) for metric in METRICS}
    return {**means, "signature": common_signature(str(one["signature"]) for one in scores.values())}


class ImageFeatures:
    """Features by image name.

    Args:
        names: unique names. features: [names, dims].
    """

    def __init__(self, names: Sequence[str], features: np.ndarray):
        self.names, self.features = list(names), features
        self._rows = {name: row for row, name in enumerate(self.names)}

    @classmethod
    def encoded(cls, names: List[str], encode: Callable[[List[str]], np.ndarray]) -> "ImageFeatures":
        return cls(names, encode(names))

    def of(self, names: Sequence[str]) -> np.ndarray:
        """[len(names), dims] in the order of `names`; no copy where it is the stored one."""
        if list(names) == self.names:
            return self.features
        return self.features[[self._rows[name] for name in names]]


def _all_images(tables) -> List[str]:
    return list(dict.fromkeys(name for table in tables for name in table.images))


def _finished(results: ResultFolder, lang: str, split: str, table: CaptionTable) -> Optional[Scores]:
    name = f"{lang}.{split}"
    scores = results.get(name)
    if scores is None:
        return None
    data = data_fingerprint(table.images, table.captions, table.image_rows)
    if parse_signature(str(scores.get("signature", ""))).get("data") != data:
        raise UserError(
            f"{results.path(name)} holds the scores of other captions than {table.path}: choose another folder, "
            "or delete the file"
        )
    return scores
