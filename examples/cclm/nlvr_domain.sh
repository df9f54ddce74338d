#!/usr/bin/env bash
# CCLM learns which of two pictures a caption is of; then as nlvr.sh: fine-tuned on NLVR2, asked MaRVL's statements.
#
# usage: bash examples/cclm/nlvr_domain.sh IMAGE_TEXT NLVR2 IGLUE IMAGES XLMR [FLAG...] [-- OPTION...]
#   IMAGE_TEXT      files, folders or patterns of JSON lines with images (docs/cclm.md), separated by commas
#   NLVR2           folder with nlvr_train.json, nlvr_dev.json and nlvr_test.json, as X-VLM has them
#   IGLUE           folder that IGLUE is cloned to (e-bug/iglue at GitHub), its files zipped or not
#   IMAGES          folder with nlvr2, marvl-images and, for few-shot, marvl_fewshot
#   XLMR            folder of XLM-R large; of a checkpoint with other pieces, their folder
#   FLAG            of the published run.py: --task nlvr_domain --dist 1 --bs 128 --lr 3e-5 --epoch 10 --seed 42
#                   --checkpoint FILE --output_dir DIR; --evaluate: no training
#                   --load_ckpt_from FILE instead of --checkpoint: this was learned already
#                   --gmt: evaluated on what a machine translated to English
#                   and --overrides KEY=VALUE ..., keys of the published configuration (README.md)
#   OPTION          of fairseq-train, both times, e.g. --cpu; with --evaluate of mlvl-evaluate
# FILE: what pre-training gave, or mlvl-convert cclm. DIR gets checkpoint_best.pt and, of each language, scores.
# RECIPE=published (default): recipes cclm_which_image and cclm_entailment of mlvl_fairseq/configs, for 8 GPUs.
# RECIPE=small: minutes on a CPU. PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published nlvr_domain "$@"
