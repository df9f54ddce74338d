#!/usr/bin/env bash
# How well settings (1) to (7) of the ablation converge: loss of the final model on all languages' training captions,
# under weight noise, too, and the trace of its Fisher information. Learns what is not learned yet.
#
# usage: bash examples/cll_clip/run_analysis_converge.sh GPU|cpu [CORPUS] [OUTPUT]
#   MAX_CAPTIONS (default 500) of a language's training captions are used; see lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
read -r -a methods <<<"$(chosen_methods cll_clip ablation_init ablation_grad ablation_decay ablation_grad_decay \
  cll_clip_with_teir oracle_teir)"
learn_all "${methods[@]}"
for seed in "${seeds[@]}"; do
  mlvl-analyse convergence "${methods[@]/#/$out/runs/seed$seed/}" --output "$out/analysis/seed$seed" --device "$device" \
    --init-from "$weights" --max-captions "${MAX_CAPTIONS:-500}"
done
