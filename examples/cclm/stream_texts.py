"""Every text of a file of JSON lines (image-text, regions, parallel, monolingual), one a line, to train a tokenizer on.

python examples/cclm/stream_texts.py world/streams/train/*.jsonl > texts
"""

import argparse
from pathlib import Path
from typing import Any, Iterator, List, Optional

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.streams.records import Records
from mlvl_fairseq.data.streams.texts import all_texts

FIELDS = ("caption", "desc", "source_text", "target_text")


def texts(fields: dict) -> Iterator[str]:
    """Those of a record."""
    said: List[Any] = [fields.get(name) for name in FIELDS]
    for element in fields.get("elems") or []:
        said += [element.get("caption"), element.get("attributes")]
    return (text for value in said for text in all_texts(value))


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args(argv).files:
        records = Records(str(path), "FILES")
        for number in range(len(records)):
            for text in texts(records[number].fields):
                print(" ".join(text.split()))


if __name__ == "__main__":
    run(main)
