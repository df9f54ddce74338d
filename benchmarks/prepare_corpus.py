"""What does preparing a corpus of the published size take: CPU seconds, memory and disk a language?

Captions are made of real ones: the beginning of one and the end of another one of the same language, in the middle of
words where these are not written apart. `mlvl-prepare` runs on them in a process of its own.

    python benchmarks/prepare_corpus.py --captions 'data/train.{lang}.json' --languages en,de,zh --number 566000
"""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List

CAPTIONS_AN_IMAGE = 5


def recombined(captions: List[str], number: int, seed: int) -> List[str]:
    """`number` captions, each of the first half of one caption and the second half of another one."""
    draw = random.Random(seed)
    halves = [_halves(caption) for caption in captions]
    return [draw.choice(halves)[0] + draw.choice(halves)[1] for _ in range(number)]


def _halves(caption: str):
    words = caption.split(" ")
    if len(words) > 3:
        middle = len(words) // 2
        return " ".join(words[:middle]) + " ", " ".join(words[middle:])
    middle = len(caption) // 2
    return caption[:middle], caption[middle:]


def write_captions(pattern: str, lang: str, number: int, path: Path) -> None:
    """A JSON list of `number` captions, five an image."""
    rows = json.loads(Path(pattern.replace("{lang}", lang)).read_text(encoding="utf-8"))
    texts = recombined([row["caption"] for row in rows], number, seed=1)
    made = [
        {"image": f"train2014/COCO_train2014_{place // CAPTIONS_AN_IMAGE:012d}.jpg", "caption": text}
        for place, text in enumerate(texts)
    ]
    path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(command: List[str]) -> dict:
    """Run a command; what it took, its processes together, and the largest memory of one of them."""
    start = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{shlex.join(command)}: exit status {process.returncode}")
    return {"wall": time.monotonic() - start, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", required=True, help="JSON lists of real captions; {lang} stands for the language")
    parser.add_argument("--languages", default="en,de,zh", help="the first is the source (default: %(default)s)")
    parser.add_argument("--number", type=int, default=566_000, help="captions a language (default: %(default)s)")
    parser.add_argument("--folder", default="prepare_corpus", help="where to work (default: %(default)s)")
    parser.add_argument("--at-once", action="store_true", help="all languages with one command, not one after another")
    parser.add_argument("--options", default="", help="more options of mlvl-prepare")
    args = parser.parse_args()
    folder, languages = Path(args.folder), args.languages.split(",")
    (folder / "captions").mkdir(parents=True, exist_ok=True)
    for lang in languages:
        path = folder / "captions" / f"train.{lang}.json"
        if not path.exists():
            write_captions(args.captions, lang, args.number, path)
    shutil.rmtree(folder / "corpus", ignore_errors=True)
    prepare = [sys.executable, "-m", "mlvl_fairseq.cli.prepare", str(folder / "corpus"), *shlex.split(args.options)]
    files = ["--train", f"{folder}/captions/train.{{lang}}.json", "--languages"]
    if args.at_once:
        steps = [[*files, args.languages, "--order", args.languages]]
    else:
        steps = [[*files, lang] for lang in languages]
        steps += [["--order", ",".join(languages[: step + 1])] for step in range(len(languages))]
    print(f"{args.number:,} captions a language\n")
    print("| options | CPU s | wall s | peak MiB of a process | corpus, MB |\n|---|--:|--:|--:|--:|")
    for options in steps:
        took = measure([*prepare, *options])
        size = size_of(folder / "corpus") / 1e6
        shown = " ".join(options[-2:])
        print(f"| `{shown}` | {took['cpu']:.1f} | {took['wall']:.1f} | {took['mib']:.0f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()
