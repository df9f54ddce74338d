#!/usr/bin/env bash
# CCLM fine-tuned for retrieval on MS-COCO, in a language or in all three, and evaluated among 1000 pictures.
#
# usage: bash examples/cclm/itr_coco.sh DATA IMAGES XLMR [FLAG...] [-- OPTION...]
#   DATA            folder with en.train.json, en.valid.json, en.1k_test.json; the same of ja (YJCaptions); and
#                   zh.train.json, zh.val.json, zh.test.json (COCO-CN)
#   IMAGES          folder that the names of pictures start from
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task itr_coco --dist 1 --bs 128 --lr 3e-5 --epoch 10 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --config configs/cclm-base-ft/Retrieval_coco_en_ft.yaml, zh, ja or all; default: en
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipe cclm_retrieval of mlvl_fairseq/configs, with the published settings, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published itr_coco "$@"
