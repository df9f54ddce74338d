#!/usr/bin/env bash
# CCLM fine-tuned for retrieval on Wikipedia's pictures in English and evaluated in eleven languages: WIT of IGLUE.
#
# usage: bash examples/cclm/wit.sh IGLUE IMAGES XLMR [FLAG...] [-- OPTION...]
#   IGLUE           folder that IGLUE is cloned to (e-bug/iglue at GitHub), its files zipped or not
#   IMAGES          folder with Kaggle's tables of pixels, unpacked: image_data_train/image_pixels and wit_test
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task wit --dist 1 --bs 128 --lr 3e-5 --epoch 5 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --gmt: evaluated on what a machine translated to English
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipe cclm_retrieval of mlvl_fairseq/configs, with the published settings, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published wit "$@"
