"""The table of docs/data.md: each command reads the files of its data set as they are published, made up in small."""

import gzip
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.cli import evaluate, prepare
from mlvl_fairseq.cli.common import options_from
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.evaluation.evaluators import EVALUATORS
from mlvl_fairseq.inference.encoder import Encoder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
VALUES = {"en": "A {} here.", "de": "Ein Bild: {}.", "zh": "这是{}。", "ja": "これは{}です。"}
URLS = [f"https://upload.example.org/a/{n}/Bild_{n}.jpg" for n in range(6)]
COCO = [f"COCO_{'train' if n % 2 else 'val'}2014_{n:012d}.jpg" for n in range(6)]
IN_COCO = [f"{name.split('_')[1]}/{name}" for name in COCO]
XTD10 = ("en", "de", "fr", "ja", "es", "it", "ko", "pl", "ru", "tr", "zh")
FLICKR = [f"100{n}92795.jpg" for n in range(6)]


def caption(lang, n):
    return VALUES.get(lang, f"{lang}: {{}}, yes.").format(f"dog number {n}")


def captions(lang, images):
    """(image, caption) for each of the images."""
    return [(image, caption(lang, n)) for n, image in enumerate(images)]


def rows():
    section = PAGE.read_text(encoding="utf-8").partition("## Data sets as published")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    return {name: command.strip("` ") for name, _, command in cells[2:]}


