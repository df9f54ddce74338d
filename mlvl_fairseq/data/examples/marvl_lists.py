"""MaRVL's lists in the form of NLVR2's, with the names of pictures as CCLM's published code has them."""

import logging
from pathlib import Path
from typing import List, Sequence

from mlvl_fairseq.data.examples.readers.marvl import FEW_SHOT, ZERO_SHOT, is_few_shot
from mlvl_fairseq.data.examples.reading import read_examples
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json

logger = logging.getLogger(__name__)


def write_marvl_lists(annotations: Sequence, out) -> List[Path]:
    """``marvl-id.jsonl`` -> ``marvl-id.json``, ``[{"sentence", "label", "images": [left, right]}, ...]``.

    Names begin with ``images/marvl-images/id/images/CONCEPT``, and those of few-shot training sets
    (``marvl-id_train10.jsonl``) with ``images/marvl_fewshot/id/all``.

    Raises:
        UserError: two files have one name. DataError: one is missing or damaged.
    """
    names = [Path(path).stem for path in annotations]
    if len(set(names)) < len(names):
        raise UserError("two of the annotation files have one name: convert them one after the other")
    written = []
    for path, name in zip(annotations, names):
        template = FEW_SHOT if is_few_shot(path) else ZERO_SHOT
        found = read_examples(path, format="marvl", template=f"images/{template}")
        rows = [
            {"sentence": example.text, "label": example.label == "True", "images": list(example.images)}
            for example in found.examples
        ]
        target = Path(out) / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, rows)
        logger.info("%s: %d statements", target, len(rows))
        written.append(target)
    return written
