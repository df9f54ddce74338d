"""What the checkout installs as, and the script that installs it. Nothing is downloaded here."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The wheel built from the checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(root / "mlvl_fairseq", source / "mlvl_fairseq", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md", "LICENSE"):
        if (root / name).exists():
            shutil.copy(root / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, capture_output=True, timeout=120)
    (archive,) = folder.glob("*.whl")
    zipfile.ZipFile(archive).extractall(folder / "unpacked")
    return folder / "unpacked"


def files(folder, pattern):
    return {path.relative_to(folder) for path in folder.rglob(pattern) if "__pycache__" not in path.parts}


@pytest.mark.parametrize("pattern", ["*.py", "*.yaml", "*.json"])
def test_wheel_is_complete(root, wheel, pattern):
    assert files(wheel / "mlvl_fairseq", pattern) == files(root / "mlvl_fairseq", pattern)


def entry_points(wheel):
    text = next(wheel.glob("*.dist-info/entry_points.txt")).read_text()
    return dict(re.findall(r"^(mlvl-[\w-]+) = (.+):cli_main$", text, re.MULTILINE))


def test_every_command_has_its_module(wheel):
    commands = entry_points(wheel)
    assert {"mlvl-path", "mlvl-doctor", "mlvl-cll", "mlvl-picture-world"} <= set(commands)
    sources = (wheel / "mlvl_fairseq" / "cli").glob("*.py")
    modules = {source.stem for source in sources if "def cli_main" in source.read_text()}
    assert {module.rpartition(".")[2] for module in commands.values()} == modules


def test_path_command_of_the_wheel(wheel, tmp_path):
    script = f"from {entry_points(wheel)['mlvl-path']} import cli_main; cli_main()"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(ended.stdout.strip()) == wheel / "mlvl_fairseq"


def test_the_metadata_has_the_extras_that_are_explained(root, wheel):
    explained = json.loads((root / "mlvl_fairseq" / "extras.json").read_text())
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text()
    assert set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)) == set(explained)
    required = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)]
    for name, extra in explained.items():
        own = {f"{one.name}{one.specifier}" for one in required if one.marker and one.marker.evaluate({"extra": name})}
        assert own == set(extra["packages"]) and extra["purpose"]


def test_every_extra_that_a_message_or_a_page_names_is_there(root):
    pages = [path for pattern in ("mlvl_fairseq/**/*.py", "docs/*.md", "*.md") for path in root.glob(pattern)]
    texts = "\n".join(path.read_text() for path in pages)
    named = re.findall(r"mlvl_fairseq\[([a-z,]+)\]|-e '\.\[([a-z,]+)\]'", texts)
    assert (
        {"search", "export"}
        <= {name for names in named for name in ",".join(names).strip(",").split(",")}
        <= set(json.loads((root / "mlvl_fairseq" / "extras.json").read_text()))
    )


def test_constraints_satisfy_the_requirements(root, wheel):
    pins = dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if line[:1] != "#")
    pins = {name.lower(): version for name, version in pins.items()}
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text()
    for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": "test"}):
            continue  # of an extra that users choose
        assert requirement.specifier.contains(pins[requirement.name.lower()]), line
    assert int(pins["setuptools"].split(".")[0]) < 81


# scripts/setup.sh


@pytest.fixture
def tools(tmp_path):
    """A PATH with the plain tools that the script uses, and no Python or compiler."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "dirname", "cat", "cmp", "df", "awk", "rm", "tail"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def environment(tmp_path):
    """Looks like a virtual environment: this interpreter under ``bin/python``."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder


def setup_sh(root, tmp_path, tools, **variables):
    """Run a copy of the script, so that it makes nothing in the checkout."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True, exist_ok=True)
    for name in ("setup.py", "constraints.txt", "scripts/setup.sh", "mlvl_fairseq/extras.json"):
        (checkout / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, checkout / name)
    environment = {"PATH": str(tools), "HOME": str(tmp_path), **{name: str(value) for name, value in variables.items()}}
    command = ["bash", str(checkout / "scripts" / "setup.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_missing_python_is_one_clear_line(root, tmp_path, tools):
    for name in ("python3", "python3.12"):  # a version manager's stand-in, and a version that is too old
        (tools / name).write_text("#!/bin/bash\nexit 127\n")
        (tools / name).chmod(0o755)
    ended = setup_sh(root, tmp_path, tools)
    assert ended.returncode == 2
    assert ended.stderr.startswith("setup: Python 3.11 or 3.12 is needed") and ended.stderr.count("\n") == 1


def test_missing_compiler_is_one_clear_line(root, tmp_path, tools, environment):
    ended = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith("setup: a C++ compiler is needed") and ended.stderr.count("\n") == 1


def compilers_and_disk(tools, gib):
    for name in ("g++", "gcc"):
        (tools / name).symlink_to(shutil.which("true"))
    (tools / "df").unlink()
    (tools / "df").write_text(f"#!/bin/bash\necho header; echo disk 1 1 {gib * 2**20} 1% /\n")
    (tools / "df").chmod(0o755)


def talkative_pip(environment, ends):
    """Let ``pip install`` print a hundred numbered lines, half of them as errors, and end so."""
    python = environment / "bin" / "python"
    words = f"for i in $(seq 50); do echo said $i; echo complained $i >&2; done; {ends}"
    real = python.read_text().removeprefix("#!/bin/sh\n")
    python.write_text(f'#!/bin/sh\ncase "$*" in "-m pip install"*) PATH={os.environ["PATH"]}; {words};; esac\n{real}')


def test_full_disk_is_one_clear_line(root, tmp_path, tools, environment):
    compilers_and_disk(tools, gib=3)
    ended = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert ended.returncode == 2
    assert "8 GiB of disk are needed" in ended.stderr and "3 GiB are free" in ended.stderr


def test_what_pip_says_is_in_a_log(root, tmp_path, tools, environment):
    compilers_and_disk(tools, gib=9)
    log = environment / "mlvl_fairseq_setup.log"
    log.write_text("said 1\n")  # an earlier time
    talkative_pip(environment, "exit 0")
    ended = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    steps = [line[:5] for line in ended.stdout.splitlines() if line.startswith("[")]
    assert steps == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"] and len(ended.stdout.splitlines()) < 8
    assert str(log) in ended.stdout
    said = log.read_text().splitlines()
    assert said.count("said 1") == said.count("complained 50") == 3
    again = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert again.stdout.splitlines()[-1] == "[4/4] everything is installed"


def test_where_pip_fails_its_last_words_are_shown(root, tmp_path, tools, environment):
    compilers_and_disk(tools, gib=9)
    talkative_pip(environment, "case $* in *fairseq-fixed*) exit 1;; esac; exit 0")
    ended = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert ended.returncode == 2 and "[3/4]" in ended.stdout and "[4/4]" not in ended.stdout
    *words, last = ended.stderr.splitlines()
    assert {"said 50", "complained 50"} <= set(words) and len(words) == 20
    assert last.startswith("setup: pip could not install") and str(environment / "mlvl_fairseq_setup.log") in last
    assert not (environment / ".mlvl_fairseq_installed").exists()


def test_what_is_installed_is_not_installed_again(root, tmp_path, tools, environment):
    version = subprocess.run([sys.executable, "--version"], capture_output=True, text=True).stdout
    wanted = "".join((root / name).read_text() for name in ("constraints.txt", "setup.py", "mlvl_fairseq/extras.json"))
    (environment / ".mlvl_fairseq_installed").write_text(f"{version}{tmp_path / 'checkout'}\n{wanted}")
    ended = setup_sh(root, tmp_path, tools, VIRTUAL_ENV=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "[4/4] everything is installed"


@pytest.mark.parametrize("script", ["scripts/setup.sh", "scripts/quickstart.sh", "scripts/test.sh", ".ci/run"])
def test_scripts_parse(root, script):
    subprocess.run(["bash", "-n", root / script], check=True)
