#!/usr/bin/env bash
# CCLM on generated data, small enough for a CPU: pre-training on four streams (pictures with captions, regions with
# boxes, parallel text, pictures with English captions only), in which some languages have captions of pictures and
# others only translations from English; and the same without parallel text. Then retrieval in all languages, by vectors
# and put in order by the fusion encoder, and boxes of what texts say in new pictures. Then what CCLM is for:
# it learns three tasks in English, hypotheses and questions about a picture and statements about two, and is asked in
# all languages, without and with a few examples of these.
#
# usage: bash examples/cclm/run_generated.sh [OUT]        default: outputs/cclm_generated
# Safe to run again: what is done is skipped, what was interrupted goes on. The environment changes what is run:
#   ARMS="four_streams no_parallel"     what is trained on      SEEDS="1"     JOBS=2 trainings at a time
#                                       (with_questions: four streams, in whose parallel text there are questions, too)
#   UPDATES=1200 BATCH=32 LR=1e-3       of each training
#   PICTURES=3000 MONOLINGUAL=500       training pictures, and how many of them have English captions only
#   PARALLEL=9000                       lines of parallel text
#   CLASS_PICTURES=40 CLASS_EPOCHS=4    what the image tower learns first
#   TEST_PICTURES=300 VOCABULARY=600 RERANK_K=16
#   TASKS="entailment questions statements"     what is fine-tuned on afterwards; TASKS=none: nothing
#   TUNED="four_streams"                which of ARMS are fine-tuned, of the first of SEEDS (default: the first)
#   EXAMPLES=6000 FEW=48                English examples of each task, and those of another language
#   FEW_LANGUAGES="es cs ru"            that are fine-tuned on further
#   TASK_UPDATES=1200 TASK_LR=1e-3      of each fine-tuning in English
#   FEW_UPDATES=60 FEW_LR=5e-4          of each further one
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
begin 0 "[OUT]" "$@"
out=${1:-outputs/cclm_generated} here=$(dirname "${BASH_SOURCE[0]}")
image_languages=en,de text_languages=es,cs,ru
languages=$image_languages,$text_languages
read -r -a arms <<<"${ARMS:-four_streams no_parallel}"
read -r -a seeds <<<"${SEEDS:-1}"
read -r -a tasks <<<"${TASKS:-entailment questions statements}"
read -r -a tuned <<<"${TUNED:-${arms[0]}}"
for arm in "${arms[@]}"; do one_of ARMS "$arm" four_streams no_parallel with_questions; done
for task in "${tasks[@]}"; do one_of TASKS "$task" entailment questions statements none; done
for arm in "${tuned[@]}"; do one_of TUNED "$arm" "${arms[@]}"; done
world=$out/world pieces=$out/pieces
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

trap stop_jobs EXIT

mlvl-picture-world "$world" --languages "$languages" --train "${PICTURES:-3000}" --valid 100 \
  --test "${TEST_PICTURES:-300}" --classes "${CLASS_PICTURES:-40}" \
  --streams "$image_languages" --parallel "${PARALLEL:-9000}" --monolingual "${MONOLINGUAL:-500}" \
  --examples "${EXAMPLES:-6000}" --few "${FEW:-48}"
