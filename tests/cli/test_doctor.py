import json
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from mlvl_fairseq.cli import doctor, path


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


def test_path_is_printed_without_importing_torch(root):
    script = "import sys; from mlvl_fairseq.cli.path import main; main([]); assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{root / 'mlvl_fairseq'}\n"


def test_path_helps(capsys):
    with pytest.raises(SystemExit):
        path.main(["--help"])
    assert "--user-dir" in capsys.readouterr().out
