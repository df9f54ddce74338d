"""Tasks, criterions and models that do not fit each other: one line and exit status 2, before the first update.

Every pair of ours that fairseq's registries hold is tried, and stock ones. Which criterions fit
a task is in their `needs`: they have to train, those of the recipes among them.
"""

from collections import defaultdict
from functools import cache
from itertools import chain

import pytest
from fairseq import options, tasks
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

import mlvl_fairseq
from mlvl_fairseq.configs import compose_config, list_configs
from mlvl_fairseq.criterions.base import missing_of_task

mlvl_fairseq.register()


def ours(registry):
    return [name for name, cls in registry.items() if cls.__module__.startswith("mlvl_fairseq.")]


TASKS, MODELS = ours(TASK_REGISTRY), [*ours(MODEL_REGISTRY), "transformer"]
CRITERIONS = [*ours(CRITERION_REGISTRY), "cross_entropy", "label_smoothed_cross_entropy"]
RECIPES = [compose_config(name) for name in list_configs()]
LOSSES = defaultdict(set)  # of the recipes of each task
for recipe in RECIPES:
    LOSSES[recipe["task"]["_name"]].add(recipe["criterion"]["_name"])
NETWORKS = defaultdict(list)  # likewise
for network, task in sorted({(ARCH_MODEL_NAME_REGISTRY[r["model"]["_name"]], r["task"]["_name"]) for r in RECIPES}):
    NETWORKS[task].append(network)
# With a text tower of CLIP's; alone, it has another.
NO_RECIPE = {"cll_retrieval": ["dual_encoder"]}
# What a criterion asks of a model beside its name.
MODELS_FOR = {"cclm_which_image": "--heads which_image --images-per-text 2".split()}
TRAINING = "--optimizer torch_lamb --batch-size 16 --max-update 2 --num-workers 0 --cpu --disable-validation".split()


@pytest.fixture(scope="module")
def required(corpus, trikd_corpus, pieces, parallel, classes, examples, streams, user_dir):
    """What each task cannot do without."""
    given = {
        "image_text_retrieval": [trikd_corpus, "--tokenizer-folder", pieces],
        "cll_retrieval": [corpus, "--lang", "en", "--update-all-rows"],
        "trikd": [trikd_corpus, "--sentencepiece", pieces],
        "mte_pretraining": [parallel / "bin"],
        "image_classification": [classes],
        "cclm_pretraining": ["--image-text", streams / "images.jsonl", "--tokenizer-folder", streams / "pieces"],
    }
    fine_tuned = ["--image-root", examples / "images", "--tokenizer-folder", pieces]
    for task, name in (("image_text_classification", "nlvr.json"), ("visual_question_answering", "gqa.json")):
        given[task] = ["--examples", examples / name, *fine_tuned]
    assert given.keys() == set(TASKS)
    return lambda task: [*given[task], "--user-dir", user_dir, "--task", task, *TRAINING]


@pytest.fixture(scope="module")
def small(teacher, mte):
    """Models of little work."""
    width = "--embed-dim 32 --text-width 32 --text-layers 1 --text-heads 2 --image-size 32 --patch-size 16".split()
    encoder = "--encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-attention-heads 2".split()
    decoder = "--decoder-layers 1 --decoder-ffn-embed-dim 64 --decoder-attention-heads 2".split()
    nano = "--text-tower cclm_xlmr_nano --text-width 32 --text-layers 1 --fusion-layers 1".split()
    given = {
        "clip": [*width, *"--vision-width 32 --vision-layers 1 --vision-heads 2".split(), "--init-from", teacher],
        "trikd": [*encoder, "--mte", mte],
        "m2m": ["--mte", mte],
        "mte": [*encoder, *decoder, "--encoder-layers", 1, "--encoder-from-scratch", "--train-encoder", "all"],
        "cclm": ["--image-tower", "swin_nano", "--image-width", 8, *nano],
        "image_classifier": "--image-size 32 --image-width 32 --image-layers 1 --image-heads 2".split(),
    }
    return lambda model: ["--arch", model, *given[model]]


