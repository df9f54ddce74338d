#!/usr/bin/env bash
# Retrieval scores of a LilT; which towers and adapters it has, its file says itself.
#
# usage: bash examples/lilt/evaluate_lilt.sh CHECKPOINT TEST_FILE IMAGE_ROOT OUTPUT_DIR [OPTION...] [--overrides KEY=VALUE...]
#   CHECKPOINT   of pretrain_lilt.sh or mlvl-convert lilt
#   TEST_FILE    flickr30k_test.json, coco_test.json, val_es.json of process_xtd10.py, ...; docs/data.md names more formats
#   IMAGE_ROOT   the folder that the names in it start from
#   OUTPUT_DIR   gets the scores
#   OPTION       of mlvl-evaluate, e.g. --device cuda
#   KEY=VALUE    as the published code takes them (README.md), e.g. k_test=256
# LANGS=es: language of the captions, for the names of files and for signatures; default: en.
# PRESET=reference: the 128 best candidates of a query count, as published.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
evaluate "$@"
