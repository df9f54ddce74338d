"""What is paid before the first update, and around each: CPU seconds, which other work disturbs less than wall time.

    python benchmarks/startup.py --runs 7                     # does `fairseq-train --help` take longer with the plugin?
    python benchmarks/startup.py language --folder FOLDER     # the start of one language of COCO's size in `mlvl-cll`
    python benchmarks/startup.py batch                        # making a batch of 128 captions of that size
    python benchmarks/startup.py threads                      # idle threads that look for work, beside other work

`language` writes a generated corpus into FOLDER (once; 50 CPU s) and learns it for one update.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
USER_DIR = ROOT / "mlvl_fairseq"
COMMAND = [sys.executable, "-c", "from fairseq_cli.train import cli_main; cli_main()", "--help"]
DIMS, BATCH = 16, 128


def cpu_seconds(arguments) -> float:
    """CPU seconds (user and system) of a command and its children, which find compiled modules, as installed ones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def show_help(args: argparse.Namespace) -> None:
    plain, plugin = [], []
    for _ in range(args.runs + 1):  # the first pair warms the file cache up and is not counted
        plain.append(cpu_seconds(COMMAND))
        plugin.append(cpu_seconds([*COMMAND, "--user-dir", str(USER_DIR)]))
    differences = [b - a for a, b in zip(plain[1:], plugin[1:])]
    print("| fairseq-train --help | CPU s (median) | min | max |\n|---|---:|---:|---:|")
    for name, values in (
        ("plain", plain[1:]),
        ("with the plugin", plugin[1:]),
        ("difference, pair by pair", differences),
    ):
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")


