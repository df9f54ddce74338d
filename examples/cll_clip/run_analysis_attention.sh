#!/usr/bin/env bash
# How far attention on earlier languages drifts, without and with TEIR's initialisation (KL to the final model).
# Learns what is not learned yet.
#
# usage: bash examples/cll_clip/run_analysis_attention.sh GPU|cpu [CORPUS] [OUTPUT]
#   MAX_CAPTIONS (default 500) of a language's training captions are compared; see lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
read -r -a methods <<<"$(chosen_methods ablation_grad_decay cll_clip_with_teir)"
learn_all "${methods[@]}"
for seed in "${seeds[@]}"; do
  mlvl-analyse attention "${methods[@]/#/$out/runs/seed$seed/}" --output "$out/analysis/seed$seed" --device "$device" \
    --init-from "$weights" --max-captions "${MAX_CAPTIONS:-500}"
done
