"""Small files of examples with the fields, and in the folders, that their data sets are published with (IGLUE as it is
cloned, LXMERT's GQA, X-VLM's NLVR2), and pictures for them."""

import json

from PIL import Image

XVNLI = [
    {
        "Flikr30kID": image,
        "captionID": f"{image}.jpg#0",
        "gold_label": label,
        "pairID": f"{image}.jpg#0r1{label[:1]}",
        "sentence1": "Two dogs.",
        "sentence2": text,
    }
    for image, label, text in [
        ("36979", "entailment", "Two animals."),
        ("36979", "contradiction", "A cat sleeps."),
        ("1015118661", "-", "They are happy."),
        ("1015118661", "neutral", "It runs to the left."),
    ]
]
GQA = [
    {"img_id": "2375429", "label": {"pipe": 1.0}, "question_id": "07333408", "sent": "What is on the white wall?"},
    {"img_id": "n161313", "label": {"left": 0.3, "right": 0.9}, "question_id": "1", "sent": "Which side?"},
]
XGQA = {
    "201307251": {
        "question": "Ist es bewölkt?",
        "imageId": "n161313",
        "answer": "no",
        "fullAnswer": "No.",
        "semantic": [],
    },
    "201640614": {"question": "Wer trägt das Kleid?", "imageId": "n235859", "answer": "woman", "isBalanced": True},
}
NLVR2 = [
    {"sentence": "There are two dogs.", "label": "True", "images": ["train/1-0-img0.png", "train/1-0-img1.png"]},
    {"sentence": "There is a cat.", "label": False, "images": ["train/1-1-img0.png", "train/1-1-img1.png"]},
]
MARVL = [
    {
        "concept": "39-Panci",
        "language": "id",
        "caption": "Ada dua panci.",
        "left_img": "39-0.jpg",
        "right_img": "39-11.jpg",
        "chapter": "Basic actions and technology",
        "id": "id-0",
        "label": True,
        "annotator_info": {"annotator_id": "id_01"},
    }
]
MARVL_FEW_SHOT = [{**MARVL[0], "left_img": "39-Panci/39-n-5.jpg", "right_img": "39-n-2.jpg", "label": False}]
IMAGES = [
    "flickr30k-images/36979.jpg",
    "flickr30k-images/1015118661.jpg",
    "gqa/2375429.jpg",
    "gqa/n161313.jpg",
    "gqa/n235859.jpg",
    *(f"nlvr2/{name}" for row in NLVR2 for name in row["images"]),
    "marvl-images/id/images/39-Panci/39-0.jpg",
    "marvl-images/id/images/39-Panci/39-11.jpg",
    "marvl_fewshot/id/all/39-n-5.jpg",
    "marvl_fewshot/id/all/39-n-2.jpg",
]


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_whole(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_published(folder):
    """Write all files below a folder. Returns the path of each by its name here."""
    iglue = folder / "iglue" / "datasets"
    files = {
        "xvnli": write_lines(iglue / "XVNLI/annotations/en/test.jsonl", XVNLI),
        "gqa": write_whole(iglue / "gqa/annotations/valid.json", GQA),
        "xgqa": write_whole(iglue / "xGQA/annotations/few_shot/de/test.json", XGQA),
        "nlvr2": write_whole(folder / "data/finetune/nlvr_en/nlvr_train.json", NLVR2),
        "marvl": write_lines(iglue / "marvl/zero_shot/annotations/marvl-id.jsonl", MARVL),
        "marvl few-shot": write_lines(iglue / "marvl/few_shot/annotations/marvl-id_train10x2.jsonl", MARVL_FEW_SHOT),
    }
    for number, name in enumerate(IMAGES):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (20 * number, 100, 255 - 20 * number)).save(path)
    return files
