#!/usr/bin/env bash
# Transfer: the final models and the teacher on pictures of another collection, which nothing was learned from. Learns
# what is not learned yet.
#
# usage: bash examples/cll_clip/run_flickr30k.sh GPU|cpu [CORPUS] [OUTPUT]
#   FLICKR30K   folder with test.{en,de,fr,cs}.json and images/ (default: another picture world, of other pictures)
#   TRANSFER_LANGUAGES en,de,fr,cs; see lib.sh for the rest
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
languages=${TRANSFER_LANGUAGES:-en,de,fr,cs}
data=${FLICKR30K:-$out/other_world}
if [[ -z ${FLICKR30K:-} ]]; then
  mlvl-picture-world "$data" --seed 30000 --train 1 --valid 1 --test "${TEST_PICTURES:-100}" --languages "$languages"
fi
read -r -a methods <<<"$(chosen_methods cll_clip cll_clip_with_teir cll_clip_with_teir_update)"
learn_all "${methods[@]}"

score() { # NAME CHECKPOINT [mlvl-evaluate options]
  mlvl-evaluate --checkpoint "$2" "${@:3}" --lang "$languages" --captions "$data/test.{lang}.json" \
    --image-root "$data/images" --device "$device" --output-dir "$out/flickr30k/$1" --json "$out/flickr30k/$1.json"
}

mkdir -p "$out/flickr30k"
score teacher "$weights"
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    score "$method/seed$seed" "$(last_checkpoint "$method" "$seed")" --init-from "$weights"
  done
done
mlvl-report "$out/flickr30k"
