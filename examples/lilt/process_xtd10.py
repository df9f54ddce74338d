#!/usr/bin/env python
"""LilT's files for training and evaluating on XTD10: python process_xtd10.py XTD10_DIR COCO_TRAIN_DIR OUTPUT_DIR

The three folders are the constants of the published script, as arguments: that of `test_image_names.txt` and
`test_1kcaptions_{es,it,ko,pl,ru,tr,zh}.txt`, that of COCO's train2014 pictures, and that of the sixteen JSON files.
`train*.json` are for `mlvl-prepare --train` (with `--image-root COCO_TRAIN_DIR`), `val*.json` for `mlvl-evaluate
--captions` with the folder that holds `val2014` as `--image-root`.
"""

import argparse
from typing import List, Optional

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.captions.xtd10 import write_lilt_files


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, about in (
        ("xtd10_dir", "folder of the published text"),
        ("coco_train_dir", "written into the training files"),
        ("output_dir", "made if it is not there"),
    ):
        parser.add_argument(name, metavar=name.upper(), help=about)
    args = parser.parse_args(argv)
    for line in list(write_lilt_files(args.xtd10_dir, args.coco_train_dir, args.output_dir)):
        print(line)


if __name__ == "__main__":
    run(main)
