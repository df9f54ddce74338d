#!/usr/bin/env bash
# The whole way on generated data, small enough for a CPU: pictures with captions in five languages, an English CLIP,
# a text encoder that learns to translate, TriKD with English captions only, and retrieval in all languages.
#
# usage: bash examples/mclip/run_generated.sh [OUT]        default: outputs/mclip
# Safe to run twice: what is done is skipped.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 0 "[OUT]" "$@"
out=${1:-outputs/mclip} here=$(dirname "${BASH_SOURCE[0]}")
foreign=(de fr ru zh) languages=en,de,fr,ru,zh
corpus=$out/corpus clip=$out/clip/checkpoint_best.pt xlmr=$out/xlmr
export RECIPE=small OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

mlvl-picture-world "$out/world" --languages "$languages" --train 1500 --valid 100 --test 200
if [[ ! -e $corpus/corpus.json ]]; then
  mlvl-prepare "$corpus" --languages "$languages" --image-root "$out/world/images" \
    --train "$out/world/train.{lang}.json" --valid "$out/world/valid.{lang}.json"
fi

# A small CLIP that knows English.
if [[ ! -e $out/clip/done ]]; then
  recipe clip_teacher_small
  fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --max-epoch 12 --cpu --num-workers 0 --save-dir "$out/clip"
  touch "$out/clip/done"
fi
mlvl-prepare "$corpus" --teacher "$clip"

# Parallel text: captions of the same things in two languages. Then pieces, both stages, export.
mkdir -p "$out/raw"
for lang in "${foreign[@]}"; do
  for split in train valid; do
    cp "$corpus/captions/$split.$lang.txt" "$out/raw/$split.$lang-en.$lang"
    cp "$corpus/captions/$split.en.txt" "$out/raw/$split.$lang-en.en"
  done
done
[[ -e $xlmr/dict.txt ]] || mlvl-sentencepiece "$xlmr" --train "$corpus"/captions/train.??.txt --vocab-size 600
bash "$here/prepare_parallel.sh" "$xlmr" "$out/raw" "$out/parallel" "${foreign[@]}"
bash "$here/run_mte.sh" "$out/parallel/fseq" "$xlmr" "$out/mte"

echo "a sentence of the validation set, translated:"
head -n 1 "$out/raw/valid.de-en.de" | fairseq-interactive "$out/parallel/fseq" --user-dir "$(mlvl-path)" \
  --task mte_pretraining --path "$out/mte/stage2/checkpoint_best.pt" -s de -t en \
  --bpe sentencepiece --sentencepiece-model "$xlmr/sentencepiece.bpe.model" --beam 5 --cpu | grep '^[SD]-'

# Projectors, on English captions only; the encoders' features are computed once.
mlvl-prepare "$corpus" --sentencepiece "$xlmr" --mte "$out/mte/xlmr" --train-states en
bash "$here/run_trikd.sh" "$corpus" "$xlmr" "$out/mte/xlmr" "$out/trikd" --cached-states --clip "$clip" --valid-langs "$languages"

mlvl-evaluate --checkpoint "$out/trikd/checkpoint_best.pt" --lang "$languages" \
  --captions "$out/world/test.{lang}.json" --image-root "$out/world/images" --json "$out/scores.json"
