#!/usr/bin/env bash
# Translate-test and fusion: captions of one language with the learned model, their English translations with the
# teacher, and mixtures of both. Learns what is not learned yet.
#
# usage: bash examples/cll_clip/run_translate_test.sh GPU|cpu [CORPUS] [OUTPUT]
#   LANG_CODE (default: qaf, the generated one that is like Hebrew), CAPTIONS, TRANSLATIONS, IMAGE_ROOT: the language,
#   its caption file, that of the English translations, and the images. Generated captions need no translator: the
#   world knows the English sentence of each, so its own English captions serve. See lib.sh for the rest.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begin "$@"
lang=${LANG_CODE:-qaf}
captions=${CAPTIONS:-$world/test.$lang.json}
translations=${TRANSLATIONS:-$world/test.en.json}
images=${IMAGE_ROOT:-$world/images}
read -r -a methods <<<"$(chosen_methods cll_clip_with_teir)"
learn_all "${methods[@]}"
mkdir -p "$out/translate_test"
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    result=$out/translate_test/$method.seed$seed.$lang
    [[ ! -e $result.json ]] || continue
    mlvl-fuse --checkpoint "$(last_checkpoint "$method" "$seed")" --init-from "$weights" --lang "$lang" \
      --captions "$captions" --english-checkpoint "$weights" --english-captions "$translations" \
      --image-root "$images" --device "$device" --plot "$result.png" --json "$result.json" | tee "$result.md"
  done
done
