"""Answers to questions about an image, out of a closed list (GQA, xGQA)."""

from dataclasses import dataclass
from typing import Dict, List

import numpy as np

from mlvl_fairseq.data.examples import Example, Examples
from mlvl_fairseq.data.examples.targets import answer_ids
from mlvl_fairseq.data.examples.texts import read_answers
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import option, register_evaluator
from mlvl_fairseq.evaluation.evaluators.labelled_examples import (
    NEVER,
    ExampleEvaluationOptions,
    ExampleEvaluator,
    Judged,
)
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.examples import EncodedImages, label_scores, rank_answers, require_head
from mlvl_fairseq.modules.answer_tree import AnswerTree

ONCE, REFERENCE = "once", "reference"


@dataclass(kw_only=True)
class AnswerOptions(ExampleEvaluationOptions):
    answers: str = option(
        "the answers that there are to choose from: a JSON list, or GQA's trainval_ans2label.json; by default those "
        "that the model was trained with; a converted one needs them",
        "",
        identity=lambda path: file_sha256(path) if path else None,
        metavar="FILE",
    )
    rank_k: int = option(
        "a decoder compares so many answers by all of their pieces, those whose first piece is likeliest; more are "
        "slower",
        128,
        metavar="K",
        least=1,
    )
    first_piece: str = option(
        "how often the probability of an answer's first piece counts: once; reference: twice, as in the published code "
        "of CCLM",
        ONCE,
        identity=lambda how: None if how == ONCE else how,
        choices=(ONCE, REFERENCE),
    )


@register_evaluator("vqa")
class Vqa(ExampleEvaluator):
    """Accuracy of answers to questions about an image, chosen from a list (GQA, xGQA of IGLUE).

    The model is one of fairseq-train --task visual_question_answering, or of mlvl-convert cclm.

    accuracy: questions whose chosen answer is, letter by letter, the right one, in %. A decoder ranks the list in two
    steps, as CCLM's does; a model that was trained with --answer-head classifier has a score for each answer. With
    --output-dir also LANG.SPLIT.said.csv (a question a row). The average of several languages leaves English out.
    """

    Options = AnswerOptions
    keys = {
        **ExampleEvaluator.keys,
        "answers": "how many answers there are to choose from",
        "rank": "how many of them were compared by all of their pieces; without it a classifier chose",
        "first": "'reference': the first piece of an answer counted twice",
        "unlisted": "questions whose right answer is not in the list",
    }
    examples = """\
  mlvl-evaluate vqa --checkpoint gqa.pt --lang en,bn,de,id,ko,pt,ru,zh --image-root images \\
      --examples 'iglue/datasets/xGQA/annotations/few_shot/{lang}/test.json' \\
      --answers iglue/datasets/gqa/annotations/trainval_ans2label.json
"""
    images_per_text = 1
    options: AnswerOptions

    def read(self):
        self.listed: List[str] = read_answers(self.options.answers) if self.options.answers else []
        return super().read()

    def check(self, examples: Examples) -> None:
        if examples.classes:
            name = {1: "nli", 2: "nlvr"}[examples.images_per_text]
            raise UserError(f"{examples.path}: holds labels, no answers: mlvl-evaluate {name} scores it")

    def require(self, encoder: Encoder) -> None:
        self.generates = encoder.network.rank_answers is not None
        if not self.generates:
            require_head(encoder, "labels", "--task visual_question_answering")
        trained = list(encoder.choices)
        self.answers = self.listed or trained
        if not self.answers:
            raise UserError(f"{encoder.source} does not say which answers there are: give --answers FILE")
        if not self.generates and trained and self.answers != trained:
            raise UserError(
                f"--answers {self.options.answers}: {encoder.source} is a classifier of other answers: leave it out"
            )

    def judge(self, encoder: Encoder, lang: str, data: Examples, images: EncodedImages) -> Judged:
        options, examples = self.options, data.examples
        asked = [example.text for example in examples], [example.images for example in examples]
        place: Dict = {answer: number for number, answer in enumerate(self.answers)}
        if examples and not any(example.answer in place for example in examples):
            raise UserError(
                f"{data.path}: none of its answers is among the {len(self.answers)} of {encoder.source} "
                f"({', '.join(self.answers[:3])}, ...): is that a model of questions, or are --answers others?"
            )
        if self.generates:
            tree = AnswerTree(answer_ids(self.answers, encoder.tokenizer.prepared())).to(encoder.device)
            best = rank_answers(
                encoder,
                images,
                *asked,
                tree,
                options.rank_k,
                options.first_piece == REFERENCE,
                lang,
                options.batch_size,
                f"{lang} questions",
            )
        else:
            scores = label_scores(encoder, images, *asked, lang, options.batch_size, f"{lang} questions")
            if scores.shape[1] != len(self.answers):
                raise UserError(
                    f"{encoder.source} has {scores.shape[1]} answers, not {len(self.answers)}: mend --answers"
                )
            best = np.argsort(-scores, axis=1, kind="stable")
        return Judged(answer_ranks(best, examples, place), [self.answers[row[0]] for row in best])

    def own_keys(self, data: Examples) -> Dict[str, object]:
        known = set(self.answers)
        return {
            "answers": len(self.answers),
            "rank": min(self.options.rank_k, len(self.answers)) if self.generates else None,
            "first": REFERENCE if self.generates and self.options.first_piece == REFERENCE else None,
            "unlisted": sum(example.answers != {} and example.answer not in known for example in data.examples) or None,
        }


def answer_ranks(best: np.ndarray, examples: List[Example], place: Dict[str, int]) -> np.ndarray:
    """int64 [n]: where the right answer of each question is among its best ones; `NEVER`: it is not there.

    Args:
        best: int64 [n, k], numbers of answers, the best first. place: answer -> its number.
    """
    right = np.array([place.get(example.answer, -1) for example in examples])
    found = best == right[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), NEVER)
