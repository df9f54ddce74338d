"""GQA as LXMERT has it (Tan and Bansal 2019), which IGLUE trains on, and lists of the same fields for xGQA."""

from mlvl_fairseq.data.captions.json_rows import iter_list, outline
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.table import WRONG_TYPE
from mlvl_fairseq.data.examples.base import ExampleReader, register_example_reader

LAYOUTS = ("gqa/{image}.jpg", "{image}.jpg", "gqa/{image}", "{image}")
_TEXT, _ANSWERS, _IMAGE = "sent", "label", "img_id"


@register_example_reader("gqa")
class GqaReader(ExampleReader):
    """``[{"img_id": "2354786", "label": {"pipe": 1.0}, "question_id": "02930152", "sent": "What is on ...?"}, ...]``:
    each answer with its score."""

    layouts = LAYOUTS

    def sniff(self, head: str) -> bool:
        return {f"[].{_TEXT}", f"[].{_IMAGE}"} <= outline(head)

    def read(self, path, rows):
        for line, row in enumerate(iter_list("".join(raw_lines(path)), path), 1):
            found = rows.fields(row, line, **{_IMAGE: str, _TEXT: str, _ANSWERS: dict})
            if not found:
                continue
            answers = found[_ANSWERS]
            wrong = [answer for answer, score in answers.items() if not is_score(score)]
            if wrong:
                rows.skip(WRONG_TYPE, f"{answers[wrong[0]]!r} is no score of '{wrong[0]}'", line, _ANSWERS)
                continue
            image = {"image": found[_IMAGE]}
            rows.add(line, [image], found[_TEXT], _TEXT, answers=answers, id=row.get("question_id"))


def is_score(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
