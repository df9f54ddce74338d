#!/usr/bin/env bash
# Triangle knowledge distillation: two projectors bring a frozen text encoder and a frozen CLIP together.
#
# usage: bash examples/mclip/run_trikd.sh CORPUS XLMR MTE OUT [OPTION...]
#   CORPUS   folder of prepare_images.sh
#   XLMR     folder with sentencepiece.bpe.model and dict.txt
#   MTE      file of run_mte.sh, or a released one
#   OPTION   of fairseq-train, e.g. --langs en,ja,de --loss-type nott --clip ViT-B-32.pt
# RECIPE=published (default): recipe trikd of mlvl_fairseq/configs, the flags of the published run, for 8 GPUs.
# RECIPE=small: trikd_small, minutes on a CPU.
# PRESET=reference: with the quirks of the published code (docs/mclip.md).
# INIT=CHECKPOINT fine-tunes it, on captions of which several may show one picture: recipe trikd_finetune.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 4 "CORPUS XLMR MTE OUT [OPTION...]" "$@"
corpus=$1 xlmr=$2 mte=$3 out=$4
shift 4
require_pieces "$xlmr"

if [[ -z ${INIT:-} ]]; then
  chosen_recipe trikd
else
  chosen_recipe trikd_finetune
  flags+=(--init-projectors-from "$INIT")
fi
fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --sentencepiece "$xlmr" --mte "$mte" --save-dir "$out" "$@"
