"""A small picture world and everything that commands make of it or read beside it, for programs that damage or kill
things. Every part is made when it is asked for, once a folder."""

import io
import json
import os
import shlex
import tarfile
import warnings
from argparse import Namespace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Callable, Dict, List

from mlvl_fairseq.continual.sequence import USER_DIR

LANGUAGES = ("en", "de", "ru")
ORDER = ",".join(LANGUAGES)
MODEL = (
    "--arch clip_tiny_vit --embed-dim 8 --text-width 8 --text-layers 1 --text-heads 2 --image-size 32 "
    "--patch-size 16 --vision-width 8 --vision-layers 1 --vision-heads 2"
)
TRAINING = (
    "--optimizer row_adamw --lr 1e-3 --lr-scheduler warmup_constant --warmup-updates 2 --clip-norm 1 --batch-size 8 "
    "--required-batch-size-multiple 1 --num-workers 0 --cpu --seed 1 --log-format json --log-interval 1"
)
RETRIEVAL = "--best-checkpoint-metric r_mean --maximize-best-checkpoint-metric --no-epoch-checkpoints"
HELD_OUT = 10  # pictures each to validate and test: recall at 10 needs as many
WIDTH = 16  # of the text encoder and the projectors


def as_main(command: str) -> Callable[[List[str]], object]:
    """The ``main(argv)`` of a command of ours, or of ``fairseq-train`` and ``fairseq-preprocess``."""
    import importlib

    if command == "fairseq-train":
        from mlvl_fairseq.continual.run import fairseq_train

        return fairseq_train
    if command.startswith("fairseq-"):
        from fairseq import options

        module = importlib.import_module(f"fairseq_cli.{command.partition('-')[2]}")
        return lambda argv: module.main(options.get_preprocessing_parser().parse_args(argv))
    return importlib.import_module(f"mlvl_fairseq.cli.{command.partition('-')[2].replace('-', '_')}").main


