"""Fine-tuned checkpoints with the names of CCLM's published code become ours, and compute the same."""

import pytest
import torch
from golden import assert_golden
from golden_cclm_tuned import TABLE, inputs, published_tuned

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.networks.cclm_import import convert_cclm

CLASSES = {"xvnli": ["contradiction", "entailment", "neutral"], "nlvr": ["False", "True"]}


@pytest.fixture(scope="module")
def convert(sentencepiece, tmp_path_factory):
    def convert(tensors, **said):
        folder = tmp_path_factory.mktemp("tuned")
        torch.save({"model": tensors, "config": {"image_res": 64, "embed_dim": 16, **said}}, folder / "tuned.th")
        return convert_cclm(folder / "tuned.th", folder, sentencepiece, text_heads=4)

    return convert


@pytest.mark.parametrize("kind, images", [("xvnli", 1), ("nlvr", 2)])
def test_a_fine_tuned_classifier(convert, kind, images):
    path = convert(published_tuned(kind))
    network = Encoder.load(path).network
    logits = network(**inputs(kind), head="labels")["logits"]
    assert_golden(logits, TABLE[kind]["logits"], atol=2e-6)
    assert network.fusion.views == images and network.itm_head is None and network.temp is None
    assert torch.load(path, weights_only=True)["task_state"]["classes"] == CLASSES[kind]


def test_a_model_of_which_image_it_is(convert):
    tensors = published_tuned("nlvr_domain")
    network = Encoder.load(convert(tensors)).network
    for name in ("ta_head.weight", "vision_proj.bias"):
        assert torch.equal(network.get_parameter(name), tensors[name])
    assert not network.vision_proj.weight.requires_grad and network.fusion.views == 2
    assert not hasattr(network.text_proj, "weight") and network.cls_head is None


def test_a_fine_tuned_decoder(convert):
    network, given = Encoder.load(convert(published_tuned("vqa"))).network, inputs("vqa")
    with torch.no_grad():
        text = network.encode_text(given["tokens"], given["eos_positions"])
        question = network.question(text, network.encode_image(given["images"]))
    candidates = [[piece for piece in answer if piece != 1] for answer in TABLE["vqa"]["candidates"]]
    found = network.rank_answers(question, AnswerTree(candidates), 14, first_twice=True)
    assert found.answers.tolist() == TABLE["vqa"]["topk_ids_k14"]
    assert_golden(found.scores.softmax(1), TABLE["vqa"]["topk_probs_k14"], atol=1e-12)
    assert len(network.text_decoder.layer) == 6 and network.cls_head is None


@pytest.mark.parametrize(
    "kind, said, words, length",
    [
        ("xvnli", {}, 80, 70),
        ("xvnli", {"max_tokens": 60}, 80, 60),
        ("nlvr", {"max_tokens": 40}, 30, 70),
        ("vqa", {"max_tokens": 40}, 50, 70),
    ],
)
def test_texts_are_cut_as_in_the_published_evaluation(convert, kind, said, words, length):
    """The text tower has 70 positions; statements and questions are not cut to tokens."""
    encoder = Encoder.load(convert(published_tuned(kind), **said))
    assert (encoder.tokenizer.max_words, encoder.max_length) == (words, length)
    assert encoder.tokenizer.cleaning == ("cclm_question" if kind == "vqa" else "cclm")


@pytest.mark.parametrize(
    "kind, name, message",
    [
        ("xvnli", "cls_head.3.weight", "field 'cls_head.3.weight'|num-labels is 0"),
        ("vqa", "text_decoder.bert.embeddings.LayerNorm.bias", "field 'text_decoder.embeddings.LayerNorm.bias'"),
        ("vqa", "text_decoder.bert.encoder.layer.2.output.dense.bias", "field 'text_decoder.layer.2.output.dense.bias"),
    ],
)
def test_what_is_missing_is_named(convert, kind, name, message):
    tensors = published_tuned(kind)
    del tensors[name]
    with pytest.raises(DataError, match=message):
        convert(tensors)


def test_a_decoder_that_is_not_tied_to_its_words(convert):
    tensors = published_tuned("vqa")
    tensors["text_decoder.cls.predictions.decoder.weight"][3, 1] += 1
    with pytest.raises(DataError, match="text_decoder.cls.predictions.decoder.weight': is not tied to text_decoder"):
        convert(tensors)
