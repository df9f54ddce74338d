"""All texts of what a user has: a corpus folder, records of CCLM's streams, or plain text."""

from pathlib import Path
from typing import Any, Iterator

from tqdm import tqdm

from mlvl_fairseq.data.corpus.corpus import MANIFEST, Corpus
from mlvl_fairseq.data.streams.records import Records
from mlvl_fairseq.data.streams.texts import all_texts
from mlvl_fairseq.data.text_files import sentences

RECORDS = (".jsonl", ".json", ".tar")
FIELDS = {"caption", "desc", "attributes", "source_text", "target_text"}  # of records, and of what they list


def texts_of(path, split: str = "train") -> Iterator[str]:
    """Yield them, with a progress bar.

    Args:
        path: a corpus folder, a file or folder of records (JSON lines or tar archives, see ``--image-text``), or a text
            file, one sentence a line. split: of a corpus.

    Raises:
        DataError: a file is missing or damaged. UserError: there is no record.
    """
    path = Path(path)
    if (path / MANIFEST).exists():
        corpus = Corpus(path)
        found: Iterator[str] = (text for lang in corpus.languages(split) for text in corpus.captions(split, lang))
    elif path.is_dir() or path.name.endswith(RECORDS):
        records = Records(str(path), "texts of")
        found = (text for number in range(len(records)) for text in _texts_within(records[number].fields))
    else:
        found = sentences(path)
    return iter(tqdm(found, desc=str(path), unit=" texts", leave=False))


def _texts_within(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _texts_within(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in FIELDS:
                yield from all_texts(inner)
            else:
                yield from _texts_within(inner)