if [[ ! -e $pieces/dict.txt ]]; then
  python "$here/stream_texts.py" "$world"/streams/train/*.jsonl >"$out/texts"
  mlvl-sentencepiece "$pieces" --train "$out/texts" --vocab-size "${VOCABULARY:-600}"
fi

# The published image tower has learned ImageNet's classes before; this one learns those of the world.
if [[ ! -e $out/image/done ]]; then
  recipe image_classifier_small model._name=image_classifier "++model.image_tower=swin_nano" dataset.batch_size=64
  echo "the image tower learns to classify; log: $out/image/train.log" >&2
  logged "$out/image/train.log" fairseq-train "$world/classes" --user-dir "$(mlvl-path)" "${flags[@]}" \
    --max-epoch "${CLASS_EPOCHS:-4}" --log-format simple --cpu --num-workers 0 --save-dir "$out/image"
  touch "$out/image/done"
fi

arm() { # NAME SEED
  local flags folder=$out/rows/$1/seed$2 streams=$world/streams updates=${UPDATES:-1200}
  local train=$world/streams/train/parallel.jsonl valid=$world/streams/valid/parallel.jsonl text=()
  [[ ! -e $folder/done ]] || return 0
  mapfile -t flags <"$out/pretraining.flags"
  if [[ $1 == with_questions ]]; then
    train+=",$world/examples/parallel/train.*.jsonl" valid+=",$world/examples/parallel/valid.*.jsonl"
  fi
  [[ $1 == no_parallel ]] || text=(--parallel-text "$train" --valid-parallel-text "$valid")
  echo "$1, seed $2; log: $folder/train.log" >&2
  logged "$folder/train.log" fairseq-train --user-dir "$(mlvl-path)" "${flags[@]}" --tokenizer-folder "$pieces" \
    --image-root "$world/images" --image-weights "$out/image/checkpoint_best.pt" \
    --image-text "$streams/train/image_text.jsonl" --valid-image-text "$streams/valid/image_text.jsonl" \
    --regions "$streams/train/regions.jsonl" --valid-regions "$streams/valid/regions.jsonl" \
    --monolingual "$streams/train/monolingual.jsonl" --valid-monolingual "$streams/valid/monolingual.jsonl" \
    --mono-probability 0.2 "${text[@]}" --held-out 0 --batch-size "${BATCH:-32}" --lr "${LR:-1e-3}" \
    --total-num-update "$updates" --max-update "$updates" --validate-interval 5 --save-interval-updates 200 \
    --keep-interval-updates 1 --seed "$2" --log-format simple --cpu --num-workers 0 --save-dir "$folder"
  logged "$folder/evaluate.log" mlvl-evaluate rerank --checkpoint "$folder/checkpoint_last.pt" --lang "$languages" \
    --captions "$world/test.{lang}.json" --image-root "$world/images" --rerank-k "${RERANK_K:-16}" \
    --output-dir "$folder/retrieval"
  logged "$folder/evaluate.log" mlvl-evaluate boxes --checkpoint "$folder/checkpoint_last.pt" --lang "$languages" \
    --regions "$streams/test/regions.jsonl" --image-root "$world/images" --output-dir "$folder/boxes"
  touch "$folder/done"
}
recipe cclm_small
printf '%s\n' "${flags[@]}" >"$out/pretraining.flags"
export -f arm logged fail
export out world pieces languages UPDATES BATCH LR RERANK_K
for seed in "${seeds[@]}"; do
  for name in "${arms[@]}"; do echo "$name $seed"; done
done | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; arm "$@"' run_generated.sh

python "$here/generated_table.py" "$out/rows" --image-languages "$image_languages" --text-languages "$text_languages"
[[ ${tasks[0]} != none ]] || exit 0

declare -A recipes=([entailment]=cclm_entailment_small [questions]=cclm_questions_small [statements]=cclm_entailment_small)
declare -A evaluators=([entailment]=nli [questions]=vqa [statements]=nlvr)

tune() { # FOLDER LANGUAGE TRAIN CHECKPOINT UPDATES LR EPOCHS FLAGS; it is validated every so many epochs
  local flags data=$world/examples/$(basename "$(dirname "$1")")
  mapfile -t flags <"$8"
  logged "$1/$2.log" fairseq-train --user-dir "$(mlvl-path)" "${flags[@]}" --tokenizer-folder "$pieces" \
    --image-root "$world/images" --examples "$data/$3.$2".json* --valid-examples "$data/valid.$2".json* \
    --init-from "$4" --warmup-updates $(($5 / 10)) --total-num-update "$5" --max-update "$5" --lr "$6" \
    --validate-interval "$7" --save-interval "$7" --seed 1 --log-format simple --cpu --num-workers 0 --save-dir "$1"
}

asked() { # FOLDER CHECKPOINT EVALUATOR LANGUAGES
  local data=$world/examples/$(basename "$(dirname "$1")") name
  name=$(basename "$data/test.en".json*)
  logged "$1/evaluate.log" mlvl-evaluate "$3" --checkpoint "$2" --lang "$4" --examples "$data/${name/.en./.{lang\}.}" \
    --image-root "$world/images" --output-dir "$1"
}

task() { # ARM TASK EVALUATOR SEED
  local folder=$out/tasks/$1/$2 flags=$out/$2.flags lang
  [[ ! -e $folder/done ]] || return 0
  echo "$2, in English, of $1; log: $folder/zero_shot/en.log" >&2
  tune "$folder/zero_shot" en train "$out/rows/$1/seed$4/checkpoint_last.pt" "${TASK_UPDATES:-1200}" \
    "${TASK_LR:-1e-3}" 1 "$flags"
  asked "$folder/zero_shot" "$folder/zero_shot/checkpoint_best.pt" "$3" "$languages"
  for lang in ${FEW_LANGUAGES:-es cs ru}; do
    tune "$folder/few_$lang" "$lang" few "$folder/zero_shot/checkpoint_best.pt" "${FEW_UPDATES:-60}" \
      "${FEW_LR:-5e-4}" 10 "$flags"
    asked "$folder/few_$lang" "$folder/few_$lang/checkpoint_best.pt" "$3" "$lang"
  done
  touch "$folder/done"
}
# Pictures are not cut: what a text is about has to stay in them.
for name in "${tasks[@]}"; do
  recipe "${recipes[$name]}" task.augment=false task.crop_scale=null
  printf '%s\n' "${flags[@]}" >"$out/$name.flags"
done
export -f task tune asked
export TASK_UPDATES TASK_LR FEW_LANGUAGES FEW_UPDATES FEW_LR
for arm in "${tuned[@]}"; do
  for name in "${tasks[@]}"; do echo "$arm $name ${evaluators[$name]} ${seeds[0]}"; done
done | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; task "$@"' run_generated.sh

python "$here/tasks_table.py" "$out/tasks" --examples "$world/examples" --images "$world/images" \
  --image-languages "$image_languages" --text-languages "$text_languages" --picture "$out/tasks.png"
