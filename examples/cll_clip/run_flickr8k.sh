#!/usr/bin/env bash
# Real photos: an English teacher on frozen image features, then German, French, Czech, Portuguese, Chinese and Arabic
# one after another, with three methods and three seeds, or METHODS=all. Safe to run twice: what is done is skipped.
#
# usage: bash examples/cll_clip/run_flickr8k.sh DATA [OUTPUT]
#   DATA    folder with train.vision-en-<lang>.tsv, {train,val}.<lang>.json and squeezenet.{train,val}.{npy,images.txt}
#   OUTPUT  default: outputs/flickr8k
# 500 photos of the training set are set aside before anything is trained, and are what is reported: they select nothing.
# Checkpoints are chosen on the photos of val.
# SEEDS="1 2 3" METHODS="..." UPDATES=250 LR=1e-3 in the environment change what is run; JOBS=2 runs two at a time.
# AUTOCAST=bf16 learns the languages once more, into seed1/METHOD-bf16 and so on: what that changes is in the report.
# OEWC and MAS take importance from FISHER_BATCHES=30 batches of a language.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

require 1 "DATA [OUTPUT]" "$@"
# shellcheck disable=SC2086  # a list of names
check_methods ${METHODS:-}
data=$1
out=${2:-outputs/flickr8k}
order=en,de,fr,cs,pt,zh,ar
read -r -a methods <<<"$(chosen_methods cll_clip cll_clip_with_teir cll_clip_with_teir_update)"
read -r -a seeds <<<"${SEEDS:-1 2 3}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [[ ! -e $out/corpus/corpus.json ]]; then
  python "$(dirname "${BASH_SOURCE[0]}")/hold_out.py" "$data" "$out/captions" --languages "$order"
  features=$data/squeezenet.train.npy images=$data/squeezenet.train.images.txt
  mlvl-prepare "$out/corpus" --languages "$order" --order "$order" --train "$out/captions/train.vision-en-{lang}.tsv" \
    --valid "$data/val.{lang}.json" --test "$out/captions/test.{lang}.json" \
    --image-features train="$features" valid="$data/squeezenet.val.npy" test="$features" \
    --image-list train="$images" valid="$data/squeezenet.val.images.txt" test="$images"
fi

if [[ ! -e $out/teacher/done ]]; then
  recipe clip_teacher_features
  logged "$out/teacher/train.log" \
    fairseq-train "$out/corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --cpu --save-dir "$out/teacher"
  touch "$out/teacher/done"
fi
mlvl-prepare "$out/corpus" --teacher "$out/teacher/checkpoint_best.pt"

learn() { # learn SEED METHOD
  mlvl-cll "$out/corpus" "$out/seed$1/$2${AUTOCAST:+-$AUTOCAST}" ${AUTOCAST:+--autocast "$AUTOCAST"} \
    --method "$2" --order "$order" --seed "$1" \
    --arch clip_tiny --init-from "$out/teacher/checkpoint_best.pt" \
    --lr "${LR:-1e-3}" --max-epoch 100 --max-update "${UPDATES:-250}" --cpu \
    --ewc-batches "${FISHER_BATCHES:-30}" --mas-batches "${FISHER_BATCHES:-30}"
}
export -f learn
export out order LR UPDATES FISHER_BATCHES AUTOCAST
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do echo "$seed $method"; done
done | xargs -P "${JOBS:-1}" -L 1 bash -c 'learn "$@"' _
mlvl-report "$out"
