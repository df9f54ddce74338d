"""The published fine-tuning as examples/cclm has it: which commands each task, flag and key gives, read by their own
parsers; files are small, with the published fields. That the commands do it is tested end to end."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fairseq import options
from published_files import write_published_files

import mlvl_fairseq
from mlvl_fairseq.cli import evaluate
from mlvl_fairseq.errors import UserError

PLUGIN = Path(mlvl_fairseq.__file__).parent
PIECES = ("dict.txt", "sentencepiece.bpe.model")
FLICKR_CAPTIONS = 29_000 * 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_published_files(tmp_path_factory.mktemp("published"))
    (folder / "xlmr").mkdir()
    for name in PIECES:
        (folder / "xlmr" / name).touch()
    return folder


@pytest.fixture(scope="module")
def plan(published_program, run_here, data, tmp_path_factory):
    """``plan(task, flags, small=False, reference=False)``: what is run, ``(command, words, environment)`` each; of a
    training and an evaluation the words are read. A corpus is said to have as many captions as Flickr30k."""
    recipes, checkpoints = {}, tmp_path_factory.mktemp("checkpoints")
    for name in ("cclm.pt", "a.pt", "learned.pt"):
        (checkpoints / name).touch()

    class Recorder(published_program.Shell):
        def __init__(self):
            self.commands = []

        def run(self, command, *words, environment=None):
            words = list(map(str, words))
            if command == "fairseq-train":
                words = options.parse_args_and_arch(options.get_training_parser(), words)
            elif command == "mlvl-evaluate":
                words = evaluate.build_parser(words[0]).parse_args(words[1:])
                words.lang = words.lang.split(",")
            self.commands.append((command, words, dict(environment)) if environment else (command, words))

        def output(self, *words):
            if words not in recipes:
                recipes[words] = composed(words)
            return recipes[words]

    def composed(words):
        from mlvl_fairseq.cli.options import components
        from mlvl_fairseq.configs import as_flags, compose_config

        if words[0] == "mlvl-path":
            return f"{PLUGIN}\n"
        components()
        return "\n".join(as_flags(compose_config(words[2], words[3:]), words[2]))

    def commands(task, flags, small=False, reference=False, **others):
        one, shell = published_program.task_named(task), Recorder()
        places = {"IGLUE": "iglue", "NLVR2": "nlvr", "IMAGES": "images", "DATA": "multi30k", "XLMR": "xlmr"}
        given = {**{name: str(data / place) for name, place in places.items()}, "IMAGE_TEXT": "cc3m", **others}
        out = str(tmp_path_factory.mktemp("out"))
        call = one.read([*(given[name] for name in one.arguments), "--output_dir", out, *flags.split()])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("published.retrieval.count", lambda folder, lang: FLICKR_CAPTIONS)
            patch.chdir(checkpoints)
            one.run(replace(call, small=small, reference=reference), shell)
        return shell.commands

    return commands


START = "--dist 1 --checkpoint cclm.pt"


def test_published_lines(plan, data):
    """`--bs 128` of 8 processes. XVNLI's training file has nine examples with a label of its twelve."""
    (_, train, gpus), (_, asked, _) = plan("xvnli", "--task xvnli --dist l4 --bs 8 --seed 42 --checkpoint cclm.pt")
    assert gpus == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"} and train.distributed_world_size == 4
    assert (train.arch, train.image_root, train.init_from) == ("cclm_base_384", str(data / "images"), "cclm.pt")
    assert (train.batch_size, train.lr, train.max_epoch, train.seed) == (2, [3e-5], 10, 42)
    assert (int(train.total_num_update), train.warmup_updates, train.validate_after_updates) == (20, 2, 2)
    assert (train.max_words, train.max_length, train.cleaning) == (80, 80, "cclm")
    assert train.valid_examples == str(data / "iglue/datasets/XVNLI/annotations/en/dev.jsonl")
    assert asked.checkpoint == f"{train.save_dir}/checkpoint_best.pt" and asked.lang == ["ar", "en", "es", "fr", "ru"]
    assert asked.examples == str(data / "iglue/datasets/XVNLI/annotations/{lang}/test.jsonl")
    assert (asked.unlabelled, asked.output_dir, asked.gmt) == ("wrong", f"{train.save_dir}/scores", False)


