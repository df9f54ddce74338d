"""What a batch of examples asks for: a label of each, or answers to questions."""

from abc import ABC, abstractmethod
from typing import Dict, List, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mlvl_fairseq.data.examples.base import Example
from mlvl_fairseq.data.examples.texts import weights
from mlvl_fairseq.data.text import Tokenizer


class Targets(ABC):
    """Adds to a batch what is asked."""

    @abstractmethod
    def add_to(self, batch: Dict, examples: Sequence[Example]) -> None:
        """`examples`: of the batch's rows."""


class LabelTargets(Targets):
    """``labels`` int64 [B].

    Args:
        classes: labels in the order of their numbers.
    """

    def __init__(self, classes: Sequence[str]):
        self.numbers = {label: number for number, label in enumerate(classes)}

    def add_to(self, batch, examples):
        batch["net_input"]["head"] = "labels"
        batch["labels"] = torch.tensor([self.numbers[example.label] for example in examples])


class AnswerTargets(Targets):
    """``answer_weights`` float32 [A] of all answers of all rows, and which row each is of: ``answer_of`` int64 [A]. To
    be generated, their ids are in ``net_input``; to be classified, ``answer_ids`` int64 [A] are their places in the
    list. ``gold`` int64 [B] is the place of each row's best answer, -1 where it is not in the list.

    Args:
        answers: all that there are to choose from. tokenizer: to ids. generated: whether answers are generated.
        equal: see :func:`weights`.
    """

    def __init__(self, answers: Sequence[str], tokenizer: Tokenizer, generated: bool, equal: bool):
        self.places = {answer: place for place, answer in enumerate(answers)}
        self.tokenizer, self.generated, self.equal = tokenizer, generated, equal

    def add_to(self, batch, examples):
        rows = [weights(self._known(example.answers), self.equal) for example in examples]
        answers = [answer for row in rows for answer in row]
        batch["answer_weights"] = torch.tensor([weight for row in rows for weight in row.values()])
        batch["answer_of"] = torch.tensor([number for number, row in enumerate(rows) for _ in row], dtype=torch.long)
        batch["gold"] = torch.tensor([self.places.get(example.answer, -1) for example in examples])
        if self.generated:
            ids = padded("answers", "last", answer_ids(answers, self.tokenizer), self.tokenizer.pad)
            told = torch.arange(ids["answers"].shape[1] - 1) < ids["last"][:, None]
            places = torch.from_numpy(np.flatnonzero(told.numpy()))
            own = {"answers": ids["answers"], "answer_places": places, "answer_of": batch["answer_of"]}
            batch["net_input"].update(head="answers", **own)
        else:
            batch["net_input"]["head"] = "labels"
            batch["answer_ids"] = torch.tensor([self.places[answer] for answer in answers], dtype=torch.long)

    def _known(self, answers: Mapping[str, float]) -> Mapping[str, float]:
        """Those that a loss can be of: a classifier knows none but the list's."""
        return {answer: score for answer, score in answers.items() if self.generated or answer in self.places}


def answer_ids(answers: Sequence[str], tokenizer: Tokenizer) -> List[List[int]]:
    """Ids ``<s> ... </s>`` of answers, which are neither cleaned nor cut."""
    return [[tokenizer.bos, *ids, tokenizer.eos] for ids in tokenizer.encode_batch(list(answers))]


def padded(name: str, last: str, texts: Sequence[Sequence[int]], pad: int) -> Dict[str, Tensor]:
    """Ids of texts int64 [rows, longest], and where each ends, int64 [rows]."""
    rows = [torch.tensor(text) for text in texts]
    return {
        name: pad_sequence(rows, batch_first=True, padding_value=pad),
        last: torch.tensor([len(text) - 1 for text in texts]),
    }
