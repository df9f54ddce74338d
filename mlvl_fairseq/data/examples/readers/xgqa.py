"""xGQA (Pfeiffer et al. 2022): questions of GQA in other languages, as GQA itself publishes its questions."""

from typing import Any, Dict

from mlvl_fairseq.data.captions.json_rows import outline
from mlvl_fairseq.data.examples.base import ExampleReader, register_example_reader
from mlvl_fairseq.data.examples.readers.gqa import LAYOUTS
from mlvl_fairseq.json_files import read_json

_TEXT, _ANSWER, _IMAGE = "question", "answer", "imageId"
_ADVICE = "copy it again"
MAX_BYTES = 512 << 20  # GQA's own files of all balanced questions have hundreds of MB


@register_example_reader("xgqa")
class XgqaReader(ExampleReader):
    """``{"201307251": {"question": "...", "imageId": "n161313", "answer": "no", ...}, ...}``; the answer is English,
    whatever the language of the question."""

    layouts = LAYOUTS

    def sniff(self, head: str) -> bool:
        ways = [path.split(".") for path in outline(head) if "[]" not in path]
        ids = {way[0] for way in ways if len(way) == 2 and way[1] == _TEXT}
        return bool(ids & {way[0] for way in ways if len(way) == 2 and way[1] == _IMAGE})

    def read(self, path, rows):
        questions = read_json(path, Dict[str, Any], _ADVICE, limit=MAX_BYTES, of_others=True)
        for line, (id, row) in enumerate(questions.items(), 1):
            found = rows.fields(row, line, **{_IMAGE: str, _TEXT: str})
            if found:
                answer = row.get(_ANSWER)
                answers = {answer: 1.0} if isinstance(answer, str) and answer else {}
                rows.add(line, [{"image": found[_IMAGE]}], found[_TEXT], _TEXT, answers=answers, id=id)
