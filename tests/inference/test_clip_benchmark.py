"""CLIP_benchmark's scores of an exported model are those of mlvl-evaluate on the same files, offline."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

IMAGES = 24
WORDS = "red blue dog cat ball street snow house tree car two three an ein der am see".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 photos and captions.txt as Kaggle's Flickr8k has it, two captions a photo."""
    folder, rng = tmp_path_factory.mktemp("flickr8k"), np.random.default_rng(0)
    lines = ["image,caption"]
    for row in range(IMAGES):
        pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(folder / f"{row}.jpg", quality=95)
        lines += [f"{row}.jpg,{' '.join(rng.choice(WORDS, 4))}" for _ in range(2)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    return folder


def ended_well(run_here, *command):
    with pytest.raises(SystemExit) as exit:
        run_here(*command)
    assert exit.value.code == 0


def test_recall_is_that_of_mlvl_evaluate(run_here, small_clip, folder, tmp_path, monkeypatch, capfd):
    cli = pytest.importorskip("clip_benchmark.cli", reason="pip install clip-benchmark: it is not installed")
    pytest.importorskip("open_clip", reason="pip install open_clip_torch: it is not installed")
    ended_well(run_here, "mlvl-export", "open-clip", small_clip, tmp_path / "exported")
    data = ["--captions", folder / "captions.txt", "--image-root", folder, "--lang", "en"]
    ended_well(run_here, "mlvl-evaluate", "--checkpoint", small_clip, *data, "--json", tmp_path / "a.json")
    ours = json.loads((tmp_path / "a.json").read_text())
    command = (
        f"clip_benchmark eval --task zeroshot_retrieval --dataset flickr8k --dataset_root {folder} "
        f"--annotation_file {folder}/captions.txt --model local-dir:{tmp_path}/exported --pretrained none "
        f"--recall_k 1 5 10 --no_amp --num_workers 0 --output {tmp_path}/b.json"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    cli.main()
    theirs = json.loads((tmp_path / "b.json").read_text())["metrics"]
    for k in (1, 5, 10):
        assert 100 * theirs[f"image_retrieval_recall@{k}"] == pytest.approx(ours[f"img_r{k}"], abs=1e-4)
        assert 100 * theirs[f"text_retrieval_recall@{k}"] == pytest.approx(ours[f"txt_r{k}"], abs=1e-4)
    assert 0 < ours["img_r1"] < ours["img_r10"] < 100, "says something"