def test_each_task_has_its_numbers(plan):
    """Batch of a GPU, epochs, words and tokens, candidates. 29,000 * 5 captions are 2,266 batches of 64."""
    (_, train), (_, asked) = plan("gqa", START)
    assert (train.batch_size, train.max_epoch, train.max_words, train.max_length) == (32, 5, 30, 40)
    assert (train.answer_candidates, asked.rank_k, train.validate_after_updates) == (128, 128, 3)
    assert train.answer_list == asked.answers and asked.lang == "bn de en id ko pt ru zh".split()
    (_, train), (_, asked) = plan("nlvr", START)
    assert (train.batch_size, train.max_epoch, train.max_words, train.max_length) == (10, 10, 30, 512)
    assert asked.lang == "en id sw ta tr zh".split()
    (_, prepare), (_, train), (_, asked) = plan("xflickrco", START)
    assert (train.batch_size, train.max_epoch, train.max_length, asked.rerank_k) == (8, 10, 80, 128)
    assert asked.max_words == 80
    assert (int(train.total_num_update), train.warmup_updates) == (22_660, 2266)
    assert train.validate_after_updates == 8 * 2266 and train.heads == "matching"
    assert prepare[prepare.index("--cleaning") + 1] == train.cleaning == "cclm"
    *_, (_, train), (_, asked) = plan("wit", START)
    assert (train.batch_size, train.max_epoch, asked.rerank_k) == (8, 5, 128)
    assert asked.image_root == f"{train.save_dir}/wit" and len(asked.lang) == 11


@pytest.mark.parametrize(
    "task, name, batch, trained, tests, k",
    [
        ("itr_multi30k", "multi30k_en", 10, "en", "en de fr cs", 128),
        ("itr_multi30k", "multi30k_cs", 10, "cs", "cs", 128),
        ("itr_multi30k", "multi30k_all", 20, "en,de,fr,cs", "en de fr cs", 128),
        ("itr_coco", "coco_en", 20, "en", "en zh ja", 256),
        ("itr_coco", "coco_zh", 10, "zh", "zh", 256),
        ("itr_coco", "coco_all", 10, "en,zh,ja", "en zh ja", 256),
    ],
)
def test_configurations_of_retrieval(plan, data, task, name, batch, trained, tests, k):
    folder = str(data / task.partition("_")[2])
    flags = f"{START} --epoch 10 --config configs/cclm-base-ft/Retrieval_{name}_ft.yaml"
    (_, prepare), (_, train), (_, asked) = plan(task, flags, DATA=folder)
    assert (train.batch_size, train.langs, asked.lang, asked.rerank_k) == (batch, trained, tests.split(), k)
    assert prepare[prepare.index("--languages") + 1] == trained
    for lang in tests.split():
        name = "zh.test" if lang == "zh" else f"{lang}.1k_test" if "coco" in task else f"test_2016_flickr.{lang}"
        assert Path(asked.captions.replace("{lang}", lang)).resolve() == (Path(folder) / f"{name}.json").resolve()


def test_few_shot(plan, data):
    """60 epochs; six examples, of which four have a label, are one batch. xGQA has dev files, others no validation."""
    (_, train), (_, asked) = plan("xvnli", f"{START} --bs 128 --fewshot ar,48 --lr 1e-6")
    assert train.examples == str(data / "iglue/datasets/XVNLI/annotations/ar/train_48.jsonl")
    assert (train.lr, train.max_epoch, train.batch_size, train.disable_validation) == ([1e-6], 60, 16, True)
    assert (int(train.total_num_update), train.warmup_updates, asked.lang) == (60, 6, ["ar"])
    assert asked.checkpoint.endswith("checkpoint_last.pt")
    (_, train), (_, asked) = plan("nlvr", f"{START} --fewshot tr")
    assert train.examples.endswith("marvl-tr_train10x2.jsonl") and train.lr == [1e-5] and train.disable_validation
    (_, train), (_, asked) = plan("gqa", f"{START} --fewshot pt")
    assert train.valid_examples.endswith("few_shot/pt/dev.json") and asked.checkpoint.endswith("checkpoint_best.pt")
    (_, prepare), (_, train), _ = plan("xflickrco", f"{START} --fewshot de,100")
    assert prepare[prepare.index("--train") + 1].endswith("xFlickrCO/annotations/de/train_100.jsonl")
    assert "--valid" not in prepare and train.disable_validation


def test_quirks(plan):
    """The published few-shot chooses on the test set; `-` is left out of tests."""
    (_, train), (_, asked) = plan("xvnli", f"{START} --fewshot ar", reference=True)
    assert train.valid_examples.endswith("ar/test.jsonl") and (train.validate_interval, train.max_epoch) == (10, 60)
    assert (train.example_form, asked.unlabelled) == ("reference", "reference")
    assert asked.checkpoint.endswith("checkpoint_best.pt")
    _, (_, asked) = plan("gqa", START, reference=True)
    assert asked.first_piece == "reference"
    *_, (_, train), (_, asked) = plan("itr_multi30k", START, reference=True)
    assert (train.itc_grad, asked.rest) == ("local", "reference")


