#!/usr/bin/env bash
# LilT on generated data, small enough for a CPU. Towers are trained on their own: one to tell classes of pictures apart,
# the other, without pictures, to fill masked words into captions of five languages and then to translate them. Then few
# pictures with English captions align the two, and what trains of them is compared: retrieval in English and in
# languages that alignment never saw, and classes of pictures by their names in all of them.
#
# usage: bash examples/lilt/run_generated.sh [OUT]        default: outputs/lilt_generated
# Safe to run again: what is done is skipped, what was interrupted goes on. The environment changes what is run:
#   PRESETS="full lit ..."     what trains (--preset)      SEEDS="1"     JOBS=2 rows at a time
#   PICTURES=500               that align, with two captions each        EPOCHS=15
#   TEXT_PICTURES=6000 MASKED_UPDATES=400 TRANSLATION_UPDATES=400 CLASS_PICTURES=40 CLASS_EPOCHS=10
#   TEST_PICTURES=300 VOCABULARY=600                     sizes of the rest
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
begin 0 "[OUT]" "$@"
out=${1:-outputs/lilt_generated} here=$(dirname "${BASH_SOURCE[0]}")
languages=en,de,es,cs,ru
pictures=${PICTURES:-500} test_pictures=${TEST_PICTURES:-300}
read -r -a presets <<<"${PRESETS:-full lit ln bitfit lwa+ln da+ln lora}"
read -r -a seeds <<<"${SEEDS:-1}"
IFS=, read -r -a codes <<<"$languages"
world=$out/world corpus=$out/corpus pieces=$out/pieces text=$out/text
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

trap stop_jobs EXIT

# Pictures: the first ones of training align; of the others only the captions are read. And pictures of classes.
mlvl-picture-world "$world" --languages "$languages" --train $((pictures + ${TEXT_PICTURES:-6000})) --valid 100 \
  --test "$test_pictures" --classes "${CLASS_PICTURES:-40}"
if [[ ! -e $corpus/corpus.json ]]; then
  mlvl-prepare "$corpus" --languages "$languages" --image-root "$world/images" \
    --train "$world/train.{lang}.json" --valid "$world/valid.{lang}.json"
fi

