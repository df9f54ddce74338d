"""Questions about images, as CCLM answers them (GQA, xGQA): of a closed list of answers the one that a decoder finds
likeliest, or as classes."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Union

import torch
from fairseq.tasks import register_task
from torch import Tensor

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.examples.targets import AnswerTargets, answer_ids
from mlvl_fairseq.data.examples.texts import answers_of, read_answers
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.options import with_options
from mlvl_fairseq.tasks._examples import EXAMPLE_PARTS, ExamplesTask, ExampleTaskOptions

logger = logging.getLogger(__name__)

DECODER, CLASSIFIER = "decoder", "classifier"


@dataclass
class AnswerOptions(ExampleTaskOptions):
    answer_list: str = field(
        default="",
        metadata={
            "help": "the answers that there are to choose from: a JSON list, or GQA's trainval_ans2label.json; empty: "
            "those of the training examples"
        },
    )
    answer_head: str = field(
        default=DECODER,
        metadata={
            "help": "how answers are chosen: by a decoder that reads them beside the question, as published, or by a "
            "classifier that has a class for each",
            "choices": (DECODER, CLASSIFIER),
        },
    )
    answer_candidates: int = field(
        default=128,
        metadata={
            "help": "a decoder compares so many answers in validation, those whose first piece is likeliest",
            "least": 1,
        },
    )


VisualQuestionAnsweringConfig = with_options(AnswerOptions, EXAMPLE_PARTS)


@register_task("visual_question_answering", dataclass=VisualQuestionAnsweringConfig)
class VisualQuestionAnsweringTask(ExamplesTask):
    """Train model ``cclm`` with criterion ``visual_question_answering``. What a batch has beside ``net_input``:
    :class:`AnswerTargets`.

    Attributes:
        answers: all that there are to choose from. classes: likewise, in the order of a classifier's rows; False: there
            is a decoder.
    """

    answers: List[str] = []
    classes: Union[List[str], bool] = False
    mirrors_as_published = False

    def __init__(self, cfg, tokenizer, images, train):
        super().__init__(cfg, tokenizer, images, train)
        self.answers = read_answers(cfg.answer_list) if cfg.answer_list else self._answers_of_training()
        if cfg.answer_head == CLASSIFIER:
            self.heads, self.classes = "labels", self.answers
        else:
            self.heads = "answers"
        self._tree = None
        self.state.merge_state_dict({"answers": self.answers})

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        if cfg.answer_head not in (DECODER, CLASSIFIER):
            raise UserError(f"--answer-head {cfg.answer_head}: choose one of {DECODER}, {CLASSIFIER}")
        refuse_remote(cfg.answer_list, "--answer-list")
        return super().setup_task(cfg, **kwargs)

    def _answers_of_training(self) -> List[str]:
        found = answers_of([example for file in self.train for example in file.examples])
        logger.info("%d answers to choose from, those of the training examples", len(found))
        return found

    def check(self, files):
        super().check(files)
        for file in files:
            if file.classes:
                raise UserError(f"{file.path}: holds labels: train with --task image_text_classification")

    def usable(self, examples, training, path):
        """A classifier trains on answers of the list only; to validation, another answer is one that is never right."""
        examples = super().usable(examples, training, path)
        known = set(self.answers)
        unknown = Counter(answer for example in examples for answer in example.answers if answer not in known)
        if unknown:
            first = ", ".join(repr(answer) for answer, _ in unknown.most_common(3))
            logger.warning(
                "%s: %d answers (%d times) are not in the list of %d, such as %s",
                *(path, len(unknown), sum(unknown.values()), len(known), first),
            )
        if self.cfg.answer_head != CLASSIFIER or not training:
            return examples
        found = [example for example in examples if known & example.answers.keys()]
        if len(found) < len(examples):
            logger.warning("%s: %d questions have no answer of the list", path, len(examples) - len(found))
        if not found:
            raise UserError(f"{path}: no question has an answer of the list")
        return found

    def targets(self, training):
        equal = self.cfg.example_form == "reference"
        return AnswerTargets(self.answers, self.tokenizer, self.cfg.answer_head == DECODER, equal)

    def chosen(self, model, questions: Dict[str, Tensor]) -> Tensor:
        """int64 [B]: the places in the list of the answers that a decoder chooses.

        Args:
            questions: ``net_input`` of a batch.
        """
        if self._tree is None:
            self._tree = AnswerTree(answer_ids(self.answers, self.tokenizer))
        tree = self._tree.to(questions["tokens"].device)
        twice = self.cfg.example_form == "reference"
        with torch.no_grad():
            text = model.encode_text(questions["tokens"], questions["eos_positions"])
            asked = model.question(text, model.encode_image(questions["images"]))
            return model.rank_answers(asked, tree, self.cfg.answer_candidates, twice).answers[:, 0]
