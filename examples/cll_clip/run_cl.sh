#!/usr/bin/env bash
# One method, with the arguments of the published scripts/run_cl.sh.
#
# usage: bash examples/cll_clip/run_cl.sh METHOD ARCH [DATASETS] [ORDER] [CMD] [ROOT]
#   METHOD     published name (CLL_CLIP_with_TEIR, oEWC, P_Tuning, ...) or a row of mlvl-cll --list-methods
#   ARCH       B16, B32 or L14; OpenAI's file of it is looked for in $CKPT_HOME (default: the working directory)
#   DATASETS   name of a corpus folder of mlvl-prepare in $CORPORA (default: coco in corpora/)
#   ORDER      222 (default), 1, or anything mlvl-cll --order takes
#   CMD        further options of mlvl-cll, one string, e.g. "--max-epoch 1 --cpu"; its --arch and --init-from win
#   ROOT       output (default: output); the run goes to ROOT/DATASETS/CL/ARCH_METHOD/order222
# CUDA_VISIBLE_DEVICES chooses the GPU.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="METHOD B16|B32|L14 [DATASETS] [ORDER] [CMD] [ROOT]"
require 2 "$usage" "$@"
method=$1 variant=$2 datasets=${3:-coco} order=${4:-222} root=${6:-output}
read -r -a options <<<"${5:-}"
case $variant in
  B16) arch=clip_vit_b16 file=ViT-B-16.pt ;;
  B32) arch=clip_vit_b32 file=ViT-B-32.pt ;;
  L14) arch=clip_vit_l14 file=ViT-L-14.pt ;;
  *) require 2 "$usage" ;;
esac
if [[ $datasets == *,* ]]; then
  echo "several data sets are one corpus here: make it with mlvl-prepare and give its name" >&2
  exit 2
fi
case $method in
  CLL_CLIP_Oracle0_ID1_REG0) row=ablation_init ;;
  CLL_CLIP_Oracle0_ID0_REG1_g) row=ablation_grad ;;
  CLL_CLIP_Oracle0_ID0_REG1_d) row=ablation_decay ;;
  CLL_CLIP_Oracle0_ID0_REG1_gd) row=ablation_grad_decay ;;
  CLL_CLIP_Oracle1_ID1_REG1_gd) row=oracle_teir ;;
  JointTrain_CLL_CLIP) row=joint ;;
  Ablation_trainAll) row=ablation_train_all ;;
  Ablation_onlyCrossModal) row=ablation_only_cross_modal ;;
  Ablation_onlyCrossLingual) row=ablation_only_cross_lingual ;;
  *) row=${method,,} ;;
esac
weights=${CKPT_HOME:-.}/$file
if [[ ! -e $weights && " ${5:-}" != *" --init-from"* ]]; then
  echo "$weights: no such file; put OpenAI's $file there, or say with CKPT_HOME=... in which folder it is" >&2
  exit 2
fi
[[ $order != [0-9]* || $order == *,* ]] || order=order$order

mlvl-cll "${CORPORA:-corpora}/$datasets" "$root/$datasets/CL/${variant}_$method/${order//,/-}" --method "$row" \
  --arch "$arch" --init-from "$weights" --order "$order" "${options[@]}"