def test_evaluation_alone_and_translated_tests(plan, data):
    ((_, asked),) = plan("xvnli", f"{START} --evaluate --gmt -- --memory 100")
    assert (asked.checkpoint, asked.gmt, asked.memory, asked.lang) == ("cclm.pt", True, 100, ["ar", "es", "fr", "ru"])
    assert asked.examples == str(data / "iglue/datasets/XVNLI/annotations_machine-translate/{lang}/test.jsonl")
    assert asked.output_dir.endswith("/scores_gmt")
    ((_, asked),) = plan("xflickrco", f"{START} --evaluate --gmt")
    assert asked.gmt and asked.captions.endswith("annotations_machine-translate/{lang}/test_gmt.jsonl")
    ((_, asked),) = plan("nlvr", f"{START} --evaluate --gmt")
    assert asked.examples.endswith("annotations_machine-translate/marvl-{lang}_gmt.jsonl") and "en" not in asked.lang


def test_domain_pretraining(plan):
    (_, first), (_, second), _ = plan("nlvr_domain", f"{START} --seed 3 --epoch 4")
    assert (first.criterion, first.image_text, first.init_from) == ("cclm_which_image", "cc3m", "cclm.pt")
    assert (first.arch, first.batch_size, first.max_update, first.seed) == ("cclm_base", 128, 5544, 3)
    assert second.init_from == f"{first.save_dir}/checkpoint_last.pt" and second.max_epoch == 4
    (_, only), (_, asked) = plan("nlvr_domain", "--dist 1 --load_ckpt_from learned.pt --fewshot zh")
    assert only.init_from == "learned.pt" and asked.lang == ["zh"]


def test_keys(plan):
    keys = "k_test=5 batch_size_test=7 max_tokens=20 optimizer.lr_mult=3 schedular.num_warmup_steps=4 image_res=224"
    (_, train), (_, asked) = plan("nlvr", f"{START} --overrides {' '.join(keys.split()[1:])}")
    assert (asked.batch_size, train.max_length, train.lr_scales) == (7, 20, r"3:^cls_head\.")
    assert (train.warmup_updates, train.image_size) == (4, 224)
    (_, train), (_, asked) = plan("gqa", f"{START} --overrides k_test=5 num_dec_layers=3")
    assert (train.answer_candidates, asked.rank_k, train.decoder_layers) == (5, 5, 3)


def test_the_small_recipe_says_no_more_than_it_is_asked(plan):
    (_, train), (_, asked) = plan("gqa", "--checkpoint cclm.pt --bs 12 -- --cpu", small=True)
    assert (train.arch, train.batch_size, train.max_epoch, train.max_update) == ("cclm_nano", 12, 0, 2000)
    assert train.max_words == 0 and train.cpu and asked.device == "cpu"


def test_every_key_has_options_that_take_it(plan, published_program, data):
    """Of every task, by the parsers of training and evaluation."""
    values = {"vision_config": "configs/config_swinB_224.json", "schedular.num_warmup_steps": "0.2"}
    for name, task in published_program.TASKS.items():
        if hasattr(task, "configs") and name not in ("wit", "nlvr_domain"):
            keys = {key: one for key, one in task.keys.items() if not one.elsewhere}
            words = [f"{key}={values.get(key, (one.only or [7])[0])}" for key, one in keys.items()]
            places = {"DATA": str(data / "coco")} if name == "itr_coco" else {}
            plan(name, f"{START} --overrides {' '.join(words)}", **places)


