"""Do commands read damaged and hostile files, or refuse them in one line? Never a traceback, a hang, gigabytes of
memory, or a file outside the folder they were given.

Takes valid files of every kind that a command reads (see fuzzing/kinds.py), damages one of them (fuzzing/mutations.py)
and lets the commands that read it run, in forked children of one process with limits on time and memory; a part of the
inputs is then tried by the commands themselves. An input is read, refused (one line that names a file, exit status 2),
refused vaguely (no file is named), or a failure. With --bit-flips single bits are flipped in files that the project
writes itself: each must be noticed. Exit status 0: no failure.

    python benchmarks/fuzz.py --inputs 2000 --commands 100 --bit-flips 100     # about ten minutes
    python benchmarks/fuzz.py --kind corpus_manifest --inputs 300 --seed 7
    python benchmarks/fuzz.py --reproduce 1:corpus_manifest:12 --to outputs/case
"""

import argparse
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Dict, Iterable, List, Optional

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzzing.kinds import KINDS, Kind, find_formats  # noqa: E402
from fuzzing.trying import (  # noqa: E402
    COMMAND_MIB,
    FAILED,
    READ,
    REFUSED,
    VAGUE,
    Input,
    Outcome,
    inputs_of,
    try_as_command,
    try_in_children,
)
from small_world import SmallWorld, import_everything  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000, help="tried in this process (default: %(default)s)")
    parser.add_argument("--commands", type=int, default=100, help="tried by the commands (default: %(default)s)")
    parser.add_argument("--bit-flips", type=int, default=0, metavar="N", help="flip so many bits in files of ours, too")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--kind", metavar="PATTERNS", default="*", help="only these kinds, by comma (default: all)")
    parser.add_argument("--seconds", type=float, default=20.0, help="limit of one input (default: %(default)s)")
    parser.add_argument("--shown", type=int, default=40, metavar="N", help="failures listed (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/fuzz"), help="of the valid files, which are made once"
    )
    parser.add_argument("--list-kinds", action="store_true", help="list the kinds and exit")
    parser.add_argument("--reproduce", metavar="ID", help="write this input to a folder, try it and say how it ended")
    parser.add_argument("--to", type=Path, default=Path("fuzz-input"), help="that folder (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = build_parser().parse_args(argv)
    import_everything()
    lacking = find_formats()
    kinds = [
        kind for name, kind in sorted(KINDS.items()) if any(fnmatch(name, pattern) for pattern in args.kind.split(","))
    ]
    if args.list_kinds:
        print("\n".join(f"{kind.name:40} {', '.join(kind.damaged)}" for kind in kinds))
        return 0
    world, scratch = SmallWorld(args.folder / "valid"), args.folder.resolve() / f"scratch.{os.getpid()}"
    if args.reproduce:
        return reproduce(Input.from_id(args.reproduce), world, scratch, args)
    make_valid(kinds, world, scratch)
    failed = bool(lacking)
    if lacking:
        print(f"no sample of captions in these formats: {', '.join(lacking)} (add one to fuzzing/kinds.py)")
    if args.inputs:
        inputs = inputs_of(kinds, args.inputs, args.seed)
        journal = args.folder / f"failures.{args.seed}.txt"
        outcomes = collect(try_in_children(inputs, world, scratch, args.seconds), len(inputs), "inputs", journal)
        failed |= report("in one process, with limits", outcomes, args.shown)
    if args.commands:
        inputs = inputs_of(kinds, args.commands, args.seed)[: args.commands]
        tried = (try_as_command(one, world, scratch, 3 * args.seconds) for one in inputs)
        outcomes = collect(tried, len(inputs), "commands")
        failed |= report(f"by the commands ({COMMAND_MIB} MiB each, libraries included)", outcomes, args.shown)
    if args.bit_flips:
        failed |= flip_bits([kind for kind in kinds if kind.sealed], world, scratch, args)
    return int(failed)


def flip_bits(kinds: List[Kind], world: SmallWorld, scratch: Path, args) -> bool:
    """Flip one bit at a time in sealed files; true if one is read as if nothing had happened."""
    inputs = inputs_of([replace(kind, share=1.0) for kind in kinds], args.bit_flips, args.seed)[: args.bit_flips]
    flipped = try_in_children(inputs, world, scratch, args.seconds, only="flip_one_bit")
    outcomes = collect(flipped, len(inputs), "bit flips")
    noticed = sum(one.verdict in (REFUSED, VAGUE) for one in outcomes)
    print(f"\nbit flips: {noticed} of {len(outcomes)} noticed, in {len(kinds)} kinds of files")
    for one in outcomes:
        if one.verdict not in (REFUSED, VAGUE):
            print(f"- {one.input.id} {one.what}: {one.verdict} {one.detail}")
    return noticed < len(outcomes)


def make_valid(kinds, world: SmallWorld, scratch: Path) -> None:
    """Make every valid file, and try each kind undamaged: the control. Says which ones are not read."""
    for kind in tqdm(kinds, desc="valid files", unit=" kinds"):
        shutil.rmtree(scratch, ignore_errors=True)
        unit = scratch / "control"
        unit.mkdir(parents=True)
        kind.prepare(world, unit)
    shutil.rmtree(scratch, ignore_errors=True)
    control = [Input(kind.name, -1, 0) for kind in kinds]
    for outcome in collect(try_in_children(control, world, scratch, 120, only="nothing"), len(control), "controls"):
        if outcome.verdict != READ:
            print(f"not read undamaged: {outcome.input.kind}: {outcome.detail}")


def collect(outcomes: Iterable[Outcome], total: int, title: str, journal: Optional[Path] = None) -> List[Outcome]:
    """With a progress bar that counts failures; each of them is written to `journal` at once."""
    found: List[Outcome] = []
    if journal is not None:
        journal.unlink(missing_ok=True)
    with tqdm(total=total, desc=title, unit=" inputs") as bar:
        for outcome in outcomes:
            found.append(outcome)
            if journal is not None and outcome.verdict == FAILED:
                with open(journal, "a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{outcome.input.id}\t{outcome.what}\t{outcome.detail}\n")
            bar.set_postfix(failed=sum(one.verdict == FAILED for one in found), refresh=False)
            bar.update()
    return found


def report(title: str, outcomes: List[Outcome], shown: int) -> bool:
    """Print the table and the failures; true if there are any."""
    by_kind: Dict[str, List[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.input.kind].append(outcome)
    print(f"\n{len(outcomes)} inputs {title}\n")
    print(
        "| kind | inputs | read | refused | vague | failed | peak MiB | slowest s |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for name, own in [*sorted(by_kind.items()), ("all", outcomes)]:
        verdicts = [one.verdict for one in own]
        counts = " | ".join(str(verdicts.count(verdict)) for verdict in (READ, REFUSED, VAGUE, FAILED))
        peak, slowest = max(one.mib for one in own), max(one.seconds for one in own)
        print(f"| {name} | {len(own)} | {counts} | {peak:.0f} | {slowest:.1f} |")
    for verdict, heading in ((FAILED, "failures"), (VAGUE, "refused, and no file is named")):
        groups = grouped([one for one in outcomes if one.verdict == verdict])
        if groups:
            print(f"\n{heading}: {sum(map(len, groups.values()))}, {len(groups)} kinds of them; one of each")
        for (name, detail), own in sorted(groups.items(), key=lambda item: -len(item[1]))[:shown]:
            print(f"- {len(own)} x {name}: {own[0].detail}\n    {own[0].what}\n    --reproduce {own[0].input.id}")
    return any(one.verdict == FAILED for one in outcomes)


def grouped(outcomes: List[Outcome]) -> Dict[tuple, List[Outcome]]:
    """By kind and place of the error."""
    groups: Dict[tuple, List[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.input.kind, one.detail.partition(": ")[0]].append(one)
    return groups


def reproduce(one: Input, world: SmallWorld, scratch: Path, args) -> int:
    folder = args.to.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines, what = one.write(world, folder)
    outcome = next(iter(try_in_children([one], world, scratch, args.seconds)))
    print(f"{what}\n" + "".join(f"$ {line}\n" for line in lines))
    print(f"{outcome.verdict}: {outcome.detail} ({outcome.seconds:.1f} s, {outcome.mib:.0f} MiB)")
    return int(outcome.verdict == FAILED)


if __name__ == "__main__":
    sys.exit(main())
