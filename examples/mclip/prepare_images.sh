#!/usr/bin/env bash
# Pictures and captions to a corpus folder: CLIP's features of pictures and English captions, and captions in pieces.
#
# usage: bash examples/mclip/prepare_images.sh LAYOUT DATA CORPUS CLIP XLMR [LANGS]
#   LAYOUT   json, cc3m, coco or multi30k; see README.md for the files each expects in DATA
#   CLIP     ViT-B-32.pt of OpenAI, or another teacher
#   XLMR     folder with sentencepiece.bpe.model and dict.txt
#   LANGS    default: en
# PRESET=reference: pictures are cut as in the published training (docs/mclip.md), as run_trikd.sh then expects.
# DEVICE=cuda lets CLIP compute on a GPU. Safe to run twice: features go on where they were.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 5 "json|cc3m|coco|multi30k DATA CORPUS CLIP XLMR [LANGS]" "$@"
layout=$1 data=$2 corpus=$3 clip=$4 xlmr=$5 langs=${6:-en}
one_of LAYOUT "$layout" json cc3m coco multi30k
require_pieces "$xlmr"

case $layout in
  json) files=(--train "$data/train.{lang}.json" --valid "$data/valid.{lang}.json") ;;
  cc3m) files=(--train "$data/train.{lang}.tsv" --valid "$data/valid.{lang}.tsv") ;;
  coco) files=(--train "$data/captions_train2014.{lang}.json" --valid "$data/captions_val2014.{lang}.json") ;;
  multi30k)
    files=(--train "$data/train.{lang}" --valid "$data/val.{lang}"
      --caption-images train="$data/train_images.txt" valid="$data/val_images.txt")
    ;;
esac
mlvl-prepare "$corpus" --languages "$langs" --image-root "$data/images" "${files[@]}"
transform=()
[[ ${PRESET:-default} == default ]] || transform=(--transform mclip)
mlvl-prepare "$corpus" --teacher "$clip" --device "${DEVICE:-cpu}" "${transform[@]}"
mlvl-prepare "$corpus" --sentencepiece "$xlmr"
