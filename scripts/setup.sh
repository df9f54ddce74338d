#!/usr/bin/env bash
# Makes the environment that quickstart.sh and test.sh run in: the virtual environment that is active, or .venv here.
# Safe to run again at any time: what is installed stays, what was interrupted continues. Source it to use the
# environment afterwards; PYTHON=/path/to/python3.11 chooses the interpreter that makes .venv. What pip says is in a log.
set -euo pipefail

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
environment="${VIRTUAL_ENV:-$repository/.venv}"
python="$environment/bin/python"
stamp="$environment/.mlvl_fairseq_installed"
log="$environment/mlvl_fairseq_setup.log"
needed_gib=8

fail() {
    echo "setup: $*" >&2
    exit 2
}

suits() { # an interpreter that starts (a version manager's stand-in may not) and has a version that we support
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed and none was found; install one, or name it: PYTHON=/path/to/python3.12"
}

make_environment() {
    if [ -x "$python" ]; then
        suits "$python" || fail "the Python of $environment is not 3.11 or 3.12, or does not start"
        "$python" -m pip --version >/dev/null 2>&1 && return
    fi
    [ -z "${VIRTUAL_ENV:-}" ] || fail "the active environment $environment has no pip"
    local base
    base="$(find_python)"
    "$base" -m venv --clear "$environment" || fail "$base cannot make environments; on Debian: apt install python3-venv"
}

check_machine() {
    local headers free_gib
    headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
    command -v g++ >/dev/null || fail "a C++ compiler is needed to build fairseq; on Debian: apt install g++"
    command -v "${CC:-gcc}" >/dev/null || fail "a C compiler is needed to build fairseq; on Debian: apt install gcc"
    [ -e "$headers/Python.h" ] || fail "Python's headers are missing in $headers; on Debian: apt install python3-dev"
    free_gib=$(($(df -Pk "$environment" | awk 'NR == 2 {print $4}') / 1024 / 1024))
    [ "$free_gib" -ge "$needed_gib" ] ||
        fail "$needed_gib GiB of disk are needed in $environment, $free_gib GiB are free"
}

wanted() { # what the stamp holds when everything is installed
    "$python" --version
    echo "$repository"
    cat "$repository/constraints.txt" "$repository/setup.py" "$repository/mlvl_fairseq/extras.json"
}

pip_install() {
    "$python" -m pip install --disable-pip-version-check --constraint "$repository/constraints.txt" "$@" >>"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    fail "pip could not install this step: its last lines are above, all are in $log; the same command continues here"
}

install() {
    check_machine
    rm -f "$stamp"
    : >"$log"
    echo "[2/4] torch and build tools (some GB: the longest step; what pip says is in $log)"
    pip_install torch torchvision numpy setuptools wheel cython
    echo "[3/4] fairseq and clip (fairseq is compiled: some minutes)"
    # both build with what step 2 installed; the CUDA sources that CUDA_HOME asks for are not in fairseq-fixed
    (unset CUDA_HOME && pip_install --no-build-isolation fairseq-fixed openai-clip)
    echo "[4/4] mlvl_fairseq (a minute)"
    pip_install --no-build-isolation --use-pep517 --config-settings editable_mode=compat --editable "$repository[test]"
    wanted >"$stamp"
}

echo "[1/4] environment: $environment"
make_environment
if [ -e "$stamp" ] && wanted | cmp -s - "$stamp"; then
    echo "[4/4] everything is installed"
else
    install
fi
export PATH="$environment/bin:$PATH"
