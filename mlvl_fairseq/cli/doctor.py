"""``mlvl-doctor``: what is installed, what is wrong with it, and what to do about it.

A check is a function that returns a `Finding`; the decorator `check` puts it on the list.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set

import mlvl_fairseq
from mlvl_fairseq.cli import common
from mlvl_fairseq.cli.extras import Status, installed_version, status_of_extras
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches import import_clip

_DISTRIBUTIONS = (
    "torch",
    "torchvision",
    "numpy",
    "fairseq-fixed",
    "fairseq",
    "openai-clip",
    "clip-anytorch",
    "omegaconf",
    "hydra-core",
    "tokenizers",
    "sentencepiece",
    "safetensors",
    "setuptools",
)
_INSTALL = "run `bash scripts/setup.sh` in the checkout"


@dataclass
class Finding:
    """What one check found: `status` is ok, WARN or FAIL; `advice` says what to do unless it is ok."""

    status: str
    message: str
    advice: str = ""


def ok(message: str) -> Finding:
    return Finding("ok", message)


def warn(message: str, advice: str) -> Finding:
    return Finding("WARN", message, advice)


def fail(message: str, advice: str) -> Finding:
    return Finding("FAIL", message, advice)


CHECKS: Dict[str, Callable[[], Finding]] = {}


def check(function: Callable[[], Finding]) -> Callable[[], Finding]:
    """Register a check under its name."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


@check
def python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return ok(version)
    return fail(f"{version} is not supported", "use Python 3.11 or 3.12")


@check
def requirements() -> Finding:
    from packaging.requirements import Requirement

    try:
        listed = [Requirement(line) for line in metadata.requires("mlvl_fairseq") or []]
    except metadata.PackageNotFoundError:
        return warn("mlvl_fairseq is not installed, only imported", f"{_INSTALL}, or pip install the wheel")
    wanted = [requirement for requirement in listed if requirement.marker is None]  # the others belong to extras
    problems = []
    for requirement in wanted:
        installed = installed_version(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            problems.append(f"{requirement} (found: {installed})")
    return fail("missing: " + ", ".join(problems), _INSTALL) if problems else ok(f"all {len(wanted)} are met")


@check
def torch_loads_safely() -> Finding:
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 6):
        advice = "pip install 'torch>=2.6'"
        return fail(f"torch {torch.__version__}: a checkpoint can run code (CVE-2025-32434)", advice)
    if version < (2, 10):
        advice = "pip install 'torch>=2.10', or load only checkpoints that you trust"
        return warn(f"torch {torch.__version__}: a checkpoint can corrupt memory (CVE-2026-24747)", advice)
    return ok(f"torch {torch.__version__}")


@check
def fairseq_folder() -> Finding:
    spec = importlib.util.find_spec("fairseq")  # raises UserError if some other folder hides it
    return fail("fairseq is not installed", _INSTALL) if spec is None else ok(str(Path(spec.origin).parent))


@check
def fairseq_imports() -> Finding:
    fairseq = importlib.import_module("fairseq")
    return ok(f"fairseq {fairseq.__version__}")


@check
def fairseq_extensions() -> Finding:
    names = ("libbase", "libbleu", "data.data_utils_fast", "data.token_block_utils_fast")
    missing = [name for name in names if importlib.util.find_spec(f"fairseq.{name}") is None]
    if missing:
        advice = "pip install --force-reinstall --no-deps --no-build-isolation fairseq-fixed (needs g++)"
        return fail(f"compiled parts are missing: {', '.join(missing)}", advice)
    return ok("compiled parts are there")


@check
def user_dir_registers() -> Finding:
    from fairseq import utils

    folder = Path(mlvl_fairseq.__file__).parent
    utils.import_user_module(argparse.Namespace(user_dir=str(folder)))
    return ok(f"--user-dir {folder}")


@check
def clip() -> Finding:
    return ok(f"OpenAI's clip in {Path(import_clip().__file__).parent}")


@check
def pkg_resources() -> Finding:
    if importlib.util.find_spec("pkg_resources") is None:
        return warn("setuptools has no pkg_resources", "only building clip needs it: pip install 'setuptools<81'")
    return ok("pkg_resources is there")


@check
def gpu() -> Finding:
    import torch

    threads = f"{torch.get_num_threads()} CPU threads of {os.cpu_count()} cores"
    if not torch.cuda.is_available():
        return ok(f"none; {threads}")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ok(f"{', '.join(names)}; {threads}")


@check
def disk_space() -> Finding:
    free_gib = shutil.disk_usage(os.getcwd()).free / 2**30
    if free_gib < 2:
        return warn(f"{free_gib:.1f} GiB are free in {os.getcwd()}", "make room: checkpoints and features go there")
    return ok(f"{free_gib:.0f} GiB are free in {os.getcwd()}")


def examine() -> Dict[str, Finding]:
    """Run all checks. One that raises has failed, with its error as the message."""
    findings: Dict[str, Finding] = {}
    for name, function in CHECKS.items():
        try:
            findings[name] = function()
        except UserError as error:  # says itself what to do
            findings[name] = fail(str(error), "")
        except Exception as error:  # whatever is broken, the doctor reports it and goes on
            findings[name] = fail(f"{type(error).__name__}: {error}", _INSTALL)
    return findings


def versions() -> Dict[str, Optional[str]]:
    """Installed version of each package that matters, None where there is none."""
    return {"mlvl_fairseq": mlvl_fairseq.__version__, **{name: installed_version(name) for name in _DISTRIBUTIONS}}


def extras() -> List[Status]:
    """What of each extra is there; nothing, where this package itself is not installed."""
    try:
        return status_of_extras()
    except metadata.PackageNotFoundError:
        return []


def _report(installed: Dict[str, Optional[str]], optional: List[Status], findings: Dict[str, Finding]) -> str:
    lines = [f"{name:<22} {version}" for name, version in installed.items() if version is not None]
    lines += ["", "only some commands need these:", ""]
    for extra in optional:
        lines.append(f"{'-' if extra.missing else 'ok':<5} {extra.name:<22} {extra.purpose}")
        lines += [f"{'':<28} {', '.join(extra.there)}"] if extra.there else []
        lines += [f"{'':<28} missing: {', '.join(extra.missing)} -> {extra.install}"] if extra.missing else []
    lines.append("")
    said: Set[str] = set()
    for name, finding in findings.items():
        lines.append(f"{finding.status:<5} {name:<22} {'see above' if finding.message in said else finding.message}")
        said.add(finding.message)
        if finding.advice:
            lines.append(f"{'':<5} {'':<22} -> {finding.advice}")
    return "\n".join(lines)


def main(argv: Optional[List[str]] = None) -> int:
    """Print versions, extras and findings; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="mlvl-doctor", description="Print versions, what is wrong, and what to do.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = parser.parse_args(argv)
    installed, optional, findings = versions(), extras(), examine()
    if options.json:
        checks = {name: asdict(finding) for name, finding in findings.items()}
        found = {"versions": installed, "extras": [asdict(extra) for extra in optional], "checks": checks}
        print(json.dumps(found, indent=1))
    else:
        print(_report(installed, optional, findings))
    return int(any(finding.status == "FAIL" for finding in findings.values()))


def cli_main() -> None:
    """Entry point of ``mlvl-doctor``."""
    common.run(main)
