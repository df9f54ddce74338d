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

languages=() files=()
for lang in "$@"; do
  [[ ! -e $out/fseq/done.$lang ]] || continue
  languages+=("$lang")
  for split in train valid test; do
    [[ $split != test || -e $raw/test.$lang-en.$lang ]] || continue
    files+=("$raw/$split.$lang-en."{"$lang",en})
  done
done
((${#languages[@]})) || exit 0
mlvl-encode --sentencepiece "$xlmr" --output-dir "$out/pieces" --parallel "${files[@]}" # checks all files first

mkdir -p "$out/fseq"
for lang in "${languages[@]}"; do
  prefixes=()
  for split in train valid test; do
    [[ -e $raw/$split.$lang-en.$lang ]] || continue
    prefixes+=("--${split}pref" "$out/pieces/$split.$lang-en")
  done
  fairseq-preprocess -s "$lang" -t en "${prefixes[@]}" --destdir "$out/fseq" --workers "${WORKERS:-2}" \
    --srcdict "$xlmr/dict.txt" --tgtdict "$xlmr/dict.txt"
  touch "$out/fseq/done.$lang"
done
