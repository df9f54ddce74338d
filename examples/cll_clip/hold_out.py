"""Set photos of a training set aside as a test set, in every language.

Which ones is told by a checksum of their names, the same on any machine and in any order of rows. Of each language
`train.vision-en-LANG.tsv` goes on without them, and `test.LANG.json` holds all of their captions.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Set

from mlvl_fairseq.cli.common import positive, run
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import read_text, write_json, write_text
from mlvl_fairseq.json_files import read_json


@dataclass
class Row:
    """One caption of `train.LANG.json`."""

    image: str
    image_id: int
    caption: str


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with train.vision-en-LANG.tsv and train.LANG.json")
    parser.add_argument("output", type=Path, help="folder for both parts")
    parser.add_argument("--languages", required=True, help="comma list")
    parser.add_argument("--photos", type=positive, default=500, help="photos to set aside (default: %(default)s)")
    return parser


def main(argv=None) -> None:
    args = build_parser().parse_args(argv)
    captions = {lang: _captions(args.data / f"train.{lang}.json") for lang in args.languages.split(",")}
    photos = set.intersection(*(set(by_image) for by_image in captions.values()))
    if len(photos) <= args.photos:
        raise UserError(f"--photos {args.photos}: only {len(photos)} photos have captions in all of {args.languages}")
    aside = set(sorted(photos, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[: args.photos])
    args.output.mkdir(parents=True, exist_ok=True)
    for lang, by_image in captions.items():
        rows = [
            {"image": name, "image_id": by_image[name][0].image_id, "caption": [row.caption for row in by_image[name]]}
            for name in sorted(aside)
        ]
        write_json(args.output / f"test.{lang}.json", rows)
        kept = _write_training(args.data, args.output, f"train.vision-en-{lang}.tsv", aside)
        print(f"{lang}: {kept:,} captions to learn from; {args.photos} photos set aside")


def _captions(path: Path) -> Dict[str, List[Row]]:
    by_image = {}
    for row in read_json(path, List[Row], advice="see docs/data.md"):
        by_image.setdefault(row.image, []).append(row)
    return by_image


def _write_training(data: Path, output: Path, name: str, aside: Set[str]) -> int:
    kept = [line for line in read_text(data / name).split("\n") if line and line.split("\t", 1)[0] not in aside]
    write_text(output / name, "\n".join(kept) + "\n")
    return len(kept)


if __name__ == "__main__":
    run(main)