# Text of the other pictures: every language's own captions for masked words, no two languages of one picture; English
# ones with their translations for the rest.
if [[ ! -e $text/raw/done ]]; then
  mkdir -p "$text/raw"
  for split in train valid; do
    skip=0
    [[ $split == valid ]] || skip=$pictures
    : >"$text/raw/$split"
    for lang in "${codes[@]}"; do
      tail -n +$((2 * skip + 1)) "$corpus/captions/$split.$lang.txt" >"$text/raw/$split.$lang"
      [[ $lang == en ]] || cp "$text/raw/$split.$lang" "$text/raw/$split.$lang-en.$lang"
    done
    for ((i = 0; i < ${#codes[@]}; i++)); do
      awk -v n="${#codes[@]}" -v i="$i" 'int((NR - 1) / 2) % n == i' "$text/raw/$split.${codes[i]}" >>"$text/raw/$split"
      [[ ${codes[i]} == en ]] || cp "$text/raw/$split.en" "$text/raw/$split.${codes[i]}-en.en"
    done
  done
  touch "$text/raw/done"
fi
if [[ ! -e $text/bin/done ]]; then
  mlvl-sentencepiece "$pieces" --train "$text/raw/train" --vocab-size "${VOCABULARY:-600}"
  for split in train valid; do mlvl-encode --sentencepiece "$pieces" <"$text/raw/$split" >"$text/raw/$split.pieces"; done
  logged "$text/preprocess.log" fairseq-preprocess --only-source --srcdict "$pieces/dict.txt" \
    --trainpref "$text/raw/train.pieces" --validpref "$text/raw/valid.pieces" --destdir "$text/bin"
  touch "$text/bin/done"
fi
logged "$text/preprocess.log" bash "$here/../mclip/prepare_parallel.sh" "$pieces" "$text/raw" "$text/parallel" "${codes[@]:1}"
mlvl-prepare "$corpus" --sentencepiece "$pieces"

# Both towers on their own, at the same time.
image_tower() {
  local flags
  [[ ! -e $out/image/done ]] || return 0
  recipe image_classifier_small
  echo "the image tower learns to classify; log: $out/image/train.log" >&2
  logged "$out/image/train.log" fairseq-train "$world/classes" --user-dir "$(mlvl-path)" "${flags[@]}" \
    --max-epoch "${CLASS_EPOCHS:-10}" --log-format simple --cpu --num-workers 0 --save-dir "$out/image"
  touch "$out/image/done"
}
text_tower() { # first fairseq's own task and model, of the sizes of the text tower of lilt_nano_xlmr
  local flags updates=${MASKED_UPDATES:-400}
  [[ ! -e $text/done ]] || return 0
  if [[ ! -e $text/masked/done ]]; then
    echo "the text tower learns to fill in words; log: $text/masked/train.log" >&2
    logged "$text/masked/train.log" fairseq-train "$text/bin" --user-dir "$(mlvl-path)" --task masked_lm \
      --criterion masked_lm --sample-break-mode eos --tokens-per-sample 80 --max-positions 80 --arch roberta \
      --encoder-layers 3 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4 \
      --optimizer adam --adam-betas '(0.9,0.98)' --weight-decay 0.01 --clip-norm 1 --dropout 0 --attention-dropout 0 \
      --lr 2e-3 --lr-scheduler polynomial_decay --warmup-updates 100 --total-num-update "$updates" \
      --max-update "$updates" --batch-size 100 --required-batch-size-multiple 1 --no-epoch-checkpoints --seed 1 \
      --log-format simple --log-interval 50 --cpu --num-workers 0 --save-dir "$text/masked"
    touch "$text/masked/done"
  fi
  echo "the text tower learns to translate; log: $text/train.log" >&2
  recipe mte_stage1_small model.encoder_from_scratch=false "++model.xlmr=$text/masked/checkpoint_last.pt"
  logged "$text/train.log" fairseq-train "$text/parallel/fseq" --user-dir "$(mlvl-path)" "${flags[@]}" \
    --max-source-positions 78 --max-target-positions 78 --max-update "${TRANSLATION_UPDATES:-400}" \
    --bleu-sentences 0 --disable-validation --save-dir "$text"
  touch "$text/done"
}
image_tower &
image=$!
text_tower
wait "$image"

rate() { # PRESET
  case $1 in
    full | lit) echo 5e-4 ;;
    *) echo 2e-3 ;;
  esac
}

row() { # PRESET SEED
  local flags folder=$out/rows/$1/seed$2
  [[ ! -e $folder/done ]] || return 0
  mapfile -t flags <"$out/alignment.flags"
  echo "$1, seed $2; log: $folder/train.log" >&2
  logged "$folder/train.log" fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --arch lilt_nano_xlmr \
    --text-pooling mean --tokenizer-folder "$pieces" --max-length 80 --limit-samples $((2 * pictures)) \
    --image-weights "$out/image/checkpoint_best.pt" --text-weights "$text/checkpoint_last.pt" \
    --preset "$1" --lr "$(rate "$1")" --batch-size 100 --max-epoch "${EPOCHS:-15}" --seed "$2" \
    --log-format simple --cpu --num-workers 0 --save-dir "$folder"
  logged "$folder/evaluate.log" mlvl-evaluate --checkpoint "$folder/checkpoint_best.pt" --lang "$languages" \
    --captions "$world/test.{lang}.json" --image-root "$world/images" --output-dir "$folder/retrieval"
  logged "$folder/evaluate.log" mlvl-evaluate classification --checkpoint "$folder/checkpoint_best.pt" \
    --lang "$languages" --data-set folder --root "$world/classes/test" --template '{}' \
    --names "$world/classes/names.{lang}.txt" --output-dir "$folder/classification"
  touch "$folder/done"
}
recipe lilt_small
printf '%s\n' "${flags[@]}" >"$out/alignment.flags"
export -f row rate logged fail
export out world corpus pieces text languages pictures EPOCHS
for seed in "${seeds[@]}"; do
  for preset in "${presets[@]}"; do echo "$preset $seed"; done
done | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; row "$@"' run_generated.sh

python "$here/generated_table.py" "$out/rows" --languages "$languages" --picture "$out/trained.png"
