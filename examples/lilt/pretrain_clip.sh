#!/usr/bin/env bash
# Both towers train: "CLIP" of the paper, which is not that of OpenAI.
#
# usage: bash examples/lilt/pretrain_clip.sh CORPUS IMAGE_WEIGHTS TEXT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]
#   CORPUS          folder of prepare.sh
#   IMAGE_WEIGHTS   deit_base_patch16_224-b5f2ef4d.pth or another file of the image tower; none: random weights
#   TEXT            folder of the text tower: vocab.txt or tokenizer.json and, if it starts from weights, Hugging Face's files
#   OUTPUT_DIR      gets checkpoint_best.pt and checkpoint_last.pt
#   OPTION          of fairseq-train, e.g. --seed 1
#   KEY=VALUE       as the published code takes them (README.md), e.g. vision_encoder=small schedular.epochs=5
# RECIPE=published (default): recipe lilt of mlvl_fairseq/configs, the settings of the published run, for 4 GPUs.
# RECIPE=small: lilt_small, minutes on a CPU.
# PRESET=reference: with the quirks of the published code (docs/lilt.md); give it to prepare.sh, too.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pretrain "freeze_text_encoder=False freeze_vision_encoder=False" "$@"
