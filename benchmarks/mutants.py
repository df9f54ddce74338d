"""Does the test suite notice when a line is wrong? Mutants of the code, and the tests that should fail on each.

A mutant is the project with one small change (`mutations.py`): a comparison turned, + for -, a constant one off, a call
left out, a condition negated, arguments swapped, no_grad removed, None returned. Mutants are drawn by seed, files in
turn; each is tried on the tests that reach the changed function, the fastest first, until one fails ("killed"). What
survives is a hole in the tests, or an equivalent program. Everything happens in a copy: the checkout is never changed.

    python benchmarks/mutants.py                                # 32 mutants a package; interrupted, it continues
    python benchmarks/mutants.py --package losses --per-package 50 --seed 7
    python benchmarks/mutants.py --list --package optim         # what would be tried
    python benchmarks/mutants.py --again                        # survivors once more, after tests were written
    python benchmarks/mutants.py --table                        # the results so far

The first run finds out which test reaches which function: the suite runs once, in a copy that records it (about 15
minutes on two cores; `--tests tests/losses tests/optim` takes less). The map is kept; only test files that have changed
since run again. Torch and fairseq are imported once; every run of tests is forked from there.
"""

import argparse
import difflib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import islice, zip_longest
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from mutations import Mutation, functions_of, mutations

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "mlvl_fairseq"
PACKAGES = ("continual", "losses", "optim", "evaluation", "checkpoints")
RECORDER = "_reached"  # the module of a recording copy that notes which test reaches which function
MEMORY = 16 * 2**30  # bytes of address space: a mutant may ask for anything
KILLED, SLOW, SURVIVED, UNREACHED = "killed", "too slow", "survived", "no test reaches it"


# Runs of tests, each in a process of its own, in a copy of the project.
def copy_project(folder: Path) -> Path:
    """What git knows, and new files, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def import_libraries() -> None:
    """What every run of tests imports, but nothing of the project's own."""
    import fairseq_cli.train  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import torch._dynamo  # noqa: F401
    import torchvision  # noqa: F401

    torch.set_num_threads(1)


