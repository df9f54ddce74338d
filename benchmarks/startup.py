"""How much longer does `fairseq-train --help` take with the plugin?

Runs both in turn, several times, and prints CPU seconds of the whole processes (which other work on the machine
disturbs less than wall time).

    python benchmarks/startup.py --runs 7
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

USER_DIR = Path(__file__).resolve().parents[1] / "mlvl_fairseq"
COMMAND = [sys.executable, "-c", "from fairseq_cli.train import cli_main; cli_main()", "--help"]


def cpu_seconds(arguments) -> float:
    """CPU seconds (user and system) of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="of each command (default: %(default)s)")
    args = parser.parse_args()
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


if __name__ == "__main__":
    main()
