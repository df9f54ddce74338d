#!/usr/bin/env bash
# The multilingual text encoder: stage 1 (translation, encoder frozen), stage 2 (encoder trains, contrastive loss), and
# its export as an XLM-R folder, OUT/xlmr.
#
# usage: bash examples/mclip/run_mte.sh FSEQ XLMR OUT [OPTION...]
#   FSEQ     folder of prepare_parallel.sh
#   XLMR     fairseq's XLM-R: model.pt, dict.txt, sentencepiece.bpe.model
#   OPTION   of fairseq-train, for both stages
# RECIPE=published (default): recipes mte_stage1 and mte_stage2 of mlvl_fairseq/configs, the flags of the published runs,
# for 8 GPUs. RECIPE=small: mte_stage1_small and mte_stage2_small, minutes on a CPU.
# PRESET=reference: with the quirks of the published code (docs/mclip.md).
# STAGE1, STAGE2: further options of one stage. Safe to run twice: trainings go on where they were.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 3 "FSEQ XLMR OUT [OPTION...]" "$@"
fseq=$1 xlmr=$2 out=$3
shift 3
require_pieces "$xlmr"
read -r -a stage1 <<<"${STAGE1:-}"
read -r -a stage2 <<<"${STAGE2:-}"
xlmr_option=()

train() { # RECIPE FOLDER OPTION...
  [[ ! -e $2/done ]] || return 0
  chosen_recipe "$1"
  fairseq-train "$fseq" --user-dir "$(mlvl-path)" "${flags[@]}" --save-dir "${@:2}"
  touch "$2/done"
}

[[ ${RECIPE:-published} == small ]] || xlmr_option=(--xlmr "$xlmr")
train mte_stage1 "$out/stage1" "${xlmr_option[@]}" "${stage1[@]}" "$@"
train mte_stage2 "$out/stage2" "${xlmr_option[@]}" --init-from "$out/stage1/checkpoint_best.pt" "${stage2[@]}" "$@"
mlvl-export xlmr "$out/stage2/checkpoint_best.pt" "$out/xlmr" --sentencepiece "$xlmr"
