#!/usr/bin/env bash
# The multilingual text encoder: stage 1 (translation, encoder frozen), stage 2 (encoder trains, contrastive loss), and
# its export as an XLM-R file, OUT/mte.pt.
#
# usage: bash examples/mclip/run_mte.sh FSEQ XLMR OUT [OPTION...]
#   FSEQ     folder of prepare_parallel.sh
#   XLMR     fairseq's XLM-R: model.pt, dict.txt, sentencepiece.bpe.model
#   OPTION   of fairseq-train, for both stages
# RECIPE=published (default): the flags of the published runs, for 8 GPUs. RECIPE=small: minutes on a CPU. There is no
# small XLM-R: its encoder starts from random weights, so it trains in stage 1, too, and with the contrastive loss. (An
# encoder that has learned to translate without it gives all sentences one vector when the loss comes in stage 2.)
# PRESET=reference: with the quirks of the published code (docs/mclip.md).
# STAGE1, STAGE2: further options of one stage. Safe to run twice: trainings go on where they were.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 3 "FSEQ XLMR OUT [OPTION...]" "$@"
fseq=$1 xlmr=$2 out=$3
shift 3
require_pieces "$xlmr"
read -r -a stage1 <<<"${STAGE1:-}"
read -r -a stage2 <<<"${STAGE2:-}"

common=(--task mte_pretraining --criterion mte --label-smoothing 0.1 --clip-norm 2 --seed 16
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt --no-epoch-checkpoints --log-format simple)
if [[ ${RECIPE:-published} == published ]]; then
  common+=(--arch mte_base --xlmr "$xlmr" --truncate 508 --fp16 --ddp-backend legacy_ddp)
  encoder1=none lambda1=0
  stage1=(--max-tokens 4096 --lr 5e-4 --warmup-updates 4000 --warmup-init-lr 1e-7 --stop-min-lr 1e-9
    --max-update 400000 --save-interval-updates 8000 --keep-interval-updates 1 "${stage1[@]}")
  stage2=(--max-tokens 1024 --update-freq 4 --lr 1e-4 --warmup-updates 10 --warmup-init-lr 2e-5
    --max-update 160000 --save-interval-updates 5000 --keep-interval-updates 1 "${stage2[@]}")
else
  common+=(--arch mte_tiny --encoder-from-scratch --cpu --num-workers 0 --max-tokens 2048 --bleu-sentences 100 --bleu-beam 1
    --required-batch-size-multiple 1 --log-interval 50)
  encoder1=all lambda1=2
  stage1=(--lr 2e-3 --warmup-updates 100 --max-update 500 "${stage1[@]}")
  stage2=(--lr 1e-3 --warmup-updates 50 --max-update 250 "${stage2[@]}")
fi
if [[ ${PRESET:-default} == reference ]]; then
  common+=(--no-source-bos --smoothing-to all --frozen-dropout)
  stage2+=(--contrastive-weight published --contrastive-source projected)
fi

train() { # FOLDER OPTION...
  [[ ! -e $1/done ]] || return 0
  fairseq-train "$fseq" --user-dir "$(mlvl-path)" "${common[@]}" --save-dir "$@"
  touch "$1/done"
}

train "$out/stage1" --contrastive-lambda "$lambda1" --train-encoder "$encoder1" "${stage1[@]}" "$@"
train "$out/stage2" --init-from "$out/stage1/checkpoint_best.pt" --train-encoder layers \
  --contrastive-lambda 2 --contrastive-temperature 0.1 "${stage2[@]}" "$@"
mlvl-export mte "$out/stage2/checkpoint_best.pt" "$out/mte.pt" --sentencepiece "$xlmr"
