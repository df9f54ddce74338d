"""What the checkpoints of a sequence take on disk: whole ones, and those that keep what a language changed.

Two parts. *Methods*: three languages of a small world by each method; of the second language's checkpoint, how many
rows of the token embedding it keeps, against the tokens that the language uses, and its bytes against a whole one's.
*Published size*: 36 languages, a matrix 512 wide that grows from CLIP's 49,408 rows, written by the functions that
mlvl-cll calls; the weights are random, the rows that move, decay and come are as many as `--used` and `--new` say. It
says what the run takes, how long the changes of a language take to find and write, and how long its chain takes to
load, and that what is loaded is the same bit by bit.

    python benchmarks/checkpoint_sizes.py outputs/checkpoint_sizes          # both; 2 GB of disk, 5 GB of memory
    python benchmarks/checkpoint_sizes.py outputs/checkpoint_sizes --parts published --languages 12
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Dict, Tuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_world import MODEL, ORDER, SmallWorld  # noqa: E402

from mlvl_fairseq.checkpoints.archive import save_checkpoint  # noqa: E402
from mlvl_fairseq.checkpoints.changes import CHANGES, changes_since, handed_over  # noqa: E402
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file  # noqa: E402

CLIP_ROWS, WIDTH = 49_408, 512
EMBEDDING = "text.token_embedding."
METHODS = (
    "cll_clip", "cll_clip_with_teir", "cll_clip_with_teir_update", "cll_clip_with_usage_share", "lwf_with_teir", "er",
    "er_with_teir", "oewc", "oewc_with_teir", "lora", "mla", "codaprompt",
)  # fmt: skip


def learn(folder: Path, method: str) -> Path:
    """Three languages; gives the run's folder."""
    world = SmallWorld(folder / "small")
    copy = f"mlvl-prepare {world.folder}/cll {world.captions} --order {ORDER}"
    corpus = world.once("cll", copy, f"mlvl-prepare {world.folder}/cll --teacher {world.teacher}")
    run = world.folder / method
    options = f"--init-from {world.teacher} --lr 1e-3 --batch-size 8 --max-update 3 --seed 1 {MODEL} --cpu"
    world.once(method, f"mlvl-cll {corpus} {run} --method {method} --order {ORDER} --num-workers 0 {options}")
    return run


def row_of_method(run: Path) -> str:
    """Tokens that the second language uses, rows that its checkpoint keeps, all rows, bytes kept and of a whole one."""
    path = run / "01-de" / "checkpoint_best.pt"
    model = load_checkpoint_file(path)["model"]
    used = int((model["language_state.current_tokens"] > 0).sum())
    change = torch.load(path, weights_only=True)[CHANGES][1]["model"][1][EMBEDDING + "weight"]
    rows, length = (len(change[2]), change[1]) if change[0] == "rows" else (len(change[1]), len(change[1]))
    whole = sum(tensor.nbytes for tensor in model.values())
    kept = path.stat().st_size
    return f"| `{run.name}` | {used:,} | {rows:,} | {length:,} | {kept / 2**20:.2f} | {whole / 2**20:.2f} |"


def first_language(new: int, generator: torch.Generator) -> Dict:
    """What a checkpoint holds after the first language, as far as it grows with the vocabulary."""
    return with_vocabulary({"model": {EMBEDDING + "weight": draw(CLIP_ROWS + new, generator)}}, CLIP_ROWS, new)


def next_language(state: Dict, new: int, used: int, generator: torch.Generator) -> Dict:
    """Of the naive method: `new` rows come, `used` ones move, these among them, and all others decay."""
    base = handed_over(state)
    weight = torch.cat([base["model"][EMBEDDING + "weight"], torch.zeros(new, WIDTH)])
    old = torch.randperm(len(weight) - new, generator=generator)[: used - new]
    rows = torch.cat([old.sort().values, torch.arange(len(weight) - new, len(weight))])
    weight[rows] = draw(used, generator)
    decay = torch.tensor([0.9999], dtype=torch.float64).view(torch.int64)
    model = {EMBEDDING + "weight": weight, EMBEDDING + "idle_decay_bits": decay, EMBEDDING + "trained_rows": rows}
    return with_vocabulary({**base, "model": {**base["model"], **model}}, len(weight) - new, new)


