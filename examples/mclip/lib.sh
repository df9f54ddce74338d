# What the scripts of this folder and its neighbours share; sourced, not run.
set -euo pipefail

# Checks how a script was called: begin COUNT USAGE ARGUMENT...
begin() {
  local count=$1 usage=$2
  shift 2
  if [[ ${1:-} == --help || ${1:-} == -h ]]; then
    sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" # the comment at the script's head
    exit
  fi
  (($# >= count)) || { echo "usage: $(basename "$0") $usage" >&2; exit 2; }
  one_of RECIPE "${RECIPE:-published}" published small
  one_of PRESET "${PRESET:-default}" default reference
  type mlvl-path fairseq-train >/dev/null 2>&1 ||
    fail "mlvl_fairseq's commands are not on the PATH: bash scripts/setup.sh, then source .venv/bin/activate"
}

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

one_of() { # NAME VALUE CHOICE...
  local choice
  for choice in "${@:3}"; do [[ $2 != "$choice" ]] || return 0; done
  fail "$1=$2: choose one of ${*:3}"
}

# Sets the array `flags` to those of a recipe of ours (mlvl_fairseq/configs) for fairseq-train.
recipe() { # NAME [+reference=NAME]
  local lines
  lines=$(mlvl-options --config "$@")
  mapfile -t flags <<<"$lines"
}

# The same in the size that RECIPE says, with the quirks that PRESET says.
chosen_recipe() { # NAME
  local size="" quirks=()
  [[ ${RECIPE:-published} == published ]] || size=_small
  [[ ${PRESET:-default} == default ]] || quirks=("+reference=$1")
  recipe "$1$size" "${quirks[@]}"
}

require_pieces() { # XLMR
  local file
  for file in dict.txt sentencepiece.bpe.model; do
    [[ -e $1/$file ]] || fail "$1/$file is missing: give XLM-R's folder, or one that mlvl-sentencepiece wrote"
  done
}

# Runs a command with its output in a file; of one that fails the last lines are shown.
logged() { # LOG COMMAND ...
  mkdir -p "$(dirname "$1")"
  "${@:2}" >>"$1" 2>&1 || { tail -n 5 "$1" >&2; fail "$2 failed; log: $1"; }
}

# Ends what still runs in the background, whatever ends the script.
stop_jobs() {
  local running
  running=$(jobs -rp)
  # shellcheck disable=SC2086  # a list of process ids
  [[ -z $running ]] || { kill $running && wait; }
}
