"""What ``mlvl-cll`` gives to ``fairseq-train``, read by fairseq's own parser, against the published recipe.

The expected values are those of CLL-CLIP (Yang et al. 2024) and its code: AdamW with lr 5e-5, betas (0.9, 0.999),
epsilon 1e-6 and weight decay 0.05; gradients clipped to norm 1; batches of 128 for 3 epochs; the first tenth of the
updates warms up; temperature 0.07; losses weighted 1 and 0.01; new rows from N(0, 0.02^2); seed 42.
"""

import shlex
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fairseq import options

import mlvl_fairseq.data.corpus
from mlvl_fairseq.cli import cll
from mlvl_fairseq.continual import run
from mlvl_fairseq.models.clip import ClipConfig

COCO36 = 566_747  # training captions of MSCOCO36 in each language: 4,427 batches an epoch, 13,281 in three
PUBLISHED = {
    "task": "cll_retrieval",
    "criterion": "cll_clip",
    "optimizer": "row_adamw",
    "lr": [5e-5],
    "adam_betas": "(0.9, 0.999)",
    "adam_eps": 1e-6,
    "weight_decay": 0.05,
    "clip_norm": 1.0,
    "lr_scheduler": "warmup_constant",
    "warmup_updates": 1328,
    "update_freq": [1],
    "batch_size": 128,
    "required_batch_size_multiple": 1,
    "max_epoch": 3,
    "max_update": 0,
    "stop_min_lr": -1,
    "patience": -1,
    "seed": 42,
    "validate_interval": 1,
    "validate_interval_updates": 0,
    "best_checkpoint_metric": "r_mean",
    "maximize_best_checkpoint_metric": True,
    "no_epoch_checkpoints": True,
    "max_length": 77,
    "cross_lingual_scale": 1.0,
    "cross_modal_scale": 0.01,
    "initial_temperature": 0.07,
    "new_row_mean": 0.0,
    "new_row_std": 0.02,
    "regularize": "none",
    "oracle_languages": "",
}
# Rows of the specification's table of methods: what they change of the above, and what their plugins are given.
TEIR = {
    "new_row_std": -1.0,
    "regularize": "grad_decay",
    "grad_scale_type": "current_reciprocal",
    "weight_decay_scale_type": "current_reciprocal",
    "row_scale_on": "gradient",
}
METHODS = {
    "CLL_CLIP_with_TEIR": TEIR,
    "CLL_CLIP_Oracle0_ID0_REG1_g": {"regularize": "grad", "grad_scale_type": "current_reciprocal"},
    "CLL_CLIP_Oracle0_ID0_REG1_d": {"regularize": "decay", "weight_decay_scale_type": "current_reciprocal"},
    "oEWC": {"ewc_scale": 1000.0, "ewc_gamma": 1.0, "ewc_batch_size": 128, "ewc_batches": 0},
    "ER": {
        "memory_size": 8000,
        "memory_selection": "reservoir",
        "memory_label": "teacher",
        "replay_scale": 1.0,
        "replay_batch_size": 0,  # as many as the batch has: it is doubled
        "memory_every_epoch": False,
        "memory_counts_as_use": False,
    },
    "DER": {"memory_size": 8000, "memory_label": "student", "replay_scale": 1.0},
    "MLA": {"adapter": "bottleneck"},
    "P_Tuning": {"adapter": "prefix"},
    "LoRA": {"adapter": "lora"},
    "DualPrompt": {"adapter": "dual_prompt"},
    "CodaPrompt": {"adapter": "coda_prompt"},
    "Ablation_onlyCrossModal": {**TEIR, "cross_lingual_scale": 0.0, "cross_modal_scale": 1.0},
    "Ablation_onlyCrossLingual": {**TEIR, "cross_lingual_scale": 1.0, "cross_modal_scale": 0.0},
    "Ablation_trainAll": {**TEIR, "freeze": ""},
}
ADAPTERS = {  # what models do not need to be told: fairseq's parser leaves it to them
    "bottleneck_reduction": 2,
    "prefix_length": 30,
    "prefix_hidden": 512,
    "lora_rank": 8,
    "lora_alpha": 8.0,
    "dual_g_length": 2,
    "dual_e_length": 16,
    "dual_pull": 1.0,
    "coda_components": 5,
    "coda_length": 2,
}
REFERENCE = {
    "ER": {"memory_every_epoch": True, "memory_counts_as_use": True},
    "DualPrompt": {"dual_depth": 4, "dual_pool": 36, "dual_past": "decay", "prompt_mask": "published"},
    "CodaPrompt": {"coda_train": "none", "prompt_mask": "published"},
}
# Of methods that the published code does not have, what their papers or their first implementations start from.
OTHERS = {
    "si": {"si_scale": 1.0, "si_damping": 1e-3},
    "mas": {"mas_scale": 1.0, "mas_batch_size": 128, "mas_batches": 0},
    "lwf": {"lwf_scale": 1.0},
    "derpp": {"derpp_alpha": 0.5, "derpp_beta": 0.5, "memory_label": "student", "replay_method": "derpp"},
}