def with_vocabulary(state: Dict, before: int, new: int) -> Dict:
    """Token use as the language state keeps it, and the tokens and merges that were added to CLIP's."""
    rows = state["model"][EMBEDDING + "weight"].shape[0]
    known = state.get("task_state", {"vocabulary": {"tokens": [], "merges": []}})["vocabulary"]
    tokens = [f"token{number}</w>" for number in range(before, before + new)]
    counts = {name: torch.zeros(rows, dtype=torch.int64) for name in ("earlier_share", "current_share")}
    counts["current_tokens"] = torch.zeros(rows, dtype=torch.int32)
    counts["token_frequencies"] = torch.ones(rows)
    for values in counts.values():
        values[-new:] = 1
    lists = {"tokens": known["tokens"] + tokens, "merges": known["merges"] + [f"to ken{token}" for token in tokens]}
    model = {**state["model"], **{f"language_state.{name}": values for name, values in counts.items()}}
    return {"model": model, "task_state": {"vocabulary": lists}}


def draw(rows: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=generator) * 0.02


def write_published(folder: Path, languages: int, new: int, used: int) -> Tuple[str, ...]:
    """Write the checkpoints of a run of that size, the last one whole; gives lines about them."""
    shutil.rmtree(folder, ignore_errors=True)
    generator, state, whole, took = torch.Generator().manual_seed(1), {}, 0, 0.0
    paths = [folder / f"{number:02d}" / "checkpoint_best.pt" for number in range(languages)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        before = state
        state = next_language(before, new, used, generator) if number else first_language(new, generator)
        whole += sum(tensor.nbytes for tensor in state["model"].values())
        began, is_middle = time.process_time(), 0 < number < languages - 1
        content = changes_since(handed_over(before), paths[number - 1], state, path) if is_middle else state
        save_checkpoint(content, path)
        took = time.process_time() - began if is_middle else took
        if not number:
            load_checkpoint_file(path)  # imports fairseq
        if number == languages - 2:
            began, loaded = time.process_time(), load_checkpoint_file(path)
            loading = time.process_time() - began
            same = all(
                torch.equal(value.view(torch.int32), loaded["model"][name].view(torch.int32))
                for name, value in state["model"].items()
            )
            del loaded
    kept, rows = [path.stat().st_size for path in paths], len(state["model"][EMBEDDING + "weight"])
    return (
        f"{languages} languages, each adds {new:,} rows and uses {used:,}; {rows:,} rows at the end:",
        f"{sum(kept) / 1e9:.2f} GB on disk (first {kept[0] / 1e6:.0f} MB, the others {kept[1] / 1e6:.0f} to "
        f"{kept[-2] / 1e6:.0f} MB, last {kept[-1] / 1e6:.0f} MB); all whole: {whole / 1e9:.2f} GB",
        f"the last but one: {took:.1f} CPU s to find and write its changes, {loading:.1f} CPU s to load it; "
        f"{'the same bit by bit' if same else 'NOT THE SAME'}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to work in")
    parser.add_argument("--parts", nargs="+", choices=("methods", "published"), default=["methods", "published"])
    parser.add_argument("--methods", nargs="+", default=METHODS, help="default: %(default)s")
    parser.add_argument("--languages", type=int, default=36, help="default: %(default)s")
    parser.add_argument("--new", type=int, default=7_150, help="rows that a language adds (default: %(default)s)")
    parser.add_argument("--used", type=int, default=12_000, help="rows that a language uses (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if "methods" in args.parts:
        from mlvl_fairseq.continual.run import import_training

        import_training()
        print("| method | tokens used | rows kept | rows | MiB kept | MiB whole |\n|---|---:|---:|---:|---:|---:|")
        for method in args.methods:
            print(row_of_method(learn(args.output, method)), flush=True)
    if "published" in args.parts:
        print(*write_published(args.output / "published", args.languages, args.new, args.used), sep="\n")
        shutil.rmtree(args.output / "published")


if __name__ == "__main__":
    main()
