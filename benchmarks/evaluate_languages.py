"""36 languages x 3,600 images: one `mlvl-evaluate` for all languages against one `mlvl-evaluate` a language.

Both are what a user types. Small models (clip_tiny's text tower, random weights) on generated data: captions of CLIP's
own words, another word list for each language, and the images

* as photos (640 x 480 JPEG of 127 kB, as cameras make them), which every process has to decode, scale and encode
* as 512-dimensional features in a file, for the model's head

One process does imports, loading and images once; what is left for each language is tokens, text tower and ranks, which
no process saves. Every score and signature must be the same. One CPU thread; CPU seconds, which other work on the
machine disturbs less than wall time.

    python benchmarks/evaluate_languages.py                            # both, 3 languages apart and scaled to 36
    python benchmarks/evaluate_languages.py --source features --apart 36
    python benchmarks/evaluate_languages.py --captions-per-image 1
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Tuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
WORDS_A_LANGUAGE, WORDS_A_CAPTION, FEATURE_DIM = 2000, (6, 15), 512


def write_captions(folder: Path, languages: List[str], images: List[str], per_image: int) -> None:
    """``<language>.json`` for each language: short captions of words that CLIP has a token for."""
    from mlvl_fairseq.data.text import clip_vocabulary

    tokens = (token.removesuffix("</w>") for token in clip_vocabulary().tokens if token.endswith("</w>"))
    words = np.array([token for token in tokens if token.isascii() and token.isalpha() and len(token) > 2])
    for seed, lang in enumerate(languages):
        rng = np.random.default_rng(seed)
        vocabulary = rng.choice(words, WORDS_A_LANGUAGE, replace=False)
        rows = [
            {"image": image, "caption": [" ".join(rng.choice(vocabulary, rng.integers(*WORDS_A_CAPTION)))]}
            for image in images
            for _ in range(per_image)
        ]
        (folder / f"{lang}.json").write_text(json.dumps(rows), encoding="utf-8")


def write_photos(folder: Path, images: List[str]) -> List[str]:
    """JPEG files, 48 different ones under many names; returns mlvl-evaluate's options for them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    photos = []
    for _ in range(48):
        grain = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        shapes = np.asarray(Image.fromarray(grain).resize((640, 480), Image.Resampling.BICUBIC))
        noisy = np.clip(shapes + rng.normal(0, 8, (480, 640, 1)), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    for number, name in enumerate(images):
        (folder / name).write_bytes(photos[number % len(photos)])
    return ["--image-root", str(folder)]


def write_features(folder: Path, images: List[str]) -> List[str]:
    """A feature file and its list of names; returns mlvl-evaluate's options for them."""
    features = np.random.default_rng(0).standard_normal((len(images), FEATURE_DIM), dtype=np.float32)
    np.save(folder / "images.npy", features)
    (folder / "images.txt").write_text("".join(f"{name}\n" for name in images), encoding="utf-8")
    return ["--image-features", str(folder / "images.npy"), "--image-list", str(folder / "images.txt")]


def write_checkpoint(path: Path, source: str) -> None:
    """A checkpoint as fairseq-train would leave it, of clip_tiny_vit or (on features) clip_tiny."""
    import torch

    from mlvl_fairseq.modules.heads import FeatureHead
    from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
    from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower

    torch.manual_seed(0)
    if source == "photos":
        embed_dim, vision = 128, CLIPVisionTower(64, 16, 128, 3, 4, 128)
    else:
        embed_dim, vision = 256, FeatureHead(FEATURE_DIM, 512, 256)
    text = CLIPTextTower(49408, width=128, layers=2, heads=4, embed_dim=embed_dim)
    model = {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    model.update({f"vision.{name}": tensor for name, tensor in vision.state_dict().items()})
    model["logit_scale"] = torch.tensor(2.66)
    torch.save({"model": model, "cfg": {"model": {"text_heads": 4, "vision_heads": 4}}}, path)


def cpu_seconds() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def evaluate(folder: Path, languages: List[str], options: List[str]) -> Tuple[dict, float]:
    """Run mlvl-evaluate in a process of its own; returns its scores by language and its CPU seconds."""
    command = [sys.executable, "-m", "mlvl_fairseq.cli.evaluate", "--checkpoint", str(folder / "model.pt")]
    command += ["--format", "json", "--lang", ",".join(languages), "--captions", str(folder / "{lang}.json"), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    start = cpu_seconds()
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seconds = cpu_seconds() - start
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stderr}")
    scores = json.loads(run.stdout)
    return scores.get("languages", {languages[0]: scores}), seconds


def compare(folder: Path, languages: List[str], apart: List[str], options: List[str]) -> Dict[str, float]:
    """CPU seconds of both ways; the languages that are not run apart are taken to need the mean of those that are."""
    evaluate(folder, languages[:1], options)  # files get into the cache
    together, together_s = evaluate(folder, languages, options)
    apart_s = []
    for lang in apart:
        scores, seconds = evaluate(folder, [lang], options)
        assert scores[lang] == together[lang], f"{lang}: {scores[lang]} apart, {together[lang]} together"
        apart_s.append(seconds)
    return {"apart": float(np.mean(apart_s)) * len(languages), "together": together_s}


def measure(source: str, languages: List[str], args: argparse.Namespace) -> Dict[str, float]:
    """CPU seconds of both ways on generated data."""
    images = [f"{number:05d}.jpg" for number in range(args.images)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_captions(folder, languages, images, args.captions_per_image)
        write_checkpoint(folder / "model.pt", source)
        options = {"photos": write_photos, "features": write_features}[source](folder, images)
        return compare(folder, languages, languages[: args.apart], options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source",
        nargs="+",
        choices=("photos", "features"),
        default=["photos", "features"],
        help="where images come from (default: both)",
    )
    parser.add_argument("--languages", type=int, default=36, help="number of languages (default: %(default)s)")
    parser.add_argument("--images", type=int, default=3600, help="number of images (default: %(default)s)")
    parser.add_argument("--captions-per-image", type=int, default=2, help="of each language (default: %(default)s)")
    parser.add_argument(
        "--apart",
        type=int,
        default=3,
        help="languages that are measured in a process of their own (default: %(default)s)",
    )
    args = parser.parse_args()
    languages = [f"l{number:02d}" for number in range(args.languages)]
    captions = args.images * args.captions_per_image
    print(f"{len(languages)} languages x {args.images:,} images x {captions:,} captions, one thread;", end=" ")
    print(f"{args.apart} languages measured apart, scaled to {len(languages)}; their scores: identical\n")
    print("| images | one process a language | one process for all | ratio |\n|---|---:|---:|---:|", flush=True)
    for source in args.source:
        apart, together = measure(source, languages, args).values()
        print(f"| {source} | {apart:.0f} s | {together:.0f} s | **{apart / together:.1f}** |", flush=True)


if __name__ == "__main__":
    main()
