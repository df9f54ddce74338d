# What the scripts of this folder share; sourced, not run. begin COUNT USAGE ARGUMENT... checks how a script was called.
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Splits the options of a script into the arrays `options`, of our commands, and `overrides`, words as the published
# code takes them behind --overrides, up to the next option.
split_options() { # OPTION...
  local target=options word
  options=() overrides=()
  for word in "$@"; do
    case $word in
      --overrides) target=overrides ;;
      --*) target=options options+=("$word") ;;
      *) if [[ $target == options ]]; then options+=("$word"); else overrides+=("$word"); fi ;;
    esac
  done
}

# Sets the array `translated` to options of ours that mean the same.
translate() { # train|evaluate WORD...
  local lines
  lines=$(python "$here/overrides.py" "$@")
  translated=()
  [[ -z $lines ]] || mapfile -t translated <<<"$lines"
}

# pretrain WORDS CORPUS IMAGE_WEIGHTS TEXT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]
pretrain() {
  begin 4 "CORPUS IMAGE_WEIGHTS TEXT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]" "${@:2}"
  local mode sizes=() weights=()
  read -r -a mode <<<"$1"
  local corpus=$2 image=$3 text=$4 out=$5
  shift 5
  split_options "$@"
  [[ -e $text/vocab.txt || -e $text/tokenizer.json ]] ||
    fail "$text/vocab.txt or tokenizer.json is missing: give the folder of a BERT"
  [[ ${RECIPE:-published} == small ]] || sizes=(text_encoder=base vision_encoder=base)
  [[ $image == none ]] || weights+=(--image-weights "$image")
  [[ ! -e $text/config.json ]] || weights+=(--text-weights "$text")
  translate train "${sizes[@]}" "${mode[@]}" "${overrides[@]}"
  chosen_recipe lilt
  fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --tokenizer-folder "$text" "${weights[@]}" \
    "${translated[@]}" --save-dir "$out" "${options[@]}"
}

# evaluate CHECKPOINT TEST_FILE IMAGE_ROOT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]
evaluate() {
  begin 4 "CHECKPOINT TEST_FILE IMAGE_ROOT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]" "$@"
  local checkpoint=$1 captions=$2 root=$3 out=$4 quirks=()
  shift 4
  split_options "$@"
  [[ $checkpoint != *.pth ]] || fail "$checkpoint: convert it first: mlvl-convert lilt $checkpoint OUT --wordpiece DIR"
  [[ ${PRESET:-default} == default ]] || quirks=(--top-k 128)
  translate evaluate "${overrides[@]}"
  mlvl-evaluate --checkpoint "$checkpoint" --lang "${LANGS:-en}" --captions "$captions" --image-root "$root" \
    --output-dir "$out" "${quirks[@]}" "${translated[@]}" "${options[@]}"
}
