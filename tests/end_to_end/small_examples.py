"""Small files of examples, with pictures of which colour and side tell the label or the answer."""

import json
import random

from PIL import Image

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
CLASSES = ("contradiction", "entailment", "neutral")
DASHES = 2  # labels that annotators did not agree on


def write_small_examples(folder):
    """``xvnli.jsonl`` of 20 hypotheses, 18 of them with a label, ``gqa.json`` and ``xgqa.json`` of 12 questions each,
    ``nlvr.json`` of 12 statements, ``answers.json``, and ``images`` in the published folders."""
    draw = random.Random(3)
    names = {f"{10 + n}": draw.choice(list(COLOURS)) for n in range(8)}
    for name, colour in names.items():
        image = Image.new("RGB", (32, 32), (128, 128, 128))
        image.paste(COLOURS[colour], (4, 4, 20, 28))
        for place in (f"flickr30k-images/{name}.jpg", f"gqa/{name}.jpg", f"nlvr2/{name}.png"):
            path = folder / "images" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    xvnli, gqa, nlvr = [], [], []
    for number in range(20):
        name = draw.choice(list(names))
        label = "-" if number < DASHES else CLASSES[number % 3]
        said = names[name] if label == "entailment" else draw.choice([c for c in COLOURS if c != names[name]])
        text = "house stands" if label == "neutral" else f"{said} house"
        xvnli.append({"gold_label": label, "sentence2": text, "Flikr30kID": name, "pairID": str(number)})
    for number in range(12):
        name, other = draw.sample(list(names), 2)
        gqa.append({"img_id": name, "label": {names[name]: 1.0}, "question_id": str(number), "sent": "house ball?"})
        same = names[name] == names[other]
        images = [f"{name}.png", f"{other}.png"]
        nlvr.append({"sentence": "house ball", "label": str(same), "images": images})
    (folder / "xvnli.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in xvnli))
    (folder / "gqa.json").write_text(json.dumps(gqa))
    (folder / "nlvr.json").write_text(json.dumps(nlvr))
    xgqa = {
        r["question_id"]: {"question": "Haus", "imageId": r["img_id"], "answer": next(iter(r["label"]))} for r in gqa
    }
    (folder / "xgqa.json").write_text(json.dumps(xgqa))
    (folder / "answers.json").write_text(json.dumps({"green": 2, "red": 0, "blue": 1}))
    return folder
