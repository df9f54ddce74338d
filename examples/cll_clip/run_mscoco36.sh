#!/usr/bin/env bash
# The published setting: CLIP ViT-B/16 learns 36 languages on MSCOCO36, order 222, and is scored on COCO after each.
# Safe to run twice: what is done is skipped.
#
# usage: bash examples/cll_clip/run_mscoco36.sh DATA ViT-B-16.pt [OUTPUT] [METHOD ...]
#   DATA    folder with triplet/coco_vision-en-<lang>.tsv.gz, annotations/coco/<lang>/{val,test}.json, MSCOCO/ (images)
#   OUTPUT  default: outputs/mscoco36
# DEVICE=cuda (default) or cpu in the environment says where the teacher computes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

require 2 "DATA ViT-B-16.pt [OUTPUT] [METHOD ...]" "$@"
data=$1
weights=$2
out=${3:-outputs/mscoco36}
methods=("${@:4}")
check_methods "${methods[@]}"
[[ ${#methods[@]} -gt 0 ]] || methods=(cll_clip cll_clip_with_teir cll_clip_with_teir_update)
languages=$(languages_of order222)

if [[ ! -e $out/corpus/corpus.json ]]; then
  mlvl-prepare "$out/corpus" --languages "$languages" --image-root "$data/MSCOCO" \
    --train "$data/triplet/coco_vision-en-{lang}.tsv.gz" \
    --valid "$data/annotations/coco/{lang}/val.json" --test "$data/annotations/coco/{lang}/test.json"
fi
mlvl-prepare "$out/corpus" --teacher "$weights" --device "${DEVICE:-cuda}" --num-workers 4

for method in "${methods[@]}"; do
  mlvl-cll "$out/corpus" "$out/runs/$method" --method "$method" --order order222 \
    --arch clip_vit_b16 --init-from "$weights"
done
mlvl-report "$out/runs"
