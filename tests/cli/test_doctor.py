import json
import subprocess
import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mlvl_fairseq.cli import doctor, path
from mlvl_fairseq.cli import extras as cli_extras


def test_this_environment_is_healthy():
    findings = doctor.examine()
    failed = {name: finding.message for name, finding in findings.items() if finding.status == "FAIL"}
    assert failed == {}
    assert doctor.versions()["torch"].startswith(torch.__version__.partition("+")[0])


@pytest.mark.parametrize("version, status", [("2.5.1", "FAIL"), ("2.6.0+cpu", "WARN"), ("2.10.0", "ok")])
def test_torch_versions(monkeypatch, version, status):
    monkeypatch.setattr(torch, "__version__", version)
    finding = doctor.torch_loads_safely()
    assert finding.status == status and (status == "ok" or "pip install" in finding.advice)


def test_missing_package_fails_with_status_1(monkeypatch, capsys):
    monkeypatch.setitem(doctor.CHECKS, "clip", doctor.clip)
    monkeypatch.setitem(sys.modules, "clip", ModuleType("clip"))
    sys.modules["clip"].__file__ = "/somewhere/clip.py"
    monkeypatch.setitem(sys.modules, "clip.model", ModuleType("clip.model"))
    assert doctor.main([]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL"))
    assert "/somewhere/clip.py is not OpenAI's clip" in line and "pip uninstall clip" in line


def test_check_that_crashes_is_a_finding(monkeypatch):
    def broken():
        raise ImportError("undefined symbol: x")

    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken})
    finding = doctor.examine()["broken"]
    assert (finding.status, finding.message) == ("FAIL", "ImportError: undefined symbol: x")
    assert "scripts/setup.sh" in finding.advice


def test_shadowing_folder_is_said_once(run_alone, root, tmp_path):
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("")
    script = "from mlvl_fairseq.cli.doctor import cli_main; cli_main()"
    ended = run_alone("python", "-c", script, cwd=tmp_path, env={"PYTHONPATH": str(root)})
    assert ended.returncode == 1
    assert ended.stdout.count(f"the folder {tmp_path / 'fairseq'} hides the fairseq package") == 1


def test_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"python": doctor.python})
    assert doctor.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checks"]["python"]["status"] == "ok" and "numpy" in found["versions"]


@pytest.fixture
def extras(monkeypatch, tmp_path):
    """``extras(versions)``: what the doctor says where these are installed, of three extras, and no programs."""

    class Metadata:
        PackageNotFoundError = metadata.PackageNotFoundError

        def __init__(self, versions):
            self.versions = versions

        def requires(self, name):
            marked = {"search": ["faiss-cpu>=1.9", "uvicorn>=0.30"], "lmdb": ["lmdb>=1.4"], "newer": ["thing"]}
            return ["numpy>=1.26", *(f'{one}; extra == "{extra}"' for extra, own in marked.items() for one in own)]

        def metadata(self, name):
            return SimpleNamespace(get_all=lambda _: ["search", "lmdb", "newer"])

        def version(self, name):
            if name not in self.versions:
                raise metadata.PackageNotFoundError(name)
            return self.versions[name]

    def extras(**versions):
        there = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(cli_extras, "metadata", Metadata(there))
        return {one.name: one for one in doctor.extras()}

    return extras


def test_extras_are_those_of_the_package_that_is_installed(extras):
    found = extras(faiss_cpu="1.10", uvicorn="0.20", numpy="2.0")
    assert found["search"].there == ["faiss-cpu 1.10"] and found["search"].missing == ["uvicorn>=0.30 (found: 0.20)"]
    assert found["search"].purpose.startswith("mlvl-search") and found["lmdb"].missing == ["lmdb>=1.4"]
    assert found["lmdb"].install == "pip install 'mlvl_fairseq[lmdb]'"
    assert list(found) == ["search", "lmdb", "newer"]


def test_missing_extras_are_no_error_and_say_what_to_do(extras, monkeypatch, capsys):
    extras(faiss_cpu="1.10", uvicorn="0.40")
    monkeypatch.setattr(doctor, "CHECKS", {"python": doctor.python})
    assert doctor.main([]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    place = next(number for number, line in enumerate(lines) if line.startswith("ok search mlvl-search"))
    assert lines[place + 1] == "faiss-cpu 1.10, uvicorn 0.40"
    assert lines[place + 2 : place + 4] == [
        "- lmdb pictures in an LMDB",
        "missing: lmdb>=1.4 -> pip install 'mlvl_fairseq[lmdb]'",
    ]


def test_programs_are_looked_for_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    chromium = next(one for one in doctor.extras() if one.name == "Chromium")
    assert (chromium.there, chromium.missing, chromium.install) == ([], ["chromium"], "apt install chromium")
    (tmp_path / "google-chrome").write_text("#!/bin/sh\n")
    (tmp_path / "google-chrome").chmod(0o755)
    chromium = next(one for one in doctor.extras() if one.name == "Chromium")
    assert (chromium.there, chromium.missing) == ([str(tmp_path / "google-chrome")], [])


def test_a_package_that_is_not_installed_has_no_extras(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cli_extras.metadata, "requires", requires)
    assert doctor.extras() == []


def test_path_is_printed_without_importing_torch(root):
    script = "import sys; from mlvl_fairseq.cli.path import main; main([]); assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{root / 'mlvl_fairseq'}\n"


def test_path_helps(capsys):
    with pytest.raises(SystemExit):
        path.main(["--help"])
    assert "--user-dir" in capsys.readouterr().out
