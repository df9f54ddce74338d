#!/usr/bin/env bash
# The ablations of TEIR: settings (1) to (7) of the published table, and what is trained with which loss.
#
# usage: bash examples/cll_clip/run_ablation_study.sh GPU|cpu [CORPUS] [OUTPUT]     see lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
# shellcheck disable=SC2046  # a list of names
learn_all $(chosen_methods cll_clip ablation_init ablation_grad ablation_decay ablation_grad_decay cll_clip_with_teir \
  oracle_teir ablation_train_all ablation_only_cross_modal ablation_only_cross_lingual)
mlvl-report "$out/runs"
