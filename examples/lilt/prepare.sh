#!/usr/bin/env bash
# Pairs of pictures and captions, as ALBEF's JSON files have them, to a corpus folder in a text tower's tokens.
#
# usage: bash examples/lilt/prepare.sh VALID_FILE IMAGE_ROOT TEXT CORPUS TRAIN_FILE...
#   VALID_FILE   what the best checkpoint is chosen by, e.g. coco_val.json; the published code has none
#   IMAGE_ROOT   folder that the pictures' names start from; / where they are absolute
#   TEXT         folder of the text tower: vocab.txt or tokenizer.json
#   TRAIN_FILE   pretrain-pairs.json, vg.json, ...: [{"image", "caption"}, ...]; one after the other
# PRESET=reference: captions are cut as published: cleaned, and without [SEP]. Safe to run twice.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 5 "VALID_FILE IMAGE_ROOT TEXT CORPUS TRAIN_FILE..." "$@"
valid=$1 root=$2 text=$3 corpus=$4
shift 4
train=() quirks=()
for file in "$@"; do train+=(--train "$file"); done
[[ ${PRESET:-default} == default ]] || quirks=(--cleaning lilt --no-end-token)
mlvl-prepare "$corpus" --languages en --image-root "$root" "${train[@]}" --valid "$valid"
mlvl-prepare "$corpus" --wordpiece "$text" "${quirks[@]}"