class SmallWorld:
    """Parts by name, each a path in `folder`. Commands run in jobs of their own, with everything imported already.

    Args:
        folder: made if it is not there. pictures: to train on.
    """

    def __init__(self, folder, pictures: int = 16):
        self.folder, self.pictures = Path(folder).resolve(), pictures
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, line: str) -> None:
        """A command line. Raises an error if it fails; what it prints is in ``log.txt``."""
        from mlvl_fairseq.process.jobs import run_job

        name, *arguments = shlex.split(line)
        run_job(name, partial(as_main(name), arguments), self.folder / "log.txt")

    def once(self, name: str, *lines: str) -> Path:
        """A part that these commands make."""
        return self._make(name, lambda: [self.run(line) for line in lines])

    def _make(self, name: str, make: Callable[[], object]) -> Path:
        done = self.folder / f".{name}.done"
        if not done.exists():
            make()
            done.touch()
        return self.folder / name

    @cached_property
    def world(self) -> Path:
        """Pictures and captions."""
        sizes = f"--train {self.pictures} --valid {HELD_OUT} --test {HELD_OUT}"
        return self.once("world", f"mlvl-picture-world {self.folder}/world {sizes} --languages {ORDER}")

    @property
    def captions(self) -> str:
        """The options of mlvl-prepare that name the caption files."""
        files = {"train": "train.vision-en-{lang}.tsv", "valid": "valid.{lang}.json", "test": "test.{lang}.json"}
        patterns = " ".join(f"--{split} {self.world}/'{name}'" for split, name in files.items())
        return f"--languages {ORDER} {patterns} --image-root {self.world}/images --bpe-size 300"

    @cached_property
    def plain_corpus(self) -> Path:
        """A corpus without features."""
        return self.once("plain_corpus", f"mlvl-prepare {self.folder}/plain_corpus {self.captions} --order {ORDER}")

    @cached_property
    def bilingual_corpus(self) -> Path:
        """A corpus that a language can be added to."""
        captions = self.captions.replace(ORDER, "en,de")
        return self.once("bilingual", f"mlvl-prepare {self.folder}/bilingual {captions} --order en,de")

    @property
    def teacher_options(self) -> str:
        """fairseq-train's options for an English dual encoder."""
        task = "--task image_text_retrieval --criterion clip_contrastive"
        return f"{self.plain_corpus} --user-dir {USER_DIR} {task} {MODEL} {TRAINING} {RETRIEVAL}"

    @cached_property
    def teacher(self) -> Path:
        """Its checkpoint."""
        line = f"fairseq-train {self.teacher_options} --max-epoch 1 --save-dir {self.folder}/teacher"
        return self.once("teacher", line) / "checkpoint_best.pt"

    @cached_property
    def corpus(self) -> Path:
        """The corpus with the teacher's features, captions in pieces and their states."""
        copy = f"mlvl-prepare {self.folder}/corpus {self.captions} --order {ORDER}"
        features = f"mlvl-prepare {self.folder}/corpus --teacher {self.teacher}"
        states = f"mlvl-prepare {self.folder}/corpus --sentencepiece {self.pieces} --mte {self.mte}"
        return self.once("corpus", copy, features, states)

    @property
    def sequence_options(self) -> str:
        """mlvl-cll's options."""
        own = "--lr 1e-3 --batch-size 8 --max-epoch 1 --seed 1 --num-workers 0 --cpu"
        return f"--init-from {self.teacher} {own} {MODEL}"

    @cached_property
    def run_folder(self) -> Path:
        """A finished mlvl-cll run."""
        return self.once("run", f"mlvl-cll {self.corpus} {self.folder}/run --order en,de {self.sequence_options}")

    @cached_property
    def sentences(self) -> Path:
        """Training captions of the picture world as plain text."""
        return self.plain_corpus / "captions"

    @cached_property
    def pieces(self) -> Path:
        """A SentencePiece folder in the layout of XLM-R's."""
        files = " ".join(f"{self.sentences}/train.{lang}.txt" for lang in LANGUAGES)
        return self.once("pieces", f"mlvl-sentencepiece {self.folder}/pieces --train {files} --vocab-size 120")

    @cached_property
    def mte(self) -> Path:
        """A small untrained text encoder, in the file of a real one."""

        def make() -> None:
            import torch

            from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
            from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary
            from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder

            torch.manual_seed(0)
            config = XlmrConfig(len(load_xlmr_dictionary(self.pieces)), 1, WIDTH, 2 * WIDTH, 2, max_positions=100)
            tensors = XlmrEncoder(config).state_dict()
            tensors.pop("version")
            write_xlmr(XlmrWeights(config, tensors, "new"), self.folder / "mte.pt")

        return self._make("mte.pt", make)

    @cached_property
    def parallel(self) -> Path:
        """A folder of fairseq-preprocess with German and English captions of the same pictures."""
        return self._make("parallel", self._write_parallel)

    def _write_parallel(self) -> None:
        from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer

        tokenizer, text = SentencePieceTokenizer(self.pieces), self.folder / "pieces_of_text"
        text.mkdir(exist_ok=True)
        for split in ("train", "valid"):
            for lang in ("de", "en"):
                lines = (self.sentences / f"{split}.{lang}.txt").read_text(encoding="utf-8").splitlines()
                pieces = (" ".join(tokenizer.tokens(line)) + "\n" for line in lines)
                (text / f"{split}.{lang}").write_text("".join(pieces), encoding="utf-8")
        dictionary = self.pieces / "dict.txt"
        self.run(
            f"fairseq-preprocess -s de -t en --trainpref {text}/train --validpref {text}/valid --srcdict {dictionary} "
            f"--tgtdict {dictionary} --destdir {self.folder}/parallel"
        )

    @property
    def mte_options(self) -> str:
        """fairseq-train's options for pre-training the text encoder, validation included."""
        task = f"--task mte_pretraining --criterion mte --arch mte_tiny --xlmr {self.mte} --train-encoder layers"
        task += " --bleu-sentences 4 --bleu-beam 2"
        width = f"--encoder-layers 1 --encoder-embed-dim {WIDTH} --encoder-ffn-embed-dim {2 * WIDTH}"
        decoder = f"--encoder-attention-heads 2 --decoder-layers 1 --decoder-ffn-embed-dim {2 * WIDTH}"
        lengths = "--max-source-positions 64 --max-target-positions 64 --no-epoch-checkpoints"
        training = TRAINING.replace("row_adamw", "adam").replace("--required-batch-size-multiple 1", "")
        best = "--best-checkpoint-metric bleu --maximize-best-checkpoint-metric"
        return f"{self.parallel} --user-dir {USER_DIR} {task} {width} {decoder} {lengths} {training} {best}"

    @cached_property
    def trained_mte(self) -> Path:
        """Its checkpoint."""
        line = f"fairseq-train {self.mte_options} --max-epoch 1 --save-dir {self.folder}/trained_mte"
        return self.once("trained_mte", line) / "checkpoint_best.pt"

    @cached_property
    def streams(self) -> Path:
        """CCLM's streams, ``{train,valid}/*.jsonl``; pictures with captions as ``image_text.tar``, too; and what
        stands for pictures, ``grids.npy``, with regions that say their pictures' size, ``sized.jsonl``."""
        sizes = f"--train {self.pictures + 8} --valid {HELD_OUT} --test {HELD_OUT} --languages {ORDER}"
        own = "--streams en,de --parallel 40 --monolingual 8"
        world = self.once("cclm_world", f"mlvl-picture-world {self.folder}/cclm_world {sizes} {own}")
        self._make("cclm_archives_and_grids", partial(self._write_archives_and_grids, world))
        return world / "streams"

    @staticmethod
    def _write_archives_and_grids(world: Path) -> None:
        import numpy as np
        from PIL import Image

        names = sorted(path.relative_to(world / "images").as_posix() for path in (world / "images").rglob("*.png"))
        (world / "streams" / "grids.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        grids = np.random.default_rng(0).normal(size=(len(names), 4, 8)).astype(np.float32)
        np.save(world / "streams" / "grids.npy", grids)
        for folder in (world / "streams" / "train", world / "streams" / "valid"):
            with tarfile.open(folder / "image_text.tar", "w") as archive:
                for number, row in enumerate(_rows(folder / "image_text.jsonl")):
                    picture = (world / "images" / row["image"]).read_bytes()
                    for ending, content in (("png", picture), ("json", json.dumps(row).encode())):
                        member = tarfile.TarInfo(f"{number:03d}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
            sizes = (Image.open(world / "images" / row["image"]).size for row in _rows(folder / "regions.jsonl"))
            rows = zip(_rows(folder / "regions.jsonl"), sizes)
            sized = (json.dumps({**row, "width": width, "height": height}) for row, (width, height) in rows)
            (folder / "sized.jsonl").write_text("".join(f"{line}\n" for line in sized), encoding="utf-8")

    def cclm_options(self, pictures: str = "image_text.jsonl", regions: str = "regions.jsonl") -> str:
        """fairseq-train's options for pre-training on all streams. `pictures`, `regions`: names of their files."""
        files = {"image-text": pictures, "regions": regions}
        files.update({"monolingual": "monolingual.jsonl", "parallel-text": "parallel.jsonl"})
        given = " ".join(
            f"--{option} {self.streams}/train/{file} --valid-{option} {self.streams}/valid/{file}"
            for option, file in files.items()
        )
        task = f"--task cclm_pretraining --criterion cclm_pretraining --arch cclm_tiny --tokenizer-folder {self.pieces}"
        training = TRAINING.replace("row_adamw", "grouped_adamw").replace("--batch-size 8", "--batch-size 4")
        images = f"--image-root {self.streams.parent}/images"
        return f"--user-dir {USER_DIR} {task} {given} {images} {training} --no-epoch-checkpoints"

    @property
    def trikd_options(self) -> str:
        """fairseq-train's options for triangle distillation."""
        task = f"--task trikd --criterion trikd --arch trikd_tiny --sentencepiece {self.pieces} --mte {self.mte}"
        width = f"--encoder-embed-dim {WIDTH} --encoder-ffn-embed-dim {2 * WIDTH}"
        return f"{self.corpus} --user-dir {USER_DIR} {task} {width} {TRAINING} {RETRIEVAL}"

    @cached_property
    def official_clip(self) -> Path:
        """OpenAI's TorchScript archive ``archive.pt`` and state dict ``state.pt``, small."""
        return self._make("official_clip", self._write_official_clip)

    def _new_clip(self):
        import torch

        from mlvl_fairseq.fairseq_patches import import_clip

        torch.manual_seed(0)
        clip = import_clip().model.CLIP(8, 32, 1, 64, 16, 77, 49408, 64, 1, 1).eval()
        import_clip().model.convert_weights(clip)
        clip.token_embedding.half()
        return clip

    def _write_official_clip(self) -> None:
        import torch

        folder, clip = self.folder / "official_clip", self._new_clip()
        folder.mkdir(exist_ok=True)
        torch.save({**clip.state_dict(), "context_length": torch.tensor(77)}, folder / "state.pt")
        for name, size in {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}.items():
            clip.__dict__.pop(name, None)
            clip.register_buffer(name, torch.tensor(size))
        inputs = {
            "encode_image": (torch.zeros(1, 3, 32, 32).half(),),
            "encode_text": (torch.zeros(1, 77, dtype=torch.long),),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace_module(clip, inputs, check_trace=False), folder / "archive.pt")

    @cached_property
    def released_mclip(self) -> Path:
        """A file in the layout of mCLIP's release."""
        return self._make("mclip_base.pt", self._write_mclip)

    def _write_mclip(self) -> None:
        import torch
        from fairseq.models.transformer import TransformerConfig
        from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

        from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr

        config = TransformerConfig()
        config.encoder.embed_dim, config.encoder.ffn_embed_dim, config.encoder.attention_heads = WIDTH, 2 * WIDTH, 2
        config.encoder.normalize_before, config.activation_fn = False, "gelu"
        parts: Dict[str, Dict[str, torch.Tensor]] = {
            "dim_proj.": torch.nn.Linear(8, WIDTH, bias=False).state_dict(),
            "encoder_adapter.": torch.nn.ModuleList([TransformerEncoderLayerBase(config)]).state_dict(),
            "clip.": self._new_clip().state_dict(),
            "xlmr.model.encoder.sentence_encoder.": read_xlmr(self.mte).tensors,
        }
        model = {f"encoder.{part}{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        content = {"args": Namespace(dropout=0.3, encoder_attention_heads=2), "model": model}
        torch.save({**content, "criterion": {"theta": torch.tensor(3.5)}}, self.folder / "mclip_base.pt")

    @cached_property
    def mclip(self) -> Path:
        """The folder that mlvl-convert makes of it: ``trikd.pt``, ``mte.pt``, ``clip.pt``."""
        line = f"mlvl-convert mclip {self.released_mclip} {self.folder}/mclip --sentencepiece {self.pieces}"
        return self.once("mclip", line)

    @cached_property
    def huggingface(self) -> Path:
        """The teacher as a Hugging Face folder."""

        def make() -> None:
            from mlvl_fairseq.checkpoints.clip import read_clip_weights
            from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface

            to_huggingface(read_clip_weights(self.teacher), self.folder / "huggingface")

        return self._make("huggingface", make)

    @cached_property
    def scores(self) -> Path:
        """A folder of mlvl-evaluate."""
        return self.once("scores", f"mlvl-evaluate {self.evaluate_options} --output-dir {self.folder}/scores")

    @property
    def evaluate_options(self) -> str:
        files = f"--captions {self.world}/'test.{{lang}}.json' --image-root {self.world}/images"
        return f"--checkpoint {self.teacher} --lang {ORDER} {files}"


def _rows(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def import_everything() -> None:
    """What jobs need, before they are forked; one thread each, as threads do not survive a fork."""
    import torch

    from mlvl_fairseq.continual.run import import_training

    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    import_training()