@pytest.mark.parametrize(
    "task, flags, says",
    [
        ("xvnli", "--dist 1", "say with --checkpoint which model to start from"),
        ("xvnli", "--checkpoint a.pt", "say with --dist on which GPUs: 1 (8 of this machine), f4, l4 or gpuN"),
        ("xvnli", f"{START} --dist all", "--dist all: give 1 (8 GPUs of this machine), f4, l4 or gpuN; for several"),
        ("xvnli", f"{START} --batch 3", "--batch is no flag of the published run.py; options of our commands follow"),
        ("xvnli", f"{START} --task gqa", "--task gqa: this script is that of xvnli"),
        ("xvnli", f"{START} --fewshot de,48", "--fewshot de,48: 'de' has no few-shot file; ar, en, es, fr, ru have"),
        ("xvnli", f"{START} --fewshot ar,9", "--fewshot ar,9: 'ar' has files of 1, 48 examples, not 9"),
        ("xvnli", f"{START} --fewshot ar --gmt", "--gmt: without --fewshot"),
        ("gqa", f"{START} --gmt", "--gmt: there are no machine-translated tests; xvnli, nlvr, xflickrco and"),
        ("itr_coco", f"{START} --fewshot zh", "--fewshot: there are no few-shot files; xvnli, gqa, nlvr and xflickrco"),
        (
            "itr_coco",
            f"{START} --config x/Retrieval_coco.yaml",
            "itr_coco has Retrieval_coco_en_ft.yaml, ",
        ),
        ("xvnli", f"{START} --config XVNLI_fewshot.yaml", "XVNLI_fewshot.yaml: say with --fewshot LANG,SHOTS which"),
        ("xvnli", f"{START} --model cclm-large", "--model cclm-large: there is cclm-base-ft"),
        ("xvnli", f"{START} --load_ckpt_from a.pt", "--load_ckpt_from: of nlvr_domain"),
        ("xvnli", f"{START} --output_hdfs hdfs://a", "--output_hdfs hdfs://a: hdfs is not read from here"),
        ("xvnli", "--checkpoint hdfs://a", "--checkpoint hdfs://a: hdfs is not read from here; copy it first"),
        (
            "xvnli",
            "--checkpoint a.th",
            "--checkpoint a.th: convert it first: mlvl-convert cclm a.th OUT --",
        ),
        ("nlvr_domain", "--dist 1 --load_ckpt_from a.pt --evaluate", "say with --checkpoint which model to start from"),
        ("nlvr_domain", "--load_ckpt_from a.pth", "--load_ckpt_from a.pth: convert it first: mlvl-convert cclm a.pth"),
        ("xvnli", f"{START} --bs 4", "--bs 4 is the batch of all 8 processes"),
        ("xvnli", f"{START} --overrides k_test=4", "--overrides k_test=4: give KEY=VALUE, with a key of the table"),
        ("xvnli", f"{START} --overrides num_labels=2", "--overrides num_labels=2: there is 3 only"),
        ("xvnli", f"{START} --overrides image_root=a", "--overrides image_root=a: here it is IMAGES"),
        ("xvnli", f"{START} --overrides schedular.epochs=many", "schedular.epochs=many: give a number of at least 1"),
    ],
)
def test_what_is_refused_is_one_line(plan, task, flags, says):
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        plan(task, flags)
    assert "\n" not in str(refused.value)


def test_missing_files_are_told_with_their_place(plan, tmp_path, data):
    def refused(task, flags=START, **others):
        with pytest.raises(UserError) as error:
            plan(task, flags, **{name: str(path) for name, path in others.items()})
        return str(error.value)

    assert refused("xvnli", IGLUE=tmp_path) == (
        f"{tmp_path}/XVNLI/annotations/ar/test.jsonl: no such file, nor test.jsonl.zip: mend the argument IGLUE"
    )
    assert refused("nlvr", NLVR2=tmp_path).startswith(f"{tmp_path}/nlvr_test.json: no such file")
    assert refused("xvnli", f"{START} --fewshot ar", IGLUE=tmp_path).endswith("no such file: mend the argument IGLUE")
    assert refused("gqa", IGLUE=tmp_path).startswith(f"{tmp_path}/gqa/annotations/trainval_ans2label.json: no such")
    assert refused("wit", IMAGES=tmp_path).startswith(f"{tmp_path}/wit_test: no such folder of Kaggle's tables")
    assert refused("xvnli", XLMR=tmp_path).startswith(f"{tmp_path}/dict.txt: no such file; give XLM-R's folder")
    for task in ("xvnli", "itr_multi30k"):
        assert refused(task, IMAGES=tmp_path / "a") == f"{tmp_path}/a: no such file or folder: mend the argument IMAGES"
    told = "b.pt: no such file or folder: mend --"
    assert refused("itr_multi30k", "--dist 1 --checkpoint b.pt") == f"{told}checkpoint"
    assert refused("nlvr_domain", f"{START} --load_ckpt_from b.pt") == f"{told}load_ckpt_from"
    assert refused("xvnli", IGLUE="hdfs://a").startswith("IGLUE hdfs://a: hdfs is not read from here")


def test_the_program_itself(published_program, capsys):
    """``python run.py --task NAME``, as published; without anything it says how it is used."""
    for words, says in (
        (["--task", "vqa"], "--task vqa: there are gqa, itr_coco"),
        (["gqa", "a"], "usage: gqa.sh IGLUE"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            published_program.main(words)
    published_program.main([])
    assert "python run.py --task TASK ARGUMENT" in capsys.readouterr().out