@pytest.fixture(scope="module")
def fitting(required, small):
    """``fitting(task)``: our criterions that need nothing that the task, as it is made, does not have."""

    @cache
    def of(name):
        arguments = [*map(str, required(name)), *map(str, small(NETWORKS[name][0])), "--criterion", min(LOSSES[name])]
        config = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))
        task = tasks.setup_task(config.task)
        task.build_model(config.model)  # as training does, before there is a criterion
        return {loss for loss in ours(CRITERION_REGISTRY) if not missing_of_task(CRITERION_REGISTRY[loss], task)}

    return of


@pytest.fixture
def train(run, tmp_path):
    def once(*arguments):
        ended = run("fairseq-train", *arguments, "--save-dir", tmp_path)
        return ended, list(tmp_path.glob("*.pt"))

    return once


def test_every_task_and_model_is_in_a_recipe():
    assert LOSSES.keys() == set(TASKS) and set(chain(*NETWORKS.values())) == set(ours(MODEL_REGISTRY))


def test_every_criterion_fits_a_task_and_those_of_recipes_fit_theirs(fitting):
    assert set().union(*map(fitting, TASKS)) == set(ours(CRITERION_REGISTRY))
    assert all(LOSSES[task] <= fitting(task) for task in TASKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("criterion", CRITERIONS)
def test_criterions(required, small, train, fitting, no_update_waits, task, criterion):
    model = [*small(NETWORKS[task][0]), *(MODELS_FOR.get(criterion, []) if criterion in fitting(task) else [])]
    ended, checkpoints = train(*required(task), *model, "--criterion", criterion)
    if criterion in fitting(task):
        assert ended.status == 0 and checkpoints, ended.err[-2000:]
        return
    assert ended.error.startswith(f"--criterion {criterion} does not fit --task {task}")
    assert set(ended.error.rpartition("; give --criterion ")[2].split(" or ")) == fitting(task) and not checkpoints


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_models(required, train, task, model, mte):
    if model in NETWORKS[task]:
        pytest.skip("they go together")
    needed = ["--mte", mte] if model in ("trikd", "m2m") else []
    ended, checkpoints = train(*required(task), "--arch", model, *needed, "--criterion", min(LOSSES[task]))
    assert "does not fit" in ended.error and not checkpoints
    if "these do: " in ended.error:
        fitting = ended.error.partition("these do: ")[2].split(", ")
        networks = [*NETWORKS[task], *NO_RECIPE.get(task, ())]
        known = set(chain(*(ARCH_MODEL_INV_REGISTRY[network] for network in networks)))
        assert set(fitting) - set(networks) == known - set(networks)


@pytest.mark.parametrize("criterion", ours(CRITERION_REGISTRY))
def test_our_criterions_with_a_stock_task(train, translation_data, user_dir, criterion):
    stock = ["--task", "translation", "--arch", "transformer", "--encoder-layers", 1, "--decoder-layers", 1]
    ended, checkpoints = train(translation_data, "--user-dir", user_dir, *stock, *TRAINING, "--criterion", criterion)
    assert ended.error.startswith(f"--criterion {criterion} does not fit --task translation: the task has no ")
    assert not checkpoints


@pytest.mark.parametrize("model", sorted(set(chain(*NETWORKS.values()))))
def test_our_models_with_a_stock_task(train, translation_data, user_dir, mte, model):
    needed = ["--mte", mte] if model in ("trikd", "m2m") else []
    stock = ["--task", "translation", "--arch", model, *needed, "--criterion", "cross_entropy"]
    ended, checkpoints = train(translation_data, "--user-dir", user_dir, *stock, *TRAINING)
    assert "does not fit" in ended.error and not checkpoints