class Files:
    """Writes files below a folder, gzipped where they are called so."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())

    def json(self, name, value):
        self(name, json.dumps(value))

    def lines(self, name, lines):
        self(name, "".join(f"{line}\n" for line in lines))

    def pictures(self, folder, names):
        for name in names:
            self(f"{folder}/{name}", "a picture")

    def features(self, stem, names):
        np.save(self.folder / f"{stem}.npy", np.eye(len(names), 8, dtype=np.float32))
        self.lines(f"{stem}.txt", names)


# Each writes a data set's files and says what must be read of them: {(split, language): [(image, caption), ...]}.


def karpathy_flickr(write):
    splits = ["train", "train", "val", "test", "train", "val"]
    sentences = [[{"raw": caption("en", n), "tokens": ["dog"], "imgid": n, "sentid": n}] for n in range(6)]
    images = [
        {"sentids": [n], "imgid": n, "sentences": sentences[n], "split": splits[n], "filename": FLICKR[n]}
        for n in range(6)
    ]
    write.json("dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    write.pictures("flickr30k-images", FLICKR)
    pairs = captions("en", FLICKR)
    names = {"train": "train", "val": "valid", "test": "test"}
    return {(names[split], "en"): [pair for pair, its in zip(pairs, splits) if its == split] for split in names}


def karpathy_coco(write):
    splits = ["test", "train", "restval", "test", "val", "test"]
    images = [
        {
            "filepath": COCO[n].split("_")[1],
            "sentids": [2 * n, 2 * n + 1],
            "filename": COCO[n],
            "imgid": n,
            "split": splits[n],
            "sentences": [{"tokens": [], "raw": caption("en", n), "imgid": n, "sentid": 2 * n}],
            "cocoid": n,
        }
        for n in range(6)
    ]
    write.json("dataset_coco.json", {"images": images, "dataset": "coco"})
    write.pictures("coco", IN_COCO)
    return {("test", "en"): [pair for pair, split in zip(captions("en", IN_COCO), splits) if split == "test"]}


def stair(write):
    images = [{"license": 5, "file_name": name, "id": n, "height": 3} for n, name in enumerate(COCO)]
    annotations = [{"image_id": n, "id": 100 + n, "caption": caption("ja", n)} for n in range(6)]
    content = {"type": "captions", "info": {}, "licenses": [{}], "images": images, "annotations": annotations}
    write.json("stair_captions_v1.2_val.json", content)
    write.pictures("coco", IN_COCO)
    return {("test", "ja"): captions("ja", IN_COCO)}


def coco_cn(write):
    names = [name.removesuffix(".jpg") for name in COCO]
    write.lines("imageid.human-written-caption.txt", [f"{name}#0\t{caption('zh', n)}" for n, name in enumerate(names)])
    write.lines("coco-cn_test.txt", names[2:])
    write.pictures("coco", IN_COCO)
    return {("test", "zh"): captions("zh", IN_COCO)[2:]}


def yjcaptions(write):
    images = [{"license": 5, "file_name": name, "id": n} for n, name in enumerate(COCO)]
    annotations = [{"image_id": n, "id": 100 + n, "caption": caption("ja", n)} for n in range(6)]
    write.json("yjcaptions26k_clean.json", {"images": images, "annotations": annotations})
    write.pictures("coco", IN_COCO)
    return {("test", "ja"): captions("ja", IN_COCO)}


def tokens(write):
    pairs = [(name, f"{text} ({k})") for name, text in captions("en", FLICKR) for k in range(2)]
    write.lines("results_20130124.token", [f"{name}#{k % 2}\t{text}" for k, (name, text) in enumerate(pairs)])
    write.pictures("flickr30k-images", FLICKR)
    return {("train", "en"): pairs}


def kaggle(write):
    write.lines(
        "captions.txt", ["image,caption", *(f'{name},"{text} ""Yes"", no"' for name, text in captions("en", FLICKR))]
    )
    write.pictures("Images", FLICKR)
    return {("train", "en"): [(name, f'{text} "Yes", no') for name, text in captions("en", FLICKR)]}


def flickr8k_cn(write):
    write.lines("flickr8kzhc.caption.txt", [f"{name}#zhc#0 {text}" for name, text in captions("zh", FLICKR)])
    write.pictures("flickr8k-images", FLICKR)
    return {("test", "zh"): captions("zh", FLICKR)}


def multi30k(write):
    for split, names in (("train", "train_images"), ("val", "val")):
        for lang in ("en", "de"):
            write.lines(f"raw/{split}.{lang}.gz", [text for _, text in captions(lang, FLICKR)])
        write.lines(f"image_splits/{names}.txt", FLICKR)
    write.pictures("flickr30k-images", FLICKR)
    return {(split, lang): captions(lang, FLICKR) for split in ("train", "valid") for lang in ("en", "de")}


def multi30k_coco(write):
    for lang in ("en", "de", "fr"):
        write.lines(f"raw/test_2017_mscoco.{lang}.gz", [text for _, text in captions(lang, COCO)])
    write.lines("image_splits/test_2017_mscoco.txt", [f"{name}#{367178 + n}" for n, name in enumerate(COCO)])
    write.pictures("coco", IN_COCO)
    return {("test", lang): captions(lang, IN_COCO) for lang in ("en", "de", "fr")}


def xtd10(write):
    for lang, folder in zip(XTD10, ["MIC"] * 3 + ["STAIR"] + ["XTD10"] * 7):
        suffix = "jp" if lang == "ja" else lang
        write.lines(f"{folder}/test_1kcaptions_{suffix}.txt", [text for _, text in captions(lang, COCO)])
    write.lines("XTD10/test_image_names.txt", COCO)
    write.pictures("coco", IN_COCO)
    return {("test", lang): captions(lang, IN_COCO) for lang in XTD10}


def xtd10_lilt(write):
    read = xtd10(write)
    write.pictures("coco2014", IN_COCO)
    return {("test", lang): read["test", lang][::2] for lang in XTD10[4:]}


def albef(write):
    names = [f"{write.folder}/coco/{name}" for name in FLICKR]
    rows = [
        {"image": name, "image_id": f"coco_{n}", "caption": text}
        for n, (name, text) in enumerate(captions("en", names))
    ]
    write.json("coco.json", rows[:3])
    write.json("vg.json", [{"image": row["image"], "caption": [row["caption"], "More."]} for row in rows[3:]])
    write.pictures("coco", FLICKR)
    read = [(name.lstrip("/"), text) for name, text in captions("en", names)]
    return {("train", "en"): read[:3] + [pair for name, text in read[3:] for pair in ((name, text), (name, "More."))]}


def albef_test(write):
    rows = [{"image": name, "caption": [text, f"{text} ..."]} for name, text in captions("en", FLICKR)]
    write.json("flickr30k_test.json", rows)
    write.pictures("flickr30k", FLICKR)
    return {("test", "en"): [(row["image"], text) for row in rows for text in row["caption"]]}


def vizwiz(write):
    names = [f"VizWiz_val_{n:08d}.jpg" for n in range(6)]
    images = [
        {"file_name": name, "id": n, "vizwiz_url": URLS[n], "text_detected": False} for n, name in enumerate(names)
    ]
    texts = [(n, text) for n in range(6) for text in (f"Earlier {n}", caption("en", n))]
    annotations = [
        {"caption": text, "image_id": n, "is_precanned": False, "is_rejected": False, "id": number}
        for number, (n, text) in enumerate(texts)
    ]
    write.json("annotations/val.json", {"info": {}, "images": images, "annotations": annotations})
    write.pictures("vizwiz/val", names)
    return {("test", "en"): captions("en", names)}


def concadia(write):
    images = [
        {
            "filename": name,
            "split": "test" if n % 2 else "train",
            "description": {"raw": text, "tokens": ["a"], "desc_id": n},
            "caption": {"raw": "Rome", "tokens": ["rome"], "caption_id": n},
            "context": {"raw": "Rome is ..."},
        }
        for n, (name, text) in enumerate(captions("en", FLICKR))
    ]
    write.json("wiki_split.json", {"images": images})
    write.pictures("concadia/resized", FLICKR)
    return {("test", "en"): captions("en", FLICKR)[1::2]}


def winoground(write):
    names = [f"ex_{n // 2}_img_{n % 2}" for n in range(6)]
    lines = [
        {
            "id": n,
            **{f"image_{k}": names[2 * n + k] for k in (0, 1)},
            **{f"caption_{k}": caption("en", 2 * n + k) for k in (0, 1)},
        }
        for n in range(3)
    ]
    write.lines("annotations.jsonl", map(json.dumps, lines))
    write.pictures("winoground/images", [f"{name}.png" for name in names])
    return {("test", "en"): captions("en", [f"{name}.png" for name in names])}


def xm3600(write):
    keys = [f"0004{n}1001ff7dd4f" for n in range(6)]
    rows = []
    for n, key in enumerate(keys):
        entries = {lang: [caption(lang, n), f"{caption(lang, n)} ..."] for lang in ("ar", "en", "zh")}
        texts = {lang: {"caption": given, "caption/tokenized": ["x y"] * 2} for lang, given in entries.items()}
        rows.append({"image/key": key, "image/locale": "ar", **texts})
    write.lines("captions.jsonl", map(json.dumps, rows))
    write.pictures("images", [f"{key}.jpg" for key in keys])
    names = [f"{key}.jpg" for key in keys]
    return {
        ("test", lang): [(name, text + more) for name, text in captions(lang, names) for more in ("", " ...")]
        for lang in ("en", "zh")
    }


def xflickrco(write):
    images = [*FLICKR[:3], *COCO[3:]]
    for lang in ("de", "ja"):
        lines = [{"sentences": [text], "id": image[:-4], "img_path": image} for image, text in captions(lang, images)]
        write.lines(f"annotations/{lang}/test.jsonl", map(json.dumps, lines))
    write.pictures("images", images)
    return {("test", lang): captions(lang, images) for lang in ("de", "ja")}


def wit_iglue(write):
    for lang in ("bg", "da"):
        lines = [
            {
                "image_idx": n,
                "image_url": url,
                "meta_url": f"http://commons.example.org/{n}.jpg",
                "caption_reference_description": text,
                "language": lang,
                "page_url": f"https://{lang}.example.org/wiki/{n}",
                "wit_ix": f"wit-test_{n}",
            }
            for n, (url, text) in enumerate(captions(lang, URLS))
        ]
        write.lines(f"annotations/test_{lang}.jsonl", map(json.dumps, lines))
    write.features("wit", URLS)
    return {("test", lang): captions(lang, URLS) for lang in ("bg", "da")}


def wit(write):
    header = "language page_url image_url page_title section_title caption_reference_description mime_type"
    lines = [header.split()]
    for lang in ("en", "de"):
        pages = [f"https://{lang}.example.org/wiki/{n}" for n in range(6)]
        lines += [
            [lang, pages[n], url, "Dog", "", text, "image/jpeg"] for n, (url, text) in enumerate(captions(lang, URLS))
        ]
    write.lines("wit_v1.val.all-00000-of-00005.tsv.gz", ["\t".join(line) for line in lines])
    write.features("wit", URLS)
    return {("train", lang): captions(lang, URLS) for lang in ("en", "de")}


def cc3m(write):
    write.lines("Train_GCC-training.tsv", [f"{text}\t{url}" for url, text in captions("en", URLS)])
    write.features("cc3m", URLS)
    return {("train", "en"): captions("en", URLS)}


def triplets(write):
    for lang in ("en", "de"):
        lines = [f"{image}\t{caption('en', n)}\t{text}" for n, (image, text) in enumerate(captions(lang, FLICKR))]
        write.lines(f"train.vision-en-{lang}.tsv.gz", lines)
    return {("train", lang): captions(lang, FLICKR) for lang in ("en", "de")}


DATA_SETS = {
    "Flickr30k, Flickr8k (Karpathy)": karpathy_flickr,
    "MS-COCO (Karpathy)": karpathy_coco,
    "MS-COCO, STAIR": stair,
    "COCO-CN": coco_cn,
    "YJCaptions": yjcaptions,
    "Flickr30k, Flickr8k (tokens)": tokens,
    "Flickr8k, Flickr30k (Kaggle)": kaggle,
    "Flickr8k-CN": flickr8k_cn,
    "Multi30k, training": multi30k,
    "Multi30k, 2017 COCO": multi30k_coco,
    "XTD10": xtd10,
    "XTD10, as LilT": xtd10_lilt,
    "LilT's pre-training (ALBEF's JSON)": albef,
    "LilT's retrieval files: Flickr30k, COCO, CC3M, FashionGen": albef_test,
    "VizWiz": vizwiz,
    "Concadia": concadia,
    "Winoground": winoground,
    "XM3600": xm3600,
    "xFlickr&CO": xflickrco,
    "WIT (IGLUE)": wit_iglue,
    "WIT": wit,
    "CC3M": cc3m,
    "CLL-CLIP's triplets": triplets,
}


def test_every_row_of_the_table_is_here():
    assert rows().keys() == DATA_SETS.keys()


@pytest.fixture
def encoder(monkeypatch):
    """Every checkpoint is this model, which needs the files of its images to be there."""

    def image_files(root, names, *_):
        assert all((Path(root) / name).is_file() for name in names)
        return names

    model = SimpleNamespace(
        encode_texts=lambda captions, lang=None: np.ones((len(captions), 8)),
        encode_features=lambda features: np.asarray(features),
        image_files=image_files,
        encode_image_dataset=lambda images, names, *_: np.eye(len(names), 8),
        max_length=77,
        network=SimpleNamespace(preprocess=None),
        tokenizer=SimpleNamespace(name="clip-bpe"),
        fingerprint="sha",
    )
    monkeypatch.setattr(Encoder, "load", lambda path, **options: model)


def evaluated(arguments):
    """What an evaluation reads; the command itself must run to its end."""
    evaluate.main(arguments)
    name, rest = evaluate.chosen(arguments)
    kind = EVALUATORS[name]
    tables = kind(options_from(kind.Options, evaluate.build_parser(name).parse_args(rest))).read()
    assert not any(table.problems for table in tables.values())
    return {
        ("test", lang): list(zip([table.images[row] for row in table.image_rows], table.captions))
        for lang, table in tables.items()
    }


def prepared(arguments):
    prepare.main([*arguments, "--bpe-size", "300"])
    corpus = Corpus(arguments[0])
    read = {}
    for split, summary in corpus.manifest["splits"].items():
        assert not any(summary["problems"].values())
        images = corpus.images(split)
        for lang in summary["captions"]:
            names = [images[row] for row in corpus.rows(split, lang)[:, 0]]
            read[split, lang] = list(zip(names, corpus.captions(split, lang)))
    return read


def test_xtd10_as_the_example_has_it(tmp_path, monkeypatch, encoder):
    """Languages in several folders, pictures in two of COCO's."""
    page = (PAGE.parents[1] / "examples" / "mclip" / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in page.splitlines() if line.startswith("mlvl-evaluate") and "XTD10/" in line]
    write = Files(tmp_path)
    xtd10(write)
    for folder, languages in (("XTD10", "es it ru zh"), ("MIC", "de fr")):
        for lang in languages.split():
            write.lines(f"{folder}/test_1kcaptions_{lang}.txt", [text for _, text in captions(lang, COCO)])
    monkeypatch.chdir(tmp_path)
    read = {key: pairs for line in lines for key, pairs in evaluated(shlex.split(line)[1:]).items()}
    assert read == {("test", lang): captions(lang, IN_COCO) for lang in ("es", "it", "ru", "zh", "de", "fr")}


@pytest.mark.parametrize("name", DATA_SETS)
def test_published_files_are_read_by_the_command(name, tmp_path, monkeypatch, encoder):
    wanted = DATA_SETS[name](Files(tmp_path))
    monkeypatch.chdir(tmp_path)
    command, *arguments = shlex.split(rows()[name])
    read = {"mlvl-evaluate": evaluated, "mlvl-prepare": prepared}[command](arguments)
    assert read == wanted
