"""`mlvl-evaluate rerank`: the published code's numbers, any k, images that cannot be used, and what the scores say."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_cclm_retrieval import golden_retrieval, golden_retrieval_network

from mlvl_fairseq.data.images.reading import LoadedImage
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators import base, rerank
from mlvl_fairseq.evaluation.evaluators.rerank import Rerank, RerankOptions
from mlvl_fairseq.evaluation.evaluators.retrieval import Retrieval, RetrievalOptions
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, scores_of_ranks
from mlvl_fairseq.evaluation.signature import parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.features import FeatureGridTower
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.runs.result_folder import scores_folder

TABLE, ARRAYS = golden_retrieval()
GOLDEN = TABLE["retrieval_eval"]
NAMES = [f"{row}.jpg" for row in range(5)]


@pytest.fixture(scope="module")
def network():
    return golden_retrieval_network(ARRAYS)


@pytest.fixture
def encoder(network, monkeypatch):
    """The golden network. A caption ends with the number of its row of ids; files are the golden images."""
    lengths = np.sum(GOLDEN["attention_mask"], axis=1)
    tokenizer = SimpleNamespace(pad=1, name="golden", of_language=lambda lang: tokenizer)
    rows = {f"caption number {row}": GOLDEN["input_ids"][row][: lengths[row]] for row in range(10)}
    tokenizer.tokenize = lambda captions, longest: [rows[caption] for caption in captions]
    model = Encoder(network, tokenizer, "sha", [], "cclm.pt")
    pictures = {name: LoadedImage(torch.from_numpy(image)) for name, image in zip(NAMES, ARRAYS["images"])}
    monkeypatch.setattr(Encoder, "image_files", lambda self, root, names, *_: [model.pictures[name] for name in names])
    model.pictures = pictures
    return model


@pytest.fixture
def captions(tmp_path):
    rows = [
        {"image": name, "caption": [f"caption number {2 * row + k}" for k in (0, 1)]} for row, name in enumerate(NAMES)
    ]
    for lang in ("en", "de"):
        (tmp_path / f"{lang}.json").write_text(json.dumps(rows))
    return {"captions": str(tmp_path / "{lang}.json"), "lang": ["en"], "image_root": str(tmp_path)}


def scored(encoder, evaluator, results=None):
    return base.evaluate(evaluator, encoder, evaluator.read(), results)


def test_golden_metrics(encoder, captions, tmp_path):
    """And beside the scores lie the ranks that give them."""
    evaluator = Rerank(RerankOptions(**captions, rerank_k=3, rest="reference"))
    with scores_folder(tmp_path / "scores", "rerank", "sha", evaluator.settings()) as results:
        scores = scored(encoder, evaluator, results)["en"]
    assert {name: scores[name] for name in METRICS} == pytest.approx({n: GOLDEN["metrics"][n] for n in METRICS})
    keys = parse_signature(scores["signature"])
    wanted = {"rerank": "3", "fusion": "cclm", "ties": "last", "rest": "reference", "images": "5", "texts": "10"}
    assert wanted.items() <= keys.items()
    ranks = QueryRanks.load(tmp_path / "scores" / "en.test.ranks.npz")
    assert scores_of_ranks(ranks.image_ranks, ranks.text_ranks, ranks.text_to_image) == {n: scores[n] for n in METRICS}


def test_golden_scores(encoder, captions, monkeypatch):
    """To 1e-5, of both directions."""
    seen = []
    monkeypatch.setattr(rerank, "reranked", lambda *given: seen.append(given) or (np.zeros(5, int), np.zeros(10, int)))
    scored(encoder, Rerank(RerankOptions(**captions, rerank_k=3)))
    ((candidates, image_scores, text_scores, text_to_image, *_),) = seen
    for rows, found, golden in zip(candidates, (image_scores, text_scores), (ARRAYS["score_i2t"], ARRAYS["score_t2i"])):
        assert found.shape == (len(golden), 3)
        np.testing.assert_allclose(found, np.take_along_axis(golden, rows, axis=1), rtol=0, atol=1e-5)
    assert text_to_image.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.fixture(scope="module")
def all_pairs(network):
    """[images, texts], pair by pair."""
    last = torch.tensor(GOLDEN["attention_mask"]).sum(1) - 1
    with torch.no_grad():
        images = network.encode_image(torch.from_numpy(ARRAYS["images"]))
        texts = network.encode_text(torch.tensor(GOLDEN["input_ids"]), last)
        one = lambda side, row: type(side)(*(None if part is None else part[row : row + 1] for part in side))  # noqa: E731
        pairs = [[network.match(one(images, i), one(texts, t)).item() for t in range(10)] for i in range(5)]
    return np.array(pairs)


def ranks_of_all(scores, owners):
    """By counting, of scores [images, texts] of which no two are equal."""
    texts = [min((row > row[t]).sum() for t in np.flatnonzero(owners == i)) for i, row in enumerate(scores)]
    return texts, [(scores[:, t] > scores[owners[t], t]).sum() for t in range(len(owners))]


@pytest.mark.parametrize("k, rest", [(10, "first-stage"), (1000, "first-stage"), (10, "reference")])
def test_with_all_candidates_the_order_is_that_of_the_fusion_encoder(encoder, captions, all_pairs, k, rest):
    evaluator = Rerank(RerankOptions(**captions, rerank_k=k, rest=rest))
    found = evaluator.score(encoder, "en", evaluator.read()["en"], evaluator.encode_images(encoder, NAMES))
    expected = ranks_of_all(all_pairs, np.arange(10) // 2)
    assert (found.ranks.image_ranks.tolist(), found.ranks.text_ranks.tolist()) == expected


def test_one_candidate_changes_nothing_and_first_is_plain_retrieval(encoder, captions):
    scores = scored(encoder, Rerank(RerankOptions(**captions, rerank_k=1)))["en"]
    plain = scored(encoder, Retrieval(RetrievalOptions(**captions)))["en"]
    for metric in METRICS:
        assert scores[metric] == scores[f"first_{metric}"] == plain[metric]
    two = {key: value for key, value in parse_signature(scores["signature"]).items() if key not in ("rerank", "fusion")}
    assert two == parse_signature(plain["signature"])


def test_images_that_cannot_be_used_are_counted_and_rows_stay_right(encoder, captions, all_pairs):
    """The second image is missing, with its two captions."""
    encoder.pictures["1.jpg"] = LoadedImage(None, "1.jpg: no such image")
    evaluator = Rerank(RerankOptions(**captions, rerank_k=8, bad_image="skip"))
    scores = scored(encoder, evaluator)["en"]
    assert scores["left_out"] == {"images": ["1.jpg"], "texts": 2}
    kept = np.delete(np.delete(all_pairs, 1, axis=0), [2, 3], axis=1)
    owners = np.arange(8) // 2
    image_ranks, text_ranks = (np.array(ranks) for ranks in ranks_of_all(kept, owners))
    assert {name: scores[name] for name in METRICS} == scores_of_ranks(image_ranks, text_ranks, owners)
    features = [np.delete(ARRAYS["image_feat"], 1, axis=0), np.delete(ARRAYS["text_feat"], [2, 3], axis=0)]
    first = scores_of_ranks(*retrieval_ranks(*features, owners), owners)
    assert {name: scores[f"first_{name}"] for name in METRICS} == first


def test_several_languages_share_images(encoder, captions, monkeypatch, caplog):
    """Their states, too, where there is room: here none is kept, each is encoded again for each language, and told."""
    encoded = []
    original = encoder.network.encode_image
    monkeypatch.setattr(encoder.network, "encode_image", lambda images: encoded.append(len(images)) or original(images))
    monkeypatch.setitem(captions, "lang", ["en", "de"])
    kept = scored(encoder, Rerank(RerankOptions(**captions, rerank_k=3)))
    assert sum(encoded) == 5
    caplog.set_level("INFO")
    encoded.clear()
    without_room = Rerank(RerankOptions(**captions, rerank_k=3))
    without_room.options.memory = 1e-4
    again = scored(encoder, without_room)
    assert sum(encoded) > 10 and "an image was encoded again, as --memory" in caplog.text
    for lang in ("en", "de"):
        assert again[lang] == kept[lang] and kept[lang]["r_mean"] == kept["en"]["r_mean"]


def test_a_model_without_a_fusion_encoder_is_told_before_images_are_read(encoder, captions):
    towers = encoder.network.visual_encoder, encoder.network.text_encoder
    encoder.network, encoder.pictures = DualEncoderNetwork(*towers, 16), None
    with pytest.raises(UserError, match="cclm.pt: this model has no fusion encoder"):
        scored(encoder, Rerank(RerankOptions(**captions)))


def grids_of(network, folder, captions, **options):
    """What the golden image tower gives, as a file in another order with one more row, in place of pictures."""
    with torch.no_grad():
        grids = network.visual_encoder(torch.from_numpy(ARRAYS["images"])).states.numpy()
    np.save(folder / "grids.npy", np.concatenate([np.zeros_like(grids[:1]), grids[::-1]]))
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in ["other.jpg", *NAMES[::-1]]))
    given = {"image_features": str(folder / "grids.npy"), "image_list": str(folder / "names.txt")}
    return Rerank(RerankOptions(**{**captions, "image_root": None, **given, **options})), grids.shape[1:]


def taking_grids(network, *shape):
    network = copy.deepcopy(network)
    network.visual_encoder = FeatureGridTower(*shape)
    network.keep_states()
    return network


@pytest.mark.parametrize("memory", [4096, 1e-4])
def test_given_grids_in_place_of_pictures(network, encoder, captions, tmp_path, memory):
    evaluator, shape = grids_of(network, tmp_path, captions, rerank_k=3, rest="reference", memory=memory)
    encoder.pictures, encoder.network = None, taking_grids(network, *shape)
    scores = scored(encoder, evaluator)["en"]
    assert {name: scores[name] for name in METRICS} == pytest.approx({n: GOLDEN["metrics"][n] for n in METRICS})


def test_features_that_do_not_fit_are_refused(network, encoder, captions, tmp_path):
    evaluator, shape = grids_of(network, tmp_path, captions)
    with pytest.raises(UserError, match=rf"grids.npy has grids of {shape[0]} x {shape[1]}, and cclm.pt takes no grids"):
        scored(encoder, evaluator)
    encoder.network = taking_grids(network, 7, shape[1])
    with pytest.raises(UserError, match=f"and cclm.pt takes grids of 7 x {shape[1]}"):
        scored(encoder, evaluator)
    np.save(tmp_path / "grids.npy", np.ones((6, 4), np.float32))
    with pytest.raises(UserError, match="a fusion encoder looks at the states of an image"):
        scored(encoder, evaluator)


def test_what_results_of_a_folder_share(captions):
    """Neither batches nor memory change a score."""
    options = {**captions, "batch_size": 3, "memory": 7}
    settings = Rerank(RerankOptions(**options)).settings()
    assert settings == {"split": "test", "rerank_k": 128, "image_root": captions["image_root"]}
    assert Rerank(RerankOptions(**options, rest="reference")).settings() == {**settings, "rest": "reference"}


@pytest.mark.parametrize("kind, options", [(Rerank, RerankOptions), (Retrieval, RetrievalOptions)])
def test_translations_are_read_as_english_and_words_are_cut(encoder, captions, kind, options):
    read, cut = [], []
    encoder.tokenizer.of_language = lambda lang: read.append(lang) or encoder.tokenizer
    encoder.tokenizer.of_words = lambda words: cut.append(words) or encoder.tokenizer
    given = {**captions, "lang": ["de"]}
    usual = parse_signature(scored(encoder, kind(options(**given)))["de"]["signature"])
    assert set(read) == {"de"} and not cut and "text" not in usual
    read.clear()
    translated = parse_signature(scored(encoder, kind(options(**given, gmt=True, max_words=9)))["de"]["signature"])
    assert set(read) == {"en"} and cut == [9]
    assert {**usual, "text": "mt-en"} == translated and translated["lang"] == "de"
    assert "gmt" not in kind(options(**given)).settings()
    assert {"gmt": True, "max_words": 9}.items() <= kind(options(**given, gmt=True, max_words=9)).settings().items()