def write_corpus(folder: Path, captions: int, images: int) -> Path:
    """A corpus of one language, its English words backwards, with random features of the teacher."""
    from mlvl_fairseq.cli.prepare import main as prepare
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.features import FeatureWriter
    from mlvl_fairseq.data.text import clip_vocabulary

    corpus, splits = folder / "corpus", {"train": captions, "valid": captions // 100, "test": captions // 100}
    if (folder / "done").exists():
        return corpus
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    tokens = (token.removesuffix("</w>") for token in clip_vocabulary().tokens if token.endswith("</w>"))
    words = np.array([token for token in tokens if token.isascii() and token.isalpha() and len(token) > 2])
    words = rng.choice(words, 3000, replace=False)
    backwards = np.array([word[::-1] for word in words])
    for split, number in splits.items():
        drawn, lengths = rng.integers(0, len(words), (number, 12)), rng.integers(8, 13, number)
        with open(folder / f"{split}.vision-en-xx.tsv", "w", encoding="utf-8") as file:
            for row, own in enumerate(map(np.ndarray.__getitem__, drawn, map(slice, lengths))):
                image = row % max(1, images * number // captions)
                file.write(f"{split}{image}.jpg\t{' '.join(words[own])}\t{' '.join(backwards[own])}\n")
    files = [f"--{split}={folder}/{split}.vision-en-{{lang}}.tsv" for split in splits]
    prepare([str(corpus), "--languages=xx", *files, "--order=xx"])
    opened = Corpus(corpus)
    for split in splits:
        for kind, names in (("image", opened.images(split)), ("text", opened.english(split))):
            with FeatureWriter(opened.feature_stem(split, kind), names, DIMS, "random", "random") as writer:
                writer.write(rng.standard_normal((len(names), DIMS)).astype(np.float32))
    (folder / "done").touch()
    return corpus


def learn_once(corpus: Path, run: Path, report: Path) -> None:
    """`mlvl-cll` for one update, in this process; what each process has taken by when goes into a file."""
    import mlvl_fairseq.cli.cll as cll
    from mlvl_fairseq.process import jobs

    def note(name: str) -> None:
        with open(report, "a", encoding="utf-8") as file:
            file.write(json.dumps({name: time.process_time()}) + "\n")

    inner, names = jobs._child, iter(("checks in a job", "captions are cut", "training", "finish", "evaluation"))

    def child(function, log) -> None:
        def work() -> None:
            if name == "training":
                from fairseq.trainer import Trainer

                step = Trainer.train_step

                def first_step(*args, **kwargs):
                    note("training until its first update")
                    return step(*args, **kwargs)

                Trainer.train_step = first_step
            function()
            note(name)

        inner(work, log)

    start = jobs.Job.__init__

    def started(*args, **kwargs) -> None:
        nonlocal name
        name = next(names)
        start(*args, **kwargs)

    name, jobs._child, jobs.Job.__init__ = "", child, started
    line = "--method cll_clip --order xx --arch clip_tiny --max-update 1 --max-epoch 1 --cpu"
    cll.main([str(corpus), str(run), *line.split(), "--embed-dim", str(DIMS)])
    note("imports and checks")


def start_language(args: argparse.Namespace) -> None:
    corpus = write_corpus(Path(args.folder), args.captions, args.images)
    counted = corpus / "bin" / "clip" / "english_counts.npy"
    parts = ("imports and checks", "checks in a job", "captions are cut", "training until its first update")
    found: Dict[str, List[float]] = {part: [] for part in ("fairseq-train --help", *parts)}
    cpu_seconds([*COMMAND, "--user-dir", str(USER_DIR)])  # compiles modules, and warms the file cache up
    for _ in range(args.runs):
        counted.unlink(missing_ok=True)
        found["fairseq-train --help"].append(cpu_seconds(COMMAND))
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report"
            cpu_seconds([sys.executable, __file__, "learn", str(corpus), str(Path(folder) / "run"), str(report)])
            noted = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
        for part in parts:
            found[part].append(next(line[part] for line in noted if part in line))
    medians = {name: statistics.median(values) for name, values in found.items()}
    plain = medians.pop("fairseq-train --help")
    print(
        f"{args.captions:,} captions of {args.images:,} images; CPU s, against fairseq-train --help ({plain:.2f} s)\n"
    )
    print("| part | CPU s | ratio |\n|---|---:|---:|")
    for name, value in {**medians, "until the first update": sum(medians.values())}.items():
        print(f"| {name} | {value:.2f} | {value / plain:.2f} |")


def make_batches(args: argparse.Namespace) -> None:
    """The data loader's way (items, then the collater) against the same arrays, copied row by row."""
    import torch
    from fairseq.data import indexed_dataset
    from torch.utils.data import ConcatDataset, DataLoader

    from mlvl_fairseq.data.caption_dataset import CaptionDataset

    rng, bos, eos = np.random.default_rng(1), 98, 99
    with tempfile.TemporaryDirectory() as folder:
        lengths = rng.integers(8, 20, 20_000)
        builder = indexed_dataset.make_builder(f"{folder}/a.bin", impl="mmap", vocab_size=60_000)
        for length in lengths:
            builder.add_item(torch.tensor([*rng.integers(0, 60_000, length - 1), eos], dtype=torch.int32))
        builder.finalize(f"{folder}/a.idx")
        tokens = indexed_dataset.MMapIndexedDataset(f"{folder}/a")
        rows = rng.integers(0, 20_000, (20_000, 2)).astype(np.int32)
        images, english = (rng.standard_normal((20_000, 512)).astype(np.float32) for _ in range(2))
        captions = CaptionDataset(
            ConcatDataset([tokens]), lengths, rows, bos, eos, images=images, english=english, shuffle=True
        )
        batches = rng.permutation(20_000)[: 100 * BATCH].reshape(-1, BATCH)

        def by_row() -> None:
            for batch in batches:
                items = [(int(rows[i, 0]), int(rows[i, 1]), tokens[i]) for i in batch]
                padded = torch.full((BATCH, max(len(text) for _, _, text in items) + 1), eos, dtype=torch.long)
                padded[:, 0] = bos
                for row, (_, _, text) in zip(padded, items):
                    row[1 : len(text) + 1] = text
                torch.from_numpy(images[[item[0] for item in items]]), torch.from_numpy(english[[i[1] for i in items]])

        def by_loader() -> None:
            for _ in DataLoader(captions, collate_fn=captions.collater, batch_sampler=batches.tolist()):
                pass

        seconds = {"a loop over rows": [], "CaptionDataset": []}
        for _ in range(args.runs):
            for name, work in (("a loop over rows", by_row), ("CaptionDataset", by_loader)):
                began = time.process_time()
                work()
                seconds[name].append((time.process_time() - began) / len(batches))
    loop, own = (1e3 * np.array(values) for values in seconds.values())
    print(f"| a batch of {BATCH} captions, 512 dimensions | CPU ms (median) |\n|---|---:|")
    print(f"| a loop over rows | {np.median(loop):.2f} |\n| CaptionDataset | {np.median(own):.2f} |")
    print(f"| ratio, pair by pair | **{np.median(own / loop):.3f}** |")


WORK = """
import sys, time, threading
if sys.argv[1] == "command": import mlvl_fairseq.cli
import torch
if sys.argv[1] == "plugin":
    from mlvl_fairseq.process.threads import sleep_when_idle
    sleep_when_idle()
torch.set_num_threads(2)
x, weight = torch.randn(128, 256), torch.randn(256, 256, requires_grad=True)
def updates(seconds, most):
    began, cpu, done = time.monotonic(), time.process_time(), 0
    while done < most and time.monotonic() < began + seconds:
        y = x
        for _ in range(6):
            y = torch.nn.functional.gelu(y @ weight / 16)
        y.sum().backward()
        done += 1
    return (time.process_time() - cpu) / done, (time.monotonic() - began) / done
updates(2, 3)
print(*updates(float(sys.argv[2]), 200))
"""


def wait_idly(args: argparse.Namespace) -> None:
    """Small updates with two threads, while one busy process a core takes its share of the machine."""
    cores = len(os.sched_getaffinity(0))
    environment = {name: value for name, value in os.environ.items() if name[:4] not in ("OMP_", "KMP_", "GOMP")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    found: Dict[str, List[np.ndarray]] = {"as torch is": [], "command": [], "plugin": []}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        for _ in range(args.runs):
            for name in found:
                line = [sys.executable, "-c", WORK, name, str(args.seconds)]
                ended = subprocess.run(line, env=environment, check=True, capture_output=True, text=True)
                found[name].append(np.array(ended.stdout.split(), float))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    shown = {"as torch is": "as torch is", "command": "`mlvl-*`", "plugin": "`fairseq-train --user-dir`"}
    print("| small update beside a busy process a core | CPU ms | ms | CPU ratio | ratio |\n|---|---:|---:|---:|---:|")
    first = np.median(found["as torch is"], axis=0)
    for name, values in found.items():
        own = np.median(values, axis=0)
        cells = [*(f"{value:.1f}" for value in 1e3 * own), *(f"{value:.3f}" for value in own / first)]
        print(f"| {shown[name]} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("help", "language", "batch", "threads"), default="help")
    parser.add_argument("--runs", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--folder", default="outputs/startup", help="of `language` (default: %(default)s)")
    parser.add_argument("--captions", type=int, default=566_000, help="of `language` (default: %(default)s)")
    parser.add_argument("--images", type=int, default=113_000, help="of `language` (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of `threads`, at most (default: %(default)s)")
    args = parser.parse_args()
    {"help": show_help, "language": start_language, "batch": make_batches, "threads": wait_idly}[args.part](args)


if __name__ == "__main__":
    if sys.argv[1:2] == ["learn"]:
        learn_once(*map(Path, sys.argv[2:]))
    else:
        main()
