"""``mlvl-path``: the directory to give to fairseq's commands as ``--user-dir``."""

import argparse
from pathlib import Path
from typing import List, Optional

import mlvl_fairseq
from mlvl_fairseq.cli import common


def main(argv: Optional[List[str]] = None) -> None:
    """Print the directory of the package."""
    argparse.ArgumentParser(
        prog="mlvl-path",
        description='Print the directory of the plugin, for: fairseq-train --user-dir "$(mlvl-path)" ...',
    ).parse_args(argv)
    print(Path(mlvl_fairseq.__file__).parent)


def cli_main() -> None:
    """Entry point of ``mlvl-path``."""
    common.run(main)
