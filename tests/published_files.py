"""Small files of the data sets that CCLM is fine-tuned on, with the fields that they are published with and in the
folders of IGLUE as it is cloned, and pictures for them."""

import base64
import json
import random
import zipfile

from PIL import Image

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
WORDS = ("house stands", "tree lies", "ball rolls")
ENOUGH = 10  # images for recall at 10
WIT_URL = "https://upload.wikimedia.org/{}.jpg"


class Writer:
    """Rows of data sets, and the files that have them.

    Args:
        folder: gets ``iglue``, ``images``, ``nlvr``, ``multi30k`` and ``coco``.
    """

    def __init__(self, folder):
        self.folder, self.draw = folder, random.Random(4)
        self.iglue = folder / "iglue" / "datasets"

    def picture(self, place):
        path = self.folder / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (32, 32), (128, 128, 128))
        image.paste(self.draw.choice(list(COLOURS.values())), (4, 4, 24, 28))
        image.save(path)
        return path

    def text(self):
        return f"{self.draw.choice(list(COLOURS))} {self.draw.choice(WORDS)}"

    def lines(self, place, rows):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def whole(self, place, rows):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(rows))

    def zipped(self, place):
        """The file as a zip archive has it, in its place."""
        with zipfile.ZipFile(f"{place}.zip", "w") as archive:
            archive.write(place, place.name)
        place.unlink()

    def xvnli(self):
        for name in "123":
            self.picture(f"flickr30k-images/{name}.jpg")
        labels = ("entailment", "-", "neutral", "contradiction")

        def rows(count):
            for number in range(count):
                image, label = str(number % 3 + 1), labels[number % 4]
                text = {"sentence1": "Two dogs.", "sentence2": self.text()}
                yield {"Flikr30kID": image, "gold_label": label, "pairID": str(number), **text}

        annotations = self.iglue / "XVNLI" / "annotations"
        for lang in ("ar", "en", "es", "fr", "ru"):
            self.lines(annotations / lang / "test.jsonl", rows(5))
            self.lines(annotations / lang / "train_1.jsonl", rows(3))
            self.lines(annotations / lang / "train_48.jsonl", rows(6))
            if lang != "en":
                self.lines(self.iglue / "XVNLI" / "annotations_machine-translate" / lang / "test.jsonl", rows(4))
        self.lines(annotations / "en" / "dev.jsonl", rows(5))
        self.lines(annotations / "en" / "train.jsonl", rows(12))
        self.zipped(annotations / "en" / "train.jsonl")

    def gqa(self):
        for name in ("n1", "n2"):
            self.picture(f"gqa/{name}.jpg")
        answers = list(COLOURS)
        self.whole(self.iglue / "gqa/annotations/trainval_ans2label.json", {a: 2 - n for n, a in enumerate(answers)})

        def question(number):
            return {"sent": self.text(), "img_id": f"n{number % 2 + 1}", "question_id": str(number)}

        rows = [{**question(number), "label": {self.draw.choice(answers): 1.0}} for number in range(6)]
        self.whole(self.iglue / "gqa/annotations/train.json", rows)
        self.whole(self.iglue / "gqa/annotations/valid.json", rows[:3])
        for lang in ("bn", "de", "en", "id", "ko", "pt", "ru", "zh"):
            for name in ("test", "dev", "train_48"):
                asked = {
                    row["question_id"]: {"question": row["sent"], "imageId": row["img_id"], "answer": answers[0]}
                    for row in rows[:4]
                }
                self.whole(self.iglue / "xGQA/annotations/few_shot" / lang / f"{name}.json", asked)

    def nlvr(self):
        names = [f"train/{name}.png" for name in "abc"]
        for name in names:
            self.picture(f"nlvr2/{name}")
        for split in ("train", "dev", "test"):
            rows = [
                {"sentence": self.text(), "label": str(n % 2 == 0), "images": self.draw.sample(names, 2)}
                for n in range(6)
            ]
            self.whole(self.folder / "nlvr" / f"nlvr_{split}.json", rows)
        for lang in ("id", "sw", "ta", "tr", "zh"):
            shown = [f"39-{number}.jpg" for number in (1, 2)]
            for name in shown:
                self.picture(f"marvl-images/{lang}/images/39-Panci/{name}")
                self.picture(f"marvl_fewshot/{lang}/all/{name}")
            rows = [
                {"concept": "39-Panci", "language": lang, "caption": self.text(), "id": f"{lang}-{n}"}
                | {"left_img": shown[0], "right_img": shown[1], "label": n % 2 == 0}
                for n in range(4)
            ]
            self.lines(self.iglue / f"marvl/zero_shot/annotations/marvl-{lang}.jsonl", rows)
            self.lines(self.iglue / f"marvl/zero_shot/annotations_machine-translate/marvl-{lang}_gmt.jsonl", rows)
            if lang in ("id", "tr", "zh"):
                few = [{**row, "left_img": f"39-Panci/{shown[0]}"} for row in rows]
                self.lines(self.iglue / f"marvl/few_shot/annotations/marvl-{lang}_train10x2.jsonl", few)

    def xflickrco(self):
        flickr, coco = "1001.jpg", "COCO_val2014_000000000042.jpg"
        self.picture(f"flickr30k-images/{flickr}")
        self.picture("flickr30k-images/1002.jpg")
        self.picture(f"coco/val2014/{coco}")

        def row(image, sentences=1):
            return {"sentences": [self.text() for _ in range(sentences)], "id": image[:4], "img_path": image}

        both = (flickr, "1002.jpg")
        self.lines(self.iglue / "flickr30k/annotations/train_ann.jsonl", [row(image, 5) for image in both])
        self.lines(self.iglue / "flickr30k/annotations/valid_ann.jsonl", [row(image, 5) for image in both])
        for lang in ("de", "en", "es", "id", "ja", "ru", "tr", "zh"):
            folder = self.iglue / "xFlickrCO" / "annotations" / lang
            self.lines(folder / "test.jsonl", [row(flickr), row(coco)])
            if lang != "en":
                self.lines(folder / "train_100.jsonl", [row(image) for image in both])
                translated = self.iglue / "xFlickrCO" / "annotations_machine-translate" / lang
                self.lines(translated / "test_gmt.jsonl", [row(flickr), row(coco)])

    def wit(self):
        urls = [WIT_URL.format(number) for number in range(ENOUGH + 2)]
        known, new = urls[:ENOUGH], urls[ENOUGH:]

        def row(url, lang):
            return {"image_url": url, "caption_reference_description": self.text(), "language": lang}

        annotations = self.iglue / "wit" / "annotations"
        for lang in ("ar", "bg", "da", "el", "en", "et", "id", "ja", "ko", "tr", "vi"):
            self.lines(annotations / f"test_{lang}.jsonl", [row(url, lang) for url in new])
            if lang != "en":
                folder = self.iglue / "wit" / "annotations_machine-translate"
                self.lines(folder / f"test_{lang}_gmt.jsonl", [row(url, lang) for url in new])
        self.lines(annotations / "val_en.jsonl", [row(url, "en") for url in known])
        self.lines(annotations / "train_en.jsonl", [row(url, "en") for url in (*known[:2], WIT_URL.format("none"))])
        self.zipped(annotations / "train_en.jsonl")
        for folder, shown in (("image_data_train/image_pixels", known), ("wit_test", new)):
            picture = base64.b64encode(self.picture("flickr30k-images/1.jpg").read_bytes()).decode()
            table = self.folder / "images" / folder / "part-00000.csv"
            table.parent.mkdir(parents=True)
            table.write_text("".join(f"{url}\t{picture}\tkey\n" for url in shown))

    def captions(self):
        """Multi30K's and COCO's lists."""
        flickr = ["flickr30k-images/1.jpg", "flickr30k-images/2.jpg"]
        coco = [f"coco/val2014/COCO_val2014_{number:012}.jpg" for number in range(ENOUGH)]
        for name in coco:
            self.picture(name)

        def train(images):
            return [{"caption": self.text(), "image": name, "image_id": name} for name in images[:2] for _ in range(2)]

        def test(images):
            return [{"caption": [self.text(), self.text()], "image": name, "image_id": name} for name in images]

        for lang in ("en", "de", "fr", "cs"):
            self.whole(self.folder / "multi30k" / f"train.{lang}.json", train(flickr))
            for split in ("val", "test_2016_flickr"):
                self.whole(self.folder / "multi30k" / f"{split}.{lang}.json", test(flickr))
        for lang in ("en", "zh", "ja"):
            self.whole(self.folder / "coco" / f"{lang}.train.json", train(coco))
            for split in ("val", "test") if lang == "zh" else ("valid", "1k_test"):
                self.whole(self.folder / "coco" / f"{lang}.{split}.json", test(coco))


def write_published_files(folder):
    """All of it."""
    writer = Writer(folder)
    for write in (writer.xvnli, writer.gqa, writer.nlvr, writer.xflickrco, writer.wit, writer.captions):
        write()
    return folder
