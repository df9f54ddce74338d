"""Two and three CPU ranks pre-train CCLM as one process with all rows does: images, regions and parallel text in turns.

Nothing is random in it but hard negatives, of which the likeliest is taken here.
"""

import base64
import io
import json
import random

import pytest
from PIL import Image
from processes import free_port

from mlvl_fairseq.checkpoints.comparison import largest_difference
from mlvl_fairseq.modules import hard_negatives

LOSS_TOLERANCE = 3e-4  # of losses with four decimals
WEIGHT_TOLERANCE = 1e-4  # a learning rate of 1e-2 has moved weights by up to 3e-2
ROWS = 6  # of all ranks
WORDS = {
    "en": ("red blue green", "house tree ball", "stands lies rolls"),
    "de": ("rot blau grün", "Haus Baum Ball", "steht liegt rollt"),
}
OPTIONS = (
    "--task cclm_pretraining --arch cclm_tiny --criterion cclm_pretraining --optimizer grouped_adamw --adam-eps 1e-2 "
    "--lr 1e-2 --lr-scheduler fixed --clip-norm 1 --text-dropout 0 --text-attention-dropout 0 --negatives gather "
    "--no-epoch-checkpoints --num-workers 0 --cpu --log-format json --log-interval 1 --max-update 4 "
    "--disable-validation --required-batch-size-multiple 1"
).split()


def sentence(draw, lang):
    return " ".join(draw.choice(words.split()) for words in WORDS[lang])


def picture(draw):
    file = io.BytesIO()
    image = Image.new("RGB", (64, 64), tuple(draw.randrange(256) for _ in range(3)))
    image.paste(tuple(draw.randrange(256) for _ in range(3)), (8, 8, 40, 40))
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def data(succeed, tmp_path_factory):
    """Files of three streams, and a tokenizer's folder."""
    folder, draw = tmp_path_factory.mktemp("streams"), random.Random(1)
    both = [{lang: sentence(draw, lang) for lang in WORDS} for _ in range(40)]
    records = {
        "images": [{"binary": picture(draw), "caption": texts} for texts in both[:24]],
        "texts": [{"source_text": texts["en"], "target_text": texts["de"]} for texts in both],
        "regions": [
            {"binary": picture(draw), "elems": [{"bb": [8, 8, 32, 32], "caption": texts}]} for texts in both[:24]
        ],
    }
    for name, lines in records.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "train.txt").write_text("".join(f"{text}\n" for texts in both for text in texts.values()))
    succeed("mlvl-sentencepiece", folder / "pieces", "--train", folder / "train.txt", "--vocab-size", 36)
    return folder


@pytest.fixture
def train(fork, data, tmp_path, user_dir, monkeypatch):
    """``train(ranks, *options)`` -> losses of the updates, and the last checkpoint."""
    monkeypatch.setattr(hard_negatives, "draw", lambda weights, generator=None: weights.argmax(1))

    def start(name, ranks, *options):
        folder = tmp_path / name
        folder.mkdir()
        more = ["--parallel-text", data / "texts.jsonl", "--tokenizer-folder", data / "pieces", "--save-dir", folder]
        more += ["--user-dir", user_dir, "--batch-size", ROWS // ranks, "--distributed-world-size", ranks]
        if ranks > 1:
            address = f"tcp://127.0.0.1:{free_port()}"
            more += ["--distributed-no-spawn", "--distributed-init-method", address, "--distributed-backend", "gloo"]
            more += ["--ddp-backend", "legacy_ddp"]
        logs = [folder / f"log.{rank}" for rank in range(ranks)]
        command = ["fairseq-train", *OPTIONS, *more, *options, "--distributed-rank"]
        processes = [fork(log, *command, rank) for rank, log in enumerate(logs)]
        for process, log in zip(processes, logs, strict=True):
            process.join(timeout=120)
            assert process.exitcode == 0, log.read_text()[-3000:]
        lines = [json.loads(line) for line in logs[0].read_text().splitlines() if line.startswith('{"epoch"')]
        return [line for line in lines if "num_updates" in line], folder / "checkpoint_last.pt"

    return start


@pytest.mark.parametrize("ranks, stream", [(2, "image"), (3, "region")])
def test_ranks_train_as_one_process(ranks, stream, train, data):
    """With different numbers of masked words and of boxes on each rank."""
    options = ["--image-text", data / "images.jsonl"] if stream == "image" else ["--regions", data / "regions.jsonl"]
    alone, whole = train("one", 1, *options, "--region-images", ROWS)
    parts, together = train("all", ranks, *options, "--region-images", ROWS // ranks)
    assert [line["num_updates"] for line in alone] == [line["num_updates"] for line in parts] == ["1", "2", "3", "4"]
    names = {
        "image": ["itc", "itm", "mlm"],
        "region": ["itc", "itm", "mlm", "l1", "giou"],
        "text": ["ttc", "ttm", "mlm"],
    }
    for number, (one, other) in enumerate(zip(alone, parts, strict=True)):
        of = stream if number % 2 else "text"
        logged = ["loss", *(f"{of}_{name}" for name in names[of])]
        found, expected = ([float(line[name]) for name in logged] for line in (other, one))
        assert found == pytest.approx(expected, abs=LOSS_TOLERANCE)
    assert largest_difference(whole, together) < WEIGHT_TOLERANCE
