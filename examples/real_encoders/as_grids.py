"""Rows of picture_features.py --grid as grids [pictures, positions, dimensions], with their names: what CCLM takes.

python examples/real_encoders/as_grids.py features/train.npy grids/train.npy
"""

import argparse
from pathlib import Path
from typing import List, Optional

import numpy as np

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.cli.common import run, tell_written
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, write_text
from mlvl_fairseq.modules.towers.efficientnet_lite import WIDTH


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="FILE.npy of picture_features.py --grid, beside FILE.images.txt")
    parser.add_argument("out", type=Path, help="FILE.npy to write; names of its rows go to FILE.txt")
    args = parser.parse_args(argv)
    rows = map_array(args.rows, ("float16", "float32"), ("n", "d"))
    if rows.shape[1] % WIDTH:
        raise DataError(f"has rows of {rows.shape[1]} numbers, which are no states of {WIDTH}", args.rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.out) as path, open(path, "wb") as file:
        np.save(file, rows.reshape(len(rows), -1, WIDTH))
    names = args.out.with_suffix(".txt")
    write_text(names, "".join(f"{name}\n" for name in text_lines(args.rows.with_suffix(".images.txt"))))
    tell_written(args.out, names)


if __name__ == "__main__":
    run(main)
