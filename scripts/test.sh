#!/usr/bin/env bash
# Installs everything, then runs the test suite on two processes. Options go to pytest: bash scripts/test.sh -k compat
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repository"
export OMP_NUM_THREADS=1 # one thread a process: more only get into each other's way
python -m pytest tests -n 2 --dist loadfile --disable-warnings "$@"
