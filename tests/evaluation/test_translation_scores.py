import sys

import pytest
import sacrebleu

from mlvl_fairseq.evaluation.metrics import translation
from mlvl_fairseq.evaluation.metrics.translation import bleu_tokenizer, score_translations

ENGLISH = (["The cat sits on the mat, today.", "No."], ["The cat sat on the mat, today.", "No!"])
CHINESE = (["猫坐在垫子上。今天天气很好"], ["猫坐在垫子上面。今天天气很好"])


def test_english_by_sacrebleu():
    score = score_translations(*ENGLISH, "en")
    assert score.bleu == sacrebleu.corpus_bleu(ENGLISH[0], [ENGLISH[1]]).score > 0
    assert score.chrf == sacrebleu.corpus_chrf(ENGLISH[0], [ENGLISH[1]]).score > 0
    assert "tok:13a" in score.bleu_signature and f"version:{sacrebleu.__version__}" in score.bleu_signature
    assert f"BLEU|{score.bleu_signature} = {score.bleu:.2f}" in str(score)
    assert "chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in str(score) and "2 sentences" in str(score)


def test_chinese_is_cut_into_characters():
    score = score_translations(*CHINESE, "zh_CN")
    assert score.bleu == sacrebleu.corpus_bleu(CHINESE[0], [CHINESE[1]], tokenize="zh").score
    assert score.bleu > 40 > sacrebleu.corpus_bleu(CHINESE[0], [CHINESE[1]]).score
    assert "tok:zh" in score.bleu_signature


@pytest.mark.parametrize("language, tokenizer", [("de", "13a"), ("pt_BR", "13a"), ("zh", "zh"), ("zh-Hant", "zh"),
                                                 ("th", "char"), ("ar", "13a")])  # fmt: skip
def test_tokenizer_of_a_language(language, tokenizer):
    assert bleu_tokenizer(language) == tokenizer
    assert tokenizer in sacrebleu.BLEU.TOKENIZERS


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_mecab_where_it_is_installed(monkeypatch, language):
    monkeypatch.setattr(translation.importlib.util, "find_spec", lambda name: None)
    assert bleu_tokenizer(language) == "char"
    monkeypatch.setattr(translation.importlib.util, "find_spec", lambda name: sys)
    assert bleu_tokenizer(language) == f"{language}-mecab" in sacrebleu.BLEU.TOKENIZERS
