"""BLEU and chrF of a validation set that arrives in batches."""

import math

import pytest
import sacrebleu
from fairseq.logging import metrics
from ranks import run_ranks

from mlvl_fairseq.data.parallel import parse_directions
from mlvl_fairseq.tasks._translations import TranslationCollector

DIRECTIONS = parse_directions("de-en,en-zh")
REFERENCES = {0: ["The cat sits on the mat.", "A dog\x85runs over the green field.", "A red ball."],
              1: ["猫坐在垫子上今天", "狗在绿色的田野上奔跑"]}  # fmt: skip
HYPOTHESES = {0: ["The cat sits on a mat.", "The dog runs over the green field.", "A red box."],
              1: ["猫坐在垫子上今天吗", "狗在红色的田野上奔跑"]}  # fmt: skip
BATCHES = [(0, [2, 0]), (1, [1]), (0, [1]), (1, [0]), (0, [2])]  # the last one pads a rank


def expected():
    values = {}
    for position, tokenizer in enumerate(("13a", "zh")):
        texts = HYPOTHESES[position], [REFERENCES[position]]
        values[f"bleu_{DIRECTIONS[position]}"] = sacrebleu.corpus_bleu(*texts, tokenize=tokenizer).score
        values[f"chrf_{DIRECTIONS[position]}"] = sacrebleu.corpus_chrf(*texts).score
    for name in ("bleu", "chrf"):
        values[name] = (values[f"{name}_de-en"] + values[f"{name}_en-zh"]) / 2
    return values


def validate(batches):
    """As fairseq's loop: every batch is logged and asked for its own statistics, in the end there are those of all."""
    collector = TranslationCollector(DIRECTIONS)
    during = []
    with metrics.aggregate(new_root=True) as whole:
        for direction, ids in batches:
            texts = ([texts[direction][i] for i in ids] for texts in (HYPOTHESES, REFERENCES))
            collector.add(direction, ids, *texts)
            with metrics.aggregate() as batch:
                metrics.log_scalar("loss", 1.0, len(ids))
                collector.log([{"sample_size": len(ids)}])
            during.append(batch.get_smoothed_values())
    return collector, during, whole.get_smoothed_values()


def test_scores_of_the_whole_set():
    collector, during, values = validate(BATCHES)
    assert set(collector.names) == set(expected())
    for name, value in expected().items():
        assert values[name] == pytest.approx(value, abs=1e-3) and value > 10, name
        assert math.isnan(during[-1][name])
    assert list(collector.scores) == DIRECTIONS and "tok:zh" in collector.scores[DIRECTIONS[1]].bleu_signature


def test_directions_without_sentences_have_no_score():
    _, _, values = validate(BATCHES[:1])
    assert math.isnan(values["bleu_en-zh"]) and values["bleu"] == values["bleu_de-en"] > 0
    nothing = TranslationCollector(DIRECTIONS).compute()
    assert math.isnan(nothing["bleu"]) and math.isnan(nothing["chrf"])


def run_rank(rank):
    collector = TranslationCollector(DIRECTIONS)
    for direction, ids in BATCHES[rank::2]:
        collector.add(direction, ids, *([texts[direction][i] for i in ids] for texts in (HYPOTHESES, REFERENCES)))
    return collector.compute()


def test_every_rank_has_the_scores_of_all(tmp_path):
    for found in run_ranks(run_rank, tmp_path):
        assert found == pytest.approx(expected())
