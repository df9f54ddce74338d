# What the run_*.sh of this folder share; sourced, not run.
#
# begin GPU [CORPUS] [OUTPUT] reads the arguments that they all take. Without a CORPUS, 36 languages of the picture world
# are drawn (14 hand-written, 22 constructed ones) and an English teacher is trained. The environment changes the rest:
#
#   METHODS "..."     methods to run, or all                      SEEDS "1"        one run of each method for each seed
#   ORDER order36     order of learning                           UPDATES 30       updates a language; 0: EPOCHS decides
#   EPOCHS 100        epochs a language at most                   LR 3e-3          BATCH_SIZE 128
#   ARCH clip_tiny_vit, INIT_FROM                                 the student, and the teacher's weights it starts from
#   PICTURES 1000, TEST_PICTURES 100                              size of the generated data
#   TEACHER_EPOCHS    epochs of its teacher, else those of recipe clip_teacher_small
#   JOBS 1            runs at a time, on the CPU                  MLVL_CLL_OPTIONS further options of every mlvl-cll
#
# Everything is safe to run twice: what is finished is skipped.
set -euo pipefail

published="cll_clip oewc er der mla p_tuning lora dualprompt codaprompt"

begin() {
  require 1 "GPU|cpu [CORPUS] [OUTPUT]" "$@"
  local gpu=$1
  # shellcheck disable=SC2086  # a list of names
  check_methods ${METHODS:-}
  own_corpus=${2:-}
  out=${3:-outputs/cll_clip}
  corpus=${own_corpus:-$out/corpus}
  weights=${INIT_FROM:-$out/teacher/checkpoint_best.pt}
  order=${ORDER:-order36}
  world=$out/world
  read -r -a seeds <<<"${SEEDS:-1}"
  if [[ $gpu == cpu ]]; then
    device=cpu cpu=(--cpu)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  else
    device=cuda cpu=()
    export CUDA_VISIBLE_DEVICES=$gpu
  fi
  if [[ -n $own_corpus && -z ${INIT_FROM:-} ]]; then
    echo "with a CORPUS of your own, INIT_FROM=... says which weights the student starts from" >&2
    exit 2
  fi
  mkdir -p "$out"
  [[ -n $own_corpus ]] || prepare_world
}

