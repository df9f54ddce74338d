"""XVNLI's JSON lines (Bugliarello et al. 2022): what a hypothesis is to a picture of Flickr30k."""

from mlvl_fairseq.data.captions.json_rows import iter_lines, object_lines, outline
from mlvl_fairseq.data.examples.base import ExampleReader, register_example_reader

_TEXT, _LABEL, _IMAGE = "sentence2", "gold_label", "Flikr30kID"  # spelt so
_ID = "pairID"


@register_example_reader("xvnli")
class XvnliReader(ExampleReader):
    """``{"gold_label": "entailment", "sentence2": "A man sleeps.", "Flikr30kID": "36979", ...}``; the label is ``-``
    where annotators did not agree. ``sentence1``, the premise in words, is not read: the picture stands for it."""

    classes = ("contradiction", "entailment", "neutral")
    layouts = ("flickr30k-images/{image}.jpg", "{image}.jpg", "flickr30k-images/{image}", "{image}")

    def sniff(self, head: str) -> bool:
        objects = object_lines(head)
        wanted = {_TEXT, _LABEL, _IMAGE}
        return any(wanted <= value.keys() for value in objects) if objects else wanted <= outline(head)

    def read(self, path, rows):
        for line, row in iter_lines(path, rows.skip):
            found = rows.fields(row, line, **{_IMAGE: str, _TEXT: str, _LABEL: str})
            if found:
                rows.add(line, [{"image": found[_IMAGE]}], found[_TEXT], _TEXT, found[_LABEL], id=row.get(_ID))
