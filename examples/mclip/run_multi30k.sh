#!/usr/bin/env bash
# Real text and photos: a small text encoder learns to translate en-{de,fr,cs} (Multi30k), TriKD brings it into the space of
# an English model of photos (Flickr8k) with English captions only, and captions in eight languages look for their photos.
# Variants: no contrastive loss, or in stage 2 only; without stage 2; an untrained encoder; ITC or TTC alone. Safe to run
# twice.
#
# usage: bash examples/mclip/run_multi30k.sh MULTI30K FLICKR8K [OUT]
#   MULTI30K   folder with {train,val}.{en,de,fr,cs}, line k of each the same sentence
#   FLICKR8K   folder with train.LANG.json, val.LANG.json and squeezenet.{train,val}.{npy,images.txt}
#   OUT        default: outputs/multi30k
# SEEDS="1 2 3" of TriKD; UPDATES1=1500, UPDATES2=600 of the text encoder's stages (one seed); EPOCHS=4 of TriKD.
# Trainings run side by side, with one thread each.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin 2 "MULTI30K FLICKR8K [OUT]" "$@"
text=$1 photos=$2 out=${3:-outputs/multi30k} here=$(dirname "${BASH_SOURCE[0]}")
languages=en,de,fr,cs,pt,zh,ar corpus=$out/corpus xlmr=$out/xlmr clip=$out/clip/checkpoint_best.pt
read -r -a seeds <<<"${SEEDS:-1 2 3}"
export RECIPE=small OMP_NUM_THREADS=1

# Photos, and an English model of them in CLIP's place.
if [[ ! -e $corpus/corpus.json ]]; then
  mlvl-prepare "$corpus" --languages "$languages" --train "$photos/train.{lang}.json" --valid "$photos/val.{lang}.json" \
    --image-features train="$photos/squeezenet.train.npy" valid="$photos/squeezenet.val.npy" \
    --image-list train="$photos/squeezenet.train.images.txt" valid="$photos/squeezenet.val.images.txt"
fi
if [[ ! -e $out/clip/done ]]; then
  recipe clip_teacher_features
  fairseq-train "$corpus" --user-dir "$(mlvl-path)" "${flags[@]}" --cpu --num-workers 0 --save-dir "$out/clip"
  touch "$out/clip/done"
fi
mlvl-prepare "$corpus" --teacher "$clip"

# Pieces for all languages, and parallel text.
[[ -e $xlmr/dict.txt ]] ||
  mlvl-sentencepiece "$xlmr" --train "$text"/train.{en,de,fr,cs} "$corpus"/captions/train.{pt,zh,ar}.txt --vocab-size 4000
mkdir -p "$out/raw"
for lang in de fr cs; do
  for side in "$lang" en; do
    cp "$text/train.$side" "$out/raw/train.$lang-en.$side"
    cp "$text/val.$side" "$out/raw/valid.$lang-en.$side"
  done
done
bash "$here/prepare_parallel.sh" "$xlmr" "$out/raw" "$out/parallel" de fr cs

# The text encoder in five variants, each a folder with xlmr.
updates1="--max-update ${UPDATES1:-1500}" updates2="--max-update ${UPDATES2:-600}" off="--contrastive-lambda 0"
mte() { # NAME STAGE1 STAGE2
  [[ -e $out/$1/xlmr/proof.json ]] || STAGE1=$2 STAGE2=$3 bash "$here/run_mte.sh" "$out/parallel/fseq" "$xlmr" "$out/$1"
}
without_contrast_first() {
  mte no_ctl "$updates1 $off" "$updates2 $off"
  mkdir -p "$out/late_ctl"
  [[ -e $out/late_ctl/stage1 ]] || ln -s ../no_ctl/stage1 "$out/late_ctl/stage1"
  mte late_ctl "" "$updates2"
  mte untrained "--max-update 1 --lr 1e-12" "--max-update 1 --lr 1e-12"
}
(set -e; without_contrast_first) &
mte full "$updates1" "$updates2"
wait $!
mkdir -p "$out/stage1_only"
[[ -e $out/stage1_only/xlmr/proof.json ]] ||
  mlvl-export xlmr "$out/full/stage1/checkpoint_best.pt" "$out/stage1_only/xlmr" --sentencepiece "$xlmr"

# What each of them makes of the captions, once; then the projectors, every seed in a process of its own.
variants=(full no_ctl late_ctl stage1_only untrained)
for variant in "${variants[@]}"; do
  mlvl-prepare "$corpus" --sentencepiece "$xlmr" --mte "$out/$variant/xlmr" --train-states en
done
trikd() { # NAME MTE SEED OPTION...
  local folder=$out/trikd/$1/seed$3
  [[ ! -e $folder/done ]] || return 0
  bash "$here/run_trikd.sh" "$corpus" "$xlmr" "$out/$2/xlmr" "$folder" --cached-states --clip "$clip" \
    --max-epoch "${EPOCHS:-4}" --seed "$3" "${@:4}"
  mlvl-evaluate --checkpoint "$folder/checkpoint_best.pt" --lang "$languages,nl" --captions "$photos/val.{lang}.json" \
    --split val --image-features "$photos/squeezenet.val.npy" --image-list "$photos/squeezenet.val.images.txt" \
    --output-dir "$folder/scores"
  touch "$folder/done"
}
variants_of_seed() {
  for variant in "${variants[@]}"; do
    trikd "$variant" "$variant" "$1"
  done
  trikd itc_only full "$1" --loss-type nott
  trikd ttc_only full "$1" --loss-type noit
}
jobs=()
for seed in "${seeds[@]}"; do
  (set -e; variants_of_seed "$seed") &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
mlvl-report "$out/trikd"