# Exits with the usage of the script unless there are enough arguments.
require() { # NUMBER USAGE ARGUMENT ...
  (($# - 2 >= $1)) && return
  echo "usage: $(basename "$0") $2" >&2
  exit 2
}

# Wrong names are told before anything is drawn or trained.
check_methods() { # METHOD ...
  [[ -n $* && $* != all ]] || return 0
  python - "$@" <<'END'
import sys

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.continual.methods import method_name


def main(_):
    for name in sys.argv[1:]:
        method_name(name)


sys.argv[0] = "METHODS"
run(main)
END
}

# A world keeps its sizes; a second call must give those of the first one again.
check_sizes() {
  [[ -e $world/picture_world.json ]] || return 0
  local drawn wanted="PICTURES=${PICTURES:-1000} TEST_PICTURES=${TEST_PICTURES:-100}"
  drawn=$(python -c 'import json, sys; print("PICTURES={train} TEST_PICTURES={test}".format(**json.load(sys.stdin)))' \
    <"$world/picture_world.json")
  [[ $drawn != "$wanted" ]] || return 0
  echo "$world was drawn with $drawn, this call has $wanted: give the same again, or another OUTPUT" >&2
  exit 2
}

# Runs a command with its output in a file; of one that fails the last lines are shown.
logged() { # LOG COMMAND ...
  local log=$1 status=0
  mkdir -p "$(dirname "$log")"
  echo "$2 is at work; what it prints goes to $log" >&2
  "${@:2}" >>"$log" 2>&1 || status=$?
  ((status)) || return 0
  tail -n 20 "$log" >&2
  echo "$2 failed (exit status $status); log: $log" >&2
  exit "$status"
}

# Sets the array `flags` to those of a recipe of ours (mlvl_fairseq/configs) for fairseq-train.
recipe() { # NAME [+reference=NAME]
  local lines
  lines=$(mlvl-options --config "$@")
  mapfile -t flags <<<"$lines"
}

# Pictures and captions -> corpus -> English teacher -> its features.
prepare_world() {
  local languages
  languages=$(languages_of "$order")
  check_sizes
  mlvl-picture-world "$world" --languages "$languages" \
    --train "${PICTURES:-1000}" --valid "${TEST_PICTURES:-100}" --test "${TEST_PICTURES:-100}"
  if [[ ! -e $corpus/corpus.json ]]; then
    # A larger BPE would turn whole sentences of languages without spaces into single tokens.
    mlvl-prepare "$corpus" --languages "$languages" --bpe-size 500 --image-root "$world/images" \
      --train "$world/train.vision-en-{lang}.tsv" --valid "$world/valid.{lang}.json" --test "$world/test.{lang}.json"
  fi
  if [[ -z ${INIT_FROM:-} && ! -e $out/teacher/done ]]; then
    mlvl-prepare "$corpus" --order en
    recipe clip_teacher_small
    logged "$out/teacher/train.log" \
      fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" "${cpu[@]}" --save-dir "$out/teacher" \
      ${TEACHER_EPOCHS:+--max-epoch "$TEACHER_EPOCHS"}
    touch "$out/teacher/done"
  fi
  mlvl-prepare "$corpus" --teacher "$weights" --device "$device"
}

# A named order as a comma list.
languages_of() {
  python -c 'import sys; from mlvl_fairseq.cli.common import language_order as o; print(",".join(o(sys.argv[1])))' "$1"
}

# The given families plain, with TEIR and with TEIR's scaled step.
variants_of() {
  local family
  for family in "$@"; do
    echo "$family" "${family}_with_teir" "${family}_with_teir_update"
  done
}

# The methods to run: $METHODS, else the given ones; "all" stands for every one there is.
chosen_methods() {
  local names="${METHODS:-$*}"
  [[ $names != all ]] || names=$(mlvl-cll --list-methods | cut -d' ' -f1)
  echo $names
}

run_folder() { # METHOD SEED
  echo "$out/runs/seed$2/$1"
}

# The checkpoint of a finished run's last language.
last_checkpoint() { # METHOD SEED
  local done=("$(run_folder "$1" "$2")"/*/done.json)
  echo "$(dirname "${done[-1]}")/checkpoint_best.pt"
}

# Sets the array `line` to the command that learns all languages.
compose() { # METHOD SEED
  # shellcheck disable=SC2206  # MLVL_CLL_OPTIONS is a list
  line=(mlvl-cll "$corpus" "$(run_folder "$1" "$2")" --method "$1" --order "$order" --seed "$2"
    --arch "${ARCH:-clip_tiny_vit}" --init-from "$weights" --lr "${LR:-3e-3}" --batch-size "${BATCH_SIZE:-128}"
    --max-epoch "${EPOCHS:-100}" --max-update "${UPDATES:-30}" "${cpu[@]}" ${MLVL_CLL_OPTIONS:-})
}

# Every method with every seed, JOBS at a time; the first that fails ends all.
learn_all() { # METHOD ...
  local seed method line started=()
  for seed in "${seeds[@]}"; do
    for method in "$@"; do
      compose "$method" "$seed"
      if [[ ${JOBS:-1} == 1 ]]; then
        "${line[@]}"
      else
        wait_for_fewer_than "$JOBS"
        "${line[@]}" &
        started[$!]=$method
      fi
    done
  done
  wait_for_fewer_than 1
}

# Waits until fewer than NUMBER of the processes in `started` run; stops the script if one of them failed.
wait_for_fewer_than() { # NUMBER
  local pid
  while true; do
    for pid in "${!started[@]}"; do
      kill -0 "$pid" 2>/dev/null || { wait "$pid"; unset "started[$pid]"; }
    done
    ((${#started[@]} >= $1)) || return 0
    sleep 0.2
  done
}

# Whatever ends the script ends the runs that it started in the background.
stop_jobs() {
  local running
  running=$(jobs -rp)
  # shellcheck disable=SC2086  # a list of process ids
  [[ -z $running ]] || { kill $running && wait; }
}
trap stop_jobs EXIT
