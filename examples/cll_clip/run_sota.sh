#!/usr/bin/env bash
# The comparison of methods: each plain, with TEIR, and with TEIR's scaled step, and joint training as the upper bound.
# The names and their table: mlvl-cll --list-methods, docs/methods.md.
#
# usage: bash examples/cll_clip/run_sota.sh GPU|cpu [CORPUS] [OUTPUT]
#   without a CORPUS, on 36 generated languages; METHODS=all adds the methods beyond the published ones; see lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
# shellcheck disable=SC2046,SC2086  # lists of names
learn_all $(chosen_methods $(variants_of $published) joint)
mlvl-report "$out/runs"
