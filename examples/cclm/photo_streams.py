"""Captions of photos and parallel sentences as streams for CCLM.

Writes OUT/image_text.jsonl (a line a photo, with every caption of the given languages), OUT/parallel.jsonl (English and
its translation), OUT/held_out.txt (captions of the photos to search), and names of photos: train.txt, valid.txt.

  python examples/cclm/photo_streams.py flickr8k multi30k streams --languages en,pt --parallel de --search en,de,nl
"""

import argparse
import json
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional

from mlvl_fairseq.cli.common import language_order, run, tell_written
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.reading import read_captions
from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_text


def records(tables: Dict[str, CaptionTable]) -> Iterator[Dict]:
    """A record a photo; its k-th entry of captions has the k-th of each language, which begins again at its end."""
    of_photo: Dict[str, Dict[str, List[str]]] = {}
    for lang, table in tables.items():
        for row, caption in zip(table.image_rows, table.captions):
            of_photo.setdefault(table.images[row], {}).setdefault(lang, []).append(caption)
    for name, by_language in of_photo.items():
        most = max(map(len, by_language.values()))
        entries = [{lang: texts[k % len(texts)] for lang, texts in by_language.items()} for k in range(most)]
        yield {"image": name, "caption": entries}


def pairs(folder: Path, languages: List[str]) -> Iterator[Dict[str, str]]:
    """English and its translation, of train.en and train.LANG. Raises DataError: they have not as many lines."""
    english = list(text_lines(folder / "train.en"))
    for lang in languages:
        other = list(text_lines(folder / f"train.{lang}"))
        if len(other) != len(english):
            raise DataError(f"has {len(other)} lines, and train.en has {len(english)}", folder / f"train.{lang}")
        yield from ({"source_text": text, "target_text": translated} for text, translated in zip(english, other))


def as_json(record: Dict) -> str:
    return json.dumps(record, ensure_ascii=False)


def tables_of(pattern: Path, languages: str) -> Dict[str, CaptionTable]:
    return {lang: read_captions(str(pattern).format(lang=lang), lang=lang) for lang in language_order(languages)}


def write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with train.LANG.json and val.LANG.json")
    parser.add_argument("sentences", type=Path, help="folder with train.LANG, one sentence a line, the same in each")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--languages", required=True, metavar="LIST", help="of captions to train on")
    parser.add_argument("--parallel", required=True, metavar="LIST", help="that English is translated to")
    parser.add_argument("--search", required=True, metavar="LIST", help="of captions that photos are searched by")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    tables = tables_of(args.photos / "train.{lang}.json", args.languages)
    write_lines(args.out / "image_text.jsonl", map(as_json, records(tables)))
    write_lines(args.out / "parallel.jsonl", map(as_json, pairs(args.sentences, language_order(args.parallel))))
    searched = tables_of(args.photos / "val.{lang}.json", args.search)
    texts = (text for table in searched.values() for text in table.captions)
    write_lines(args.out / "held_out.txt", (" ".join(text.split()) for text in texts))
    for split, read in (("train", tables), ("valid", searched)):
        write_lines(args.out / f"{split}.txt", dict.fromkeys(name for table in read.values() for name in table.images))
    tell_written(args.out)


if __name__ == "__main__":
    run(main)
