#!/usr/bin/env bash
# CCLM fine-tuned on NLVR2, or on a few statements of MaRVL in a language, and asked MaRVL's in every language: is a
# statement about two pictures true?
#
# usage: bash examples/cclm/nlvr.sh NLVR2 IGLUE IMAGES XLMR [FLAG...] [-- OPTION...]
#   NLVR2           folder with nlvr_train.json, nlvr_dev.json and nlvr_test.json, as X-VLM has them
#   IGLUE           folder that IGLUE is cloned to (e-bug/iglue at GitHub), its files zipped or not
#   IMAGES          folder with nlvr2, marvl-images and, for few-shot, marvl_fewshot
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task nlvr --dist 1 --bs 128 --lr 3e-5 --epoch 10 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --fewshot id --lr 1e-6
#                   --gmt: evaluated on what a machine translated to English
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipe cclm_entailment of mlvl_fairseq/configs, with the published settings, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published nlvr "$@"