@pytest.fixture
def lines(monkeypatch, capsys, tmp_path):
    """``lines(*arguments)``: the options of each step that ``mlvl-cll --dry-run`` prints, as fairseq-train reads it."""
    captions = dict.fromkeys(["en", "it", "de"], COCO36)
    stub = SimpleNamespace(
        manifest={"splits": {"train": {"captions": captions}, "test": {"captions": captions}}},
        languages=lambda split: list(captions),
        usable=lambda split, lang: range(captions[lang]),
        reading_once=nullcontext,
    )
    monkeypatch.setattr(run, "check_sequence", lambda sequence, corpus: None)
    monkeypatch.setattr(mlvl_fairseq.data.corpus, "Corpus", lambda folder: stub)

    def read(*arguments):
        method = () if "--method" in arguments else ("--method", "cll_clip")
        cll.main([str(tmp_path / "corpus"), str(tmp_path / "run"), "--dry-run", *method, *map(str, arguments)])
        steps = []
        for line in capsys.readouterr().out.splitlines():
            command, *given = shlex.split(line)
            assert command == "fairseq-train"
            steps.append(vars(options.parse_args_and_arch(options.get_training_parser(), given)))
        return steps

    return read


def part(step, names):
    return {name: step[name] for name in names}


def plain(values):
    """Choices of options as their names."""
    return {name: str(value) if hasattr(value, "value") else value for name, value in values.items()}


def test_every_step_has_the_published_recipe(lines, tmp_path):
    steps = lines("--order", "en,it,de")
    assert [(step["lang"], step["learned"]) for step in steps] == [("en", ""), ("it", "en"), ("de", "en,it")]
    folders = [tmp_path / "run" / name for name in ("00-en", "01-it", "02-de")]
    for step, folder, before in zip(steps, folders, [None, *folders]):
        assert plain(part(step, PUBLISHED)) == PUBLISHED
        assert step["data"] == str(tmp_path / "corpus") and step["save_dir"] == str(folder)
        assert step["finetune_from_model"] == (before and str(before / "checkpoint_best.pt"))


@pytest.mark.parametrize("method", METHODS)
def test_published_methods_change_what_the_table_says(lines, method):
    (step,) = lines("--order", "en", "--method", method)
    assert plain(part(step, PUBLISHED | METHODS[method])) == {**PUBLISHED, **METHODS[method]}


def test_adapters_and_prompts_have_the_published_sizes():
    assert {name: getattr(ClipConfig(), name) for name in ADAPTERS} == ADAPTERS


@pytest.mark.parametrize("method", REFERENCE)
def test_the_reference_preset_adds_the_published_quirks(lines, method):
    (step,) = lines("--order", "en", "--method", method, "--preset", "reference")
    expected = {**PUBLISHED, **METHODS[method], **REFERENCE[method]}
    assert plain(part(step, expected)) == expected


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods(lines, method):
    (step,) = lines("--order", "en", "--method", method)
    assert plain(part(step, OTHERS[method])) == OTHERS[method]


@pytest.mark.parametrize(
    "given, warmup",
    [
        (["--max-epoch", 1], 442),  # a tenth of 4,427, rounded down
        (["--batch-size", 100], 1700),  # 5,667 batches an epoch
        (["--warmup-ratio", 0.5], 6640),
        (["--max-update", 1000], 100),
        (["--max-update", 20_000], 1328),
        (["--update-freq", 4], 332),  # 4,427 batches are 1,107 updates, the last of three batches
        (["--update-freq=4"], 332),
        (["--distributed-world-size", 2], 663),  # 2,213 global batches an epoch
        (["--distributed-world-size", 2, "--update-freq", 4], 166),
        (["--batch-size", 1_000_000], 0),  # fewer captions than a batch: one update an epoch
        (["--batch-size", 1_000_000, "--max-epoch", 20], 2),
    ],
)
def test_a_tenth_of_the_updates_warms_up(lines, given, warmup):
    (step,) = lines("--order", "it", *given)
    assert step["warmup_updates"] == warmup


def test_what_is_typed_wins_over_defaults_and_method(lines):
    typed = ["--clip-norm", 2.5, "--weight-decay", 0, "--ewc-scale", 7, "--seed", 3, "--lr", 1e-3, "--adam-eps", 1e-8]
    (step,) = lines("--order", "en", "--method", "oewc", *typed)
    expected = {"clip_norm": 2.5, "weight_decay": 0, "ewc_scale": 7, "seed": 3, "lr": [1e-3], "adam_eps": 1e-8}
    assert part(step, expected) == expected


@pytest.mark.parametrize("given, kept", [([], 1), (["--keep-interval-updates", 5], 5)])
def test_one_checkpoint_of_intervals_is_kept_unless_said_otherwise(lines, given, kept):
    (step,) = lines("--order", "en", "--save-interval-updates", 10, *given)
    assert step["keep_interval_updates"] == kept


def test_joint_training_is_one_step_of_all_captions(lines):
    (step,) = lines("--order", "en,it,de", "--method", "JointTrain_CLL_CLIP")
    assert (step["lang"], step["learned"], step["oracle_languages"]) == ("en,it,de", "", "en,it,de")
    assert step["warmup_updates"] == int(0.1 * (3 * (3 * COCO36 // 128)))  # three epochs over three languages
    (step,) = lines("--order", "en,it,de", "--method", "joint", "--max-update", 1000)
    assert step["max_update"] == 3000 and step["warmup_updates"] == 300  # as many as three languages would have
