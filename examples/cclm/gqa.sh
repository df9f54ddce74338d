#!/usr/bin/env bash
# CCLM fine-tuned on GQA, or on a few questions of xGQA in a language, and asked xGQA's questions in every language.
#
# usage: bash examples/cclm/gqa.sh IGLUE IMAGES XLMR [FLAG...] [-- OPTION...]
#   IGLUE           folder that IGLUE is cloned to (e-bug/iglue at GitHub), its files zipped or not
#   IMAGES          folder with gqa
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task gqa --dist 1 --bs 128 --lr 3e-5 --epoch 5 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --fewshot de --lr 1e-6
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipe cclm_questions of mlvl_fairseq/configs, with the published settings, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published gqa "$@"
