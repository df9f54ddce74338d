# What the scripts of this folder share; sourced, not run. begin COUNT USAGE ARGUMENT... checks how a script was called.
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Runs a published pre-training: pretrain TASK RECIPE "STREAM ..." ARGUMENT..., where the arguments are those of the script.
pretrain() {
  local task=$1 recipe=$2 streams=() given=() words=() environment=() small=() quirks=() lines line stream
  read -r -a streams <<<"$3"
  shift 3
  local names="${streams[*]^^}"
  begin $((${#streams[@]} + 2)) "${names//-/_} XLMR IMAGE_WEIGHTS [FLAG...] [--overrides KEY=VALUE...] [-- OPTION...]" "$@"
  for stream in "${streams[@]}"; do
    given+=("--$stream" "$1")
    shift
  done
  local xlmr=$1 image=$2
  shift 2
  require_pieces "$xlmr"
  given+=(--tokenizer-folder "$xlmr")
  [[ ! -e $xlmr/config.json && ! -e $xlmr/model.pt ]] || given+=(--text-weights "$xlmr")
  [[ $image == none ]] || given+=(--image-weights "$image")
  while (($#)) && [[ $1 != -- ]]; do
    words+=("$1")
    shift
  done
  (($# == 0)) || shift # the two dashes; what is left is for fairseq-train
  [[ ${RECIPE:-published} == published ]] || recipe=cclm_small small=(--small)
  [[ ${PRESET:-default} == default ]] || quirks=(+reference=cclm)
  lines=$(python "$here/published.py" "${small[@]}" "$task" "${words[@]}")
  words=()
  while read -r line; do
    case $line in
      "") ;;
      CUDA_VISIBLE_DEVICES=*) environment=("$line") ;;
      *) words+=("$line") ;;
    esac
  done <<<"$lines"
  recipe "$recipe" "${quirks[@]}"
  env "${environment[@]}" fairseq-train --user-dir "$(mlvl-path)" "${flags[@]}" "${given[@]}" "${words[@]}" "$@"
}
