#!/usr/bin/env bash
# CCLM fine-tuned for retrieval on Flickr30k in English, or on a few captions of a language, and evaluated on
# xFlickr&CO in every language.
#
# usage: bash examples/cclm/xflickrco.sh IGLUE IMAGES XLMR [FLAG...] [-- OPTION...]
#   IGLUE           folder that IGLUE is cloned to (e-bug/iglue at GitHub), its files zipped or not
#   IMAGES          folder with flickr30k-images and coco/val2014
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task xflickrco --dist 1 --bs 128 --lr 3e-5 --epoch 10 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --fewshot de,100 --lr 1e-6
#                   --gmt: evaluated on what a machine translated to English
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipe cclm_retrieval of mlvl_fairseq/configs, with the published settings, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published xflickrco "$@"
