#!/usr/bin/env bash
# CCLM's pre-training on captions in six languages, boxes in images, and parallel text: "4M".
#
# usage: bash examples/cclm/pretrain_4m.sh IMAGE_TEXT REGIONS PARALLEL_TEXT XLMR IMAGE_WEIGHTS [FLAG...] [-- OPTION...]
#   IMAGE_TEXT      files, folders or patterns of JSON lines with images (docs/cclm.md), separated by commas
#   REGIONS         the same, with boxes
#   PARALLEL_TEXT   the same, of sentences and their translations
#   XLMR            folder of XLM-R large; one of mlvl-sentencepiece, without weights, for random ones
#   IMAGE_WEIGHTS   swin_base_patch4_window7_224_22k.pth or another file of the image tower; none: random weights
#   FLAG            of the published run.py: --task pretrain_cclm_4m --dist 1 --bs 1024 --epoch 30 --lr 1e-4
#                   --checkpoint FILE --output_dir DIR --seed 42; and --overrides KEY=VALUE ..., keys of the published
#                   configuration (README.md), e.g. regions.max_regions=8
#   OPTION          of fairseq-train, e.g. --cpu
# RECIPE=published (default): recipe cclm_4m of mlvl_fairseq/configs, the settings of the published run, for 8 GPUs.
# RECIPE=small: cclm_small, minutes on a CPU.
# PRESET=reference: with the quirks of the published code (docs/cclm.md).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
published pretrain_cclm_4m "$@"
