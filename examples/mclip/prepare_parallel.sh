#!/usr/bin/env bash
# Parallel text to fairseq's binary files, in the pieces of an XLM-R.
#
# usage: bash examples/mclip/prepare_parallel.sh XLMR RAW OUT LANG...
#   XLMR   folder with XLM-R's sentencepiece.bpe.model and dict.txt, or one of mlvl-sentencepiece
#   RAW    folder with {train,valid}.LANG-en.{LANG,en} (and test.*), a sentence a line, detokenised
#   OUT    receives the pieces (OUT/pieces) and what fairseq-train takes (OUT/fseq); both directions use the same files
# The published recipe has LANG = cs de es ja ru zh. Safe to run twice: what is done is skipped.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 4 "XLMR RAW OUT LANG..." "$@"
xlmr=$1 raw=$2 out=$3
shift 3
require_pieces "$xlmr"

check_sides() { # PREFIX LANG: both files, line by line the same sentences
  local side lines=()
  for side in "$2" en; do
    [[ -s $1.$side ]] || fail "$1.$side is missing or empty"
    lines+=("$(grep -c '' "$1.$side")")
  done
  [[ ${lines[0]} == "${lines[1]}" ]] || fail "$1.$2 has ${lines[0]} lines, but $1.en ${lines[1]}"
}
for lang in "$@"; do
  for split in train valid; do check_sides "$raw/$split.$lang-en" "$lang"; done
  [[ ! -e $raw/test.$lang-en.$lang ]] || check_sides "$raw/test.$lang-en" "$lang"
done

mkdir -p "$out/pieces" "$out/fseq"
for lang in "$@"; do
  [[ ! -e $out/fseq/done.$lang ]] || continue
  prefixes=()
  for split in train valid test; do
    [[ -e $raw/$split.$lang-en.$lang ]] || continue
    for side in "$lang" en; do
      mlvl-encode --sentencepiece "$xlmr" <"$raw/$split.$lang-en.$side" >"$out/pieces/$split.$lang-en.$side"
    done
    prefixes+=("--${split}pref" "$out/pieces/$split.$lang-en")
  done
  fairseq-preprocess -s "$lang" -t en "${prefixes[@]}" --destdir "$out/fseq" --workers "${WORKERS:-2}" \
    --srcdict "$xlmr/dict.txt" --tgtdict "$xlmr/dict.txt"
  touch "$out/fseq/done.$lang"
done
