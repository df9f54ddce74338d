#!/usr/bin/env bash
# Installs everything, then runs the test suite on two processes. Options go to pytest: bash scripts/test.sh -k compat
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repository"
# what the tests compare with, and the page of mlvl-search; half a minute, once
python -c 'from importlib.metadata import version
for name in ("timm", "transformers", "faiss-cpu", "httpx2", "starlette", "uvicorn"): version(name)' 2>/dev/null || {
    echo "what the tests compare with (half a minute); what pip says is in $log"
    pip_install --no-build-isolation --use-pep517 --config-settings editable_mode=compat --editable "$repository[interop,search,test]"
}
unset PYTHONDONTWRITEBYTECODE # modules are compiled once, not in each of a thousand processes
export OMP_NUM_THREADS=1 # one thread a process: more only get into each other's way
# files as they come, see tests/conftest.py: by itself xdist begins with those that hold most tests
python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --disable-warnings "$@"
