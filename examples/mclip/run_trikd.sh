#!/usr/bin/env bash
# Triangle knowledge distillation: two projectors bring a frozen text encoder and a frozen CLIP together.
#
# usage: bash examples/mclip/run_trikd.sh CORPUS XLMR MTE OUT [OPTION...]
#   CORPUS   folder of prepare_images.sh
#   XLMR     folder with sentencepiece.bpe.model and dict.txt
#   MTE      file of run_mte.sh, or a released one
#   OPTION   of fairseq-train, e.g. --langs en,ja,de --loss-type nott --clip ViT-B-32.pt
# RECIPE=published (default): the flags of the published run, for 8 GPUs. RECIPE=small: minutes on a CPU.
# PRESET=reference: with the quirks of the published code (docs/mclip.md).
# INIT=CHECKPOINT fine-tunes it, on captions of which several may show one picture.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 4 "CORPUS XLMR MTE OUT [OPTION...]" "$@"
corpus=$1 xlmr=$2 mte=$3 out=$4
shift 4
require_pieces "$xlmr"

options=(--task trikd --criterion trikd --sentencepiece "$xlmr" --mte "$mte" --seed 16 --clip-norm 2
  --no-epoch-checkpoints --best-checkpoint-metric r_mean --maximize-best-checkpoint-metric --log-format simple)
if [[ ${RECIPE:-published} == published ]]; then
  options+=(--arch trikd_base --optimizer torch_lamb --lr 1e-2 --lr-scheduler inverse_sqrt --warmup-updates 500
    --warmup-init-lr 1e-7 --dropout 0.3 --fp16 --fp16-no-flatten-grads --ddp-backend legacy_ddp)
  if [[ -z ${INIT:-} ]]; then
    options+=(--batch-size 2048 --weight-decay 0.01 --max-epoch 15 --save-interval-updates 250 --keep-interval-updates 10)
  else
    options+=(--batch-size 128 --weight-decay 0.001 --max-epoch 30 --save-interval-updates 500 --keep-interval-updates 5)
  fi
else
  options+=(--arch trikd_tiny --optimizer torch_lamb --lr 1e-2 --weight-decay 0.01 --lr-scheduler inverse_sqrt
    --warmup-updates 50 --warmup-init-lr 1e-7 --dropout 0.1 --batch-size 256 --max-epoch 10 --cpu --num-workers 0
    --required-batch-size-multiple 1 --log-interval 50)
fi
if [[ -n ${INIT:-} ]]; then
  options+=(--init-projectors-from "$INIT" --positives mean)
fi
if [[ ${PRESET:-default} == reference ]]; then
  options+=(--frozen-dropout --non-english-ttc image)
  if [[ -z ${INIT:-} ]]; then
    options+=(--ttc-temperature 0.376 --positives diagonal --max-length 78 --sampling-temperature 5
      --single-language-batches)
  else
    options+=(--ttc-temperature 0.217 --positives sum --max-length 512 --reset-temperature)
  fi
fi
fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${options[@]}" --save-dir "$out" "$@"