@dataclass
class Run:
    """pytest at work in a copy.

    Args:
        folder: the copy. arguments: of pytest.
        seconds: of computing time that it may take; ten times as much on the clock.
    """

    folder: Path
    arguments: List[str]
    seconds: float
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.report = self.folder / "report.jsonl"
        self.report.unlink(missing_ok=True)
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            self._child()

    def _child(self) -> None:
        try:
            os.setsid()
            output = os.open(self.folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.chdir(self.folder)
            os.environ.update(PYTHONPATH=str(self.folder), OMP_NUM_THREADS="1")
            sys.path[:] = [str(self.folder), *(path for path in sys.path if not Path(path).is_relative_to(ROOT))]
            sys.path += [path for path in ORIGINAL_PATH if "site-packages" in path and path not in sys.path]
            resource.setrlimit(resource.RLIMIT_CPU, (int(self.seconds) + 1, int(self.seconds) + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            import pytest

            temporary = ["--basetemp", str(self.folder / "tmp"), "-p", "no:cacheprovider", "--disable-warnings", "-q"]
            os._exit(pytest.main([*self.arguments, *temporary], plugins=[_Reporter(self.report)]))
        finally:
            os._exit(1)

    def has_ended(self) -> bool:
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if not ended and time.monotonic() - self.started < 10 * self.seconds:
            return False
        if not ended:
            self.stop()
        self.status = os.waitstatus_to_exitcode(status) if ended else -signal.SIGKILL
        return True

    def stop(self) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)

    def results(self) -> List[dict]:
        """Each test that has ended: name, whether it passed, and seconds; last, once all were run, one without name."""
        lines = self.report.read_text(encoding="utf-8").splitlines() if self.report.exists() else []
        return [json.loads(line) for line in lines]


class _Reporter:
    """Writes down how each test ended, at once: the process may be killed."""

    def __init__(self, path: Path):
        self.file, self.seconds, self.failed = open(path, "w", encoding="utf-8", buffering=1), 0.0, False

    def write(self, **entry) -> None:
        self.file.write(json.dumps(entry) + "\n")

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.write(test=report.nodeid, passed=False, seconds=0.0)

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds += report.duration
        self.failed |= report.failed
        if report.when == "teardown":
            self.write(test=report.nodeid, passed=not self.failed, seconds=round(self.seconds, 3))
            self.seconds, self.failed = 0.0, False

    def pytest_sessionfinish(self) -> None:
        self.write(test=None, passed=True, seconds=0.0)


ORIGINAL_PATH = list(sys.path)


# Which test reaches which function.
class Map:
    """Test file -> digest, and of each of its tests that passes: seconds and the functions that it reaches."""

    def __init__(self, path: Path, tests: List[str]):
        self.path = path
        self.files: Dict[str, dict] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        places = [ROOT / name for name in tests]
        wanted = {file for place in places for file in ([place] if place.is_file() else place.rglob("test_*.py"))}
        self.wanted = {str(file.relative_to(ROOT)): _digest(file) for file in sorted(wanted)}

    @property
    def outdated(self) -> List[str]:
        return [name for name, digest in self.wanted.items() if self.files.get(name, {}).get("digest") != digest]

    def update(self, folder: Path, bar) -> None:
        """Run the test files that have changed, in a copy that records what they reach."""
        files = self.outdated
        if not files:
            return
        log = folder / "reached"
        for package in PACKAGES:
            for path in (folder / SOURCE / package).rglob("*.py"):
                path.write_text(_recording(path.relative_to(folder), path.read_text(encoding="utf-8")), "utf-8")
        (folder / f"{RECORDER}.py").write_text(RECORDER_TEXT.format(path=str(log)), encoding="utf-8")
        run = Run(folder, files, 3600)
        try:
            while not run.has_ended():
                time.sleep(1)
                ended = run.results()
                bar.set_postfix_str(f"{len(ended)} tests of {len(files)} files run once, to see what they reach")
        except BaseException:
            run.stop()
            raise
        ended = run.results()
        if not ended or ended[-1]["test"] is not None:
            sys.exit(f"the tests of the unchanged project stopped half-way:\n{(folder / 'output').read_text()[-3000:]}")
        reached = defaultdict(set)
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            function, _, test = line.partition("\t")
            reached[test].add(function)
        for name in files:
            tests = {
                entry["test"]: {"seconds": entry["seconds"], "reaches": sorted(reached[entry["test"]])}
                for entry in ended
                if entry["test"] and entry["test"].startswith(name) and entry["passed"]
            }
            self.files[name] = {"digest": self.wanted[name], "tests": tests}
        failed = [entry["test"] for entry in ended if not entry["passed"]]
        if failed:
            print(f"{len(failed)} tests fail without any mutation and are left out:", *failed[:20], sep="\n  ")
        _write(self.path, self.files)

    def tests_for(self, mutation: Mutation, budget: float) -> Tuple[List[str], float]:
        """The tests to run, file by file, and how long they take: `budget` seconds of those that reach the function,
        then of those beside tests that reach its file (no test reaches what is done when a module is imported), then,
        where there are none, of those that reach its folder; of each the fastest first."""
        function, file, folder = f"{mutation.path}:{mutation.function}", f"{mutation.path}:", Path(mutation.path).parent
        rated = []
        for name in self.wanted:
            tests = self.files[name]["tests"]
            is_near = any(reached.startswith(file) for entry in tests.values() for reached in entry["reaches"])
            for test, entry in tests.items():
                in_folder = any(reached.startswith(f"{folder}/") for reached in entry["reaches"])
                rings = (function in entry["reaches"], is_near, in_folder)
                if any(rings):
                    rated.append((rings.index(True), entry["seconds"], name, test))
        rated.sort()
        chosen, seconds = defaultdict(list), 0.0
        for ring, needs, name, test in rated:
            if chosen and (seconds + needs > budget or ring == 2 > rated[0][0]):
                break
            chosen[name].append(test)
            seconds += needs
        return [test for tests in chosen.values() for test in tests], seconds


def _recording(path: Path, text: str) -> str:
    """The file with a line at the start of every function that notes its being reached."""
    import ast

    tree = ast.parse(text)
    for name, node in functions_of(tree):
        note = ast.parse(f"__import__({RECORDER!r}).reached({f'{path}:{name}'!r})").body[0]
        node.body.insert(int(ast.get_docstring(node) is not None), note)
    return ast.unparse(ast.fix_missing_locations(tree))


RECORDER_TEXT = """import os
file, known = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), set()
def reached(function):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    if (function, test) not in known:
        known.add((function, test))
        os.write(file, f"{{function}}\\t{{test}}\\n".encode())
"""  # pytest tells the test in the environment, which processes that a test starts inherit


# Which mutants, and what became of them.
def draw(package: str, number: int, seed: int) -> List[Mutation]:
    """Mutations of a package: its files in turn, in the order of a hash with the seed, one a line at most."""
    files = []
    for path in sorted((ROOT / SOURCE / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        lines: Dict[int, Mutation] = {}
        for mutation in sorted(mutations(name, text_of(name)), key=lambda m: _rank(seed, m.id)):
            lines.setdefault(mutation.line, mutation)
        files.append(list(lines.values()))
    files.sort(key=lambda found: _rank(seed, found[0].path) if found else "")
    turns = (mutation for turn in zip_longest(*files) for mutation in turn if mutation)
    return list(islice((m for m in turns if m.apply(text_of(m.path)) is not None), number))


@lru_cache(maxsize=None)
def text_of(path: str) -> str:
    """A source file as it was when it was first asked for, however the checkout changes meanwhile."""
    return (ROOT / path).read_text(encoding="utf-8")


def _rank(seed: int, name: str) -> str:
    return sha256(f"{seed}/{name}".encode()).hexdigest()


def diff_of(mutation: Mutation) -> str:
    """The changed lines, - and +."""
    text = text_of(mutation.path)
    lines = difflib.unified_diff(text.splitlines(), mutation.apply(text).splitlines(), lineterm="", n=0)
    return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


class Results:
    """A file of JSON lines, one a mutant that was tried; the last one of a mutant counts."""

    def __init__(self, path: Path):
        self.path, self.entries = path, {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.entries[entry["id"]] = entry

    def add(self, mutation: Mutation, status: str, seconds: float, test: str, tests: int) -> None:
        place = {"id": mutation.id, "path": mutation.path, "line": mutation.line, "kind": mutation.kind}
        entry = {**place, "status": status, "seconds": round(seconds, 1), "test": test, "tests": tests}
        self.entries[mutation.id] = {**entry, "diff": diff_of(mutation)}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.entries[mutation.id], ensure_ascii=False) + "\n")


def try_mutants(todo: List[Mutation], tests: Map, results: Results, args, folders: List[Path], bar) -> None:
    """Run the tests of each mutant, in as many copies at once as there are folders."""
    waiting, free, running = iter(todo), list(folders), {}
    try:
        while True:
            while free:
                mutation = next(waiting, None)
                if mutation is None:
                    break
                chosen, seconds = tests.tests_for(mutation, args.budget)
                if not chosen:
                    results.add(mutation, UNREACHED, 0.0, "", 0)
                    bar.update()
                    continue
                folder = free.pop()
                restore = _put(folder, mutation, len(results.entries) + len(running))
                arguments = ["-x", *chosen]
                running[folder] = (mutation, restore, len(chosen), Run(folder, arguments, 30 + 4 * seconds))
            if not running:
                return
            time.sleep(0.05)
            for folder, (mutation, restore, number, run) in list(running.items()):
                if run.has_ended():
                    restore()
                    del running[folder]
                    free.append(folder)
                    results.add(mutation, *_outcome(run), number)
                    bar.update()
                    counts = Counter(results.entries[m.id]["status"] for m in todo if m.id in results.entries)
                    bar.set_postfix_str(", ".join(f"{number} {status}" for status, number in counts.items()))
    finally:
        for _, _, _, run in running.values():
            run.stop()


def _put(folder: Path, mutation: Mutation, number: int):
    """Write the mutant into the copy; gives what takes it back. Python trusts compiled files by their source's time."""
    path = folder / mutation.path
    text, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(mutation.apply(text_of(mutation.path)), encoding="utf-8")
    os.utime(path, (times.st_atime, times.st_mtime + 10 + number))

    def restore():
        path.write_text(text, encoding="utf-8")
        os.utime(path, (times.st_atime, times.st_mtime))

    return restore


def _outcome(run: Run) -> Tuple[str, float, str]:
    """Status, seconds, and the test that has failed."""
    seconds, ended = time.monotonic() - run.started, run.results()
    failed = [entry["test"] for entry in ended if not entry["passed"]]
    if failed:
        return KILLED, seconds, failed[0]
    if run.status == 0:
        return SURVIVED, seconds, ""
    # without a failed test, pytest could not collect them, or the process was ended, by the system or for its slowness
    last = ended[-1]["test"] if ended else "the start"
    return SLOW if run.status in (-signal.SIGKILL, -signal.SIGXCPU) else KILLED, seconds, f"after {last}"


def table(drawn: Dict[str, List[Mutation]], results: Results) -> Iterator[str]:
    """Markdown: counts by package, and every survivor."""
    yield "| package | mutants | killed | of these too slow | survived | killed, % |\n|---|---:|---:|---:|---:|---:|"
    total, survivors = Counter(), []
    for package, of_package in drawn.items():
        entries = [results.entries[m.id] for m in of_package if m.id in results.entries]
        counts = Counter(entry["status"] for entry in entries)
        survivors += [entry for entry in entries if entry["status"] in (SURVIVED, UNREACHED)]
        total += counts
        yield _row(package, counts)
    yield _row("all", total)
    for entry in survivors:
        yield f"\n{entry['id']} {entry['path']}:{entry['line']} ({entry['kind']}; {entry['tests']} tests)"
        yield "\n".join(f"    {line}" for line in entry["diff"].splitlines())


def _row(name: str, counts: Counter) -> str:
    mutants, killed = sum(counts.values()), counts[KILLED] + counts[SLOW]
    survived = counts[SURVIVED] + counts[UNREACHED]
    share = f"{100 * killed / mutants:.1f}" if mutants else "-"
    return f"| {name} | {mutants} | {killed} | {counts[SLOW]} | {survived} | {share} |"


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]


def _write(path: Path, content) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", nargs="+", choices=PACKAGES, default=PACKAGES, help="default: all of them")
    parser.add_argument("--per-package", type=int, default=32, help="mutants a package (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files or folders of tests (default: all)")
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        help="seconds of tests a mutant, fastest first (default: %(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once, a process each (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "outputs" / "mutants", help="of results.jsonl and map.json (%(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="try survivors again that a run has left")
    parser.add_argument("--list", action="store_true", help="show what would be tried, run nothing")
    parser.add_argument("--table", action="store_true", help="show the results of the drawn mutants, run nothing")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    drawn = {package: draw(package, args.per_package, args.seed) for package in args.package}
    results, tests = Results(args.folder / "results.jsonl"), Map(args.folder / "map.json", args.tests)
    if args.list:
        for mutation in sum(drawn.values(), []):
            print(f"{mutation.id} {mutation.path}:{mutation.line} {mutation.kind}\n{diff_of(mutation)}")
    elif not args.table:
        run(args, [mutation for of_package in drawn.values() for mutation in of_package], tests, results)
    if not args.list:
        print(*table(drawn, results), sep="\n")


def run(args, mutants: List[Mutation], tests: Map, results: Results) -> None:
    """Try what has not been tried yet."""
    from tqdm import tqdm

    open_cases = (SURVIVED, UNREACHED) if args.again else ()
    todo = [m for m in mutants if m.id not in results.entries or results.entries[m.id]["status"] in open_cases]
    import_libraries()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name, tqdm(total=len(todo), unit=" mutants") as bar:
        folders = [copy_project(Path(name) / str(number)) for number in range(args.jobs)]
        tests.update(copy_project(Path(name) / "recording"), bar)
        try_mutants(todo, tests, results, args, folders, bar)


if __name__ == "__main__":
    main()
