"""Texts of examples as ids, and the answers that questions may have."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from mlvl_fairseq.data.captions.json_rows import type_name
from mlvl_fairseq.data.examples.base import Example
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.data.text.cleaning import CLEANINGS, NO_CLEANING, cleaning, first_words
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import read_json

_ADVICE = "give a list of answers, or GQA's trainval_ans2label.json"


@dataclass
class ExampleTextOptions:
    """Options of tasks that read examples: what is done to their texts."""

    tokenizer_folder: str = field(
        default="", metadata={"help": "XLM-R folder with sentencepiece.bpe.model and dict.txt"}
    )
    cleaning: str = field(
        default=NO_CLEANING,
        metadata={
            "help": "what is done to texts before they are cut into tokens: none, or as CCLM was published, cclm for "
            "hypotheses and statements and cclm_question for questions",
            "choices": lambda: sorted(CLEANINGS),
        },
    )
    max_words: int = field(default=0, metadata={"help": "cut texts to so many words; 0: do not", "least": 0})
    eval_max_words: int = field(
        default=0, metadata={"help": "cut texts to so many words in validation; 0: as in training", "least": 0}
    )
    max_length: int = field(
        default=80, metadata={"help": "cut texts to this many tokens, <s> and </s> included", "least": 3}
    )
    eval_max_length: int = field(
        default=0, metadata={"help": "cut texts to this many tokens in validation; 0: as in training", "least": 0}
    )


class ExampleTexts:
    """Text -> ids ``<s> ... </s>``.

    Args:
        options: :class:`ExampleTextOptions`; they can be a task's. tokenizer: cuts them.
        training: whether they are cut as in training, or as in validation.

    Raises:
        UserError: there is no such cleaning.
    """

    def __init__(self, options: ExampleTextOptions, tokenizer: Tokenizer, training: bool):
        self.clean, self.tokenizer = cleaning(str(options.cleaning)), tokenizer
        words = options.max_words if training else options.eval_max_words or options.max_words
        longest = options.max_length if training else options.eval_max_length or options.max_length
        self.max_words, self.max_length = words, longest

    def cleaned(self, text: str) -> str:
        """As it is cut into tokens."""
        text = self.clean(text)
        return first_words(text, self.max_words) if self.max_words else text

    def ids(self, text: str) -> List[int]:
        """At most `max_length`."""
        pieces = self.tokenizer.encode_batch([self.cleaned(text)])[0]
        return [self.tokenizer.bos, *pieces[: self.max_length - 2], self.tokenizer.eos]

    def without_empty(self, examples: Sequence[Example]) -> Tuple[List[Example], int]:
        """Those of whose texts something is left, and how many others there are."""
        kept = [example for example in examples if self.cleaned(example.text).strip()]
        return kept, len(examples) - len(kept)


def read_answers(path) -> List[str]:
    """The answers that there are, in the order of the file: a list, or the keys of ``{answer: number}``.

    The numbers of ``trainval_ans2label.json`` are not in the order of its keys; its order is what CCLM ranks by.

    Raises:
        DataError: the file is missing or damaged, holds something else, an answer twice or none at all.
    """
    content = read_json(path, Any, _ADVICE)
    if not isinstance(content, (list, dict)):
        raise DataError(f"holds {type_name(content)}; {_ADVICE}", path)
    answers = list(content)
    for answer in answers:
        if not isinstance(answer, str) or not answer:
            raise DataError(f"holds {answer!r}, which is no answer; {_ADVICE}", path)
    if len(set(answers)) < len(answers):
        raise DataError(f"{next(one for one in answers if answers.count(one) > 1)!r} is in it twice", path)
    if not answers:
        raise DataError("holds no answer", path)
    return answers


def answers_of(examples: Sequence[Example]) -> List[str]:
    """Every answer that examples have, as they come."""
    return list(dict.fromkeys(answer for example in examples for answer in example.answers))


def weights(answers: Mapping[str, float], equal: bool) -> Dict[str, float]:
    """What each answer to a question counts in the loss, together 1: its share of their scores; `equal`: the same as
    any other, as published. Where all scores are 0, they count the same."""
    total = sum(answers.values())
    if equal or not total:
        return {answer: 1 / len(answers) for answer in answers}
    return {answer: score / total for answer, score in answers.items() if score}
