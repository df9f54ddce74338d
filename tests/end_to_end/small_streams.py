"""Small files of CCLM's streams."""

import base64
import io
import json
import random

from PIL import Image

WORDS = {
    "en": ("red blue green", "house tree ball", "stands lies rolls"),
    "de": ("rot blau grün", "Haus Baum Ball", "steht liegt rollt"),
}


def sentence(draw, lang):
    return " ".join(draw.choice(words.split()) for words in WORDS[lang])


def picture(draw):
    file = io.BytesIO()
    image = Image.new("RGB", (64, 64), tuple(draw.randrange(256) for _ in range(3)))
    image.paste(tuple(draw.randrange(256) for _ in range(3)), (8, 8, 40, 40))
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_small_streams(folder):
    """``images``, ``regions`` and ``texts.jsonl``, and ``train.txt`` with all sentences."""
    draw = random.Random(1)
    both = [{lang: sentence(draw, lang) for lang in WORDS} for _ in range(40)]
    box = [8, 8, 32, 32]
    records = {
        "images": [{"binary": picture(draw), "caption": texts} for texts in both[:24]],
        "texts": [{"source_text": texts["en"], "target_text": texts["de"]} for texts in both],
        "regions": [{"binary": picture(draw), "elems": [{"bb": box, "caption": texts}]} for texts in both[:24]],
    }
    for name, lines in records.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    sentences = [text for texts in both for text in texts.values()]
    (folder / "train.txt").write_text("".join(f"{text}\n" for text in sentences), encoding="utf-8")
