"""Fine-tuned CCLMs against the published code's numbers: classes of texts beside one image and two, answers, which
image a text is about; and what they start from."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.dataclass import FairseqDataclass
from golden import assert_golden
from golden_cclm import our_name
from golden_cclm_tuned import TABLE, inputs, pictures, tuned_network

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.criterions.cclm_which_image import CclmWhichImageCriterion
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.cclm import CclmConfig, CclmModel
from mlvl_fairseq.modules import hard_negatives
from mlvl_fairseq.modules.answer_decoder import log_totals
from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.networks.cclm_heads.which_image import WhichImage, paired, weights_of
from mlvl_fairseq.networks.cclm_options import ARCHITECTURES
from mlvl_fairseq.networks.dual_encoder import TowerConfigs
from mlvl_fairseq.networks.freezing import Counts

LABELS = {"xvnli": {"num_labels": 3}, "nlvr": {"num_labels": 2, "images_per_text": 2}}
VQA = TABLE["vqa"]


@pytest.mark.parametrize("kind", LABELS)
def test_classes_have_the_published_logits(kind):
    network = tuned_network(kind, heads="labels", **LABELS[kind])
    logits = network(**inputs(kind), head="labels")["logits"]
    assert_golden(logits, TABLE[kind]["logits"], atol=2e-6)
    assert_golden(F.cross_entropy(logits, torch.tensor(TABLE[kind]["labels"])), TABLE[kind]["loss"])
    network.encode_chunk = 2
    assert_golden(network(**inputs(kind), head="labels")["logits"], TABLE[kind]["logits"], atol=2e-6)
    assert network.temp is None and network.match is None and network.embed_dim == network.text_encoder.width


def test_layers_of_two_images_share_their_maps_of_images():
    network = tuned_network("nlvr", heads="labels", **LABELS["nlvr"])
    assert len(network.text_encoder.encoder.layer) + len(network.fusion.layer) == TABLE["nlvr"]["layers"]
    assert len(network.fusion.layer) == len(TABLE["nlvr"]["crossed"])
    for one, two in zip(network.fusion.layer[::2], network.fusion.layer[1::2]):
        for name, (shared, _) in TABLE["nlvr"]["shared"].items():
            own, other = (layer.crossattention.self.get_submodule(name) for layer in (one, two))
            assert (own.weight is other.weight) == shared and torch.equal(own.weight, other.weight)
        assert one.intermediate.dense.weight is not two.intermediate.dense.weight


@pytest.fixture(scope="module")
def answering():
    network = tuned_network("vqa", heads="answers")
    given = inputs("vqa")
    with torch.no_grad():
        text, image = (
            network.encode_text(given["tokens"], given["eos_positions"]),
            network.encode_image(given["images"]),
        )
        return network, network.question(text, image)


def candidates():
    return [[piece for piece in answer if piece != 1] for answer in VQA["candidates"]]


@pytest.mark.parametrize("k, suffix", [(5, ""), (14, "_k14")])
def test_answers_are_ranked_as_published(answering, k, suffix):
    network, question = answering
    found = network.rank_answers(question, AnswerTree(candidates()), k, first_twice=True)
    assert found.answers.tolist() == VQA[f"topk_ids{suffix}"]
    assert_golden(found.scores.softmax(1), VQA[f"topk_probs{suffix}"], rtol=2e-5, atol=1e-12)


def told(answers):
    """Which positions of padded answers have something behind them."""
    return (answers[:, 1:] != 1).flatten().nonzero().squeeze(1)


def test_ranking_is_by_the_probability_of_the_whole_answer(answering, monkeypatch):
    """Computed answer by answer, without a tree; in small parts, too."""
    network, question = answering
    answers = torch.tensor(VQA["candidates"])
    with torch.no_grad():
        every = [
            network.text_decoder.log_likelihood(answers, told(answers), question[torch.full((14,), row)])
            for row in range(3)
        ]
    for limit in (128, 4):
        monkeypatch.setattr("mlvl_fairseq.modules.answer_decoder.AT_ONCE", limit)
        monkeypatch.setattr("mlvl_fairseq.modules.answer_decoder.CACHED", (limit // 2, 50))
        found = network.rank_answers(question, AnswerTree(candidates()), 99)
        for row, expected in enumerate(every):
            torch.testing.assert_close(found.scores[row], expected[found.answers[row]], rtol=2e-5, atol=2e-5)
            assert sorted(found.answers[row].tolist()) == list(range(14))
            assert found.scores[row].tolist() == sorted(found.scores[row].tolist(), reverse=True)


@pytest.mark.parametrize("answers", [[], [[0]], [[0, 5, 2], [0]], [[0, 5, 2], [1, 5, 2]]])
def test_what_is_no_list_of_answers_makes_no_tree(answers):
    with pytest.raises(ValueError, match="answers are <s> ... </s> with one <s>"):
        AnswerTree(answers)


@pytest.mark.parametrize("block", [(2, 3), (1, 7), (5, 100)])
def test_sums_over_all_words_do_not_need_all_logits(monkeypatch, block):
    """Of logits up to 300, whose exponentials no float holds; in half precision, too."""
    monkeypatch.setattr("mlvl_fairseq.modules.answer_decoder.CACHED", block)
    torch.manual_seed(0)
    hidden, words, bias = 10 * torch.randn(5, 8), 10 * torch.randn(17, 8), torch.randn(17)
    for kind, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        with torch.no_grad():
            found = log_totals(hidden.to(kind), words.to(kind), bias.to(kind))
        expected = (hidden.double() @ words.double().t() + bias.double()).logsumexp(1)
        assert expected.abs().max() > 300
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_questions_of_like_length_are_read_together(answering):
    network, question = answering
    given, rows = inputs("vqa"), torch.arange(3).repeat(16)
    text = network.encode_text(given["tokens"][rows], given["eos_positions"][rows])
    image = network.encode_image(given["images"])
    many = network.question(text, Encoded(image.vector[rows], image.states[rows]))
    assert torch.equal(many.mask, question.mask[rows])
    for every, few in zip(many.layers, question.layers):
        for one, other in zip(every, few):
            real = many.mask[:, None, :, None]
            torch.testing.assert_close(one * real, other[rows] * real, rtol=2e-5, atol=2e-5)


def test_answers_have_the_published_loss_and_gradients():
    network, answers = tuned_network("vqa", heads="answers"), torch.tensor(VQA["answers"])
    of = torch.arange(3).repeat_interleave(torch.tensor(VQA["answers_per_question"]))
    given = {"answers": answers, "answer_places": told(answers), "answer_of": of}
    likelihood = network(**inputs("vqa"), head="answers", **given)["answers"]
    loss = -(likelihood * torch.tensor(VQA["weights"])).sum() / 3
    assert_golden(loss, VQA["loss"])
    loss.backward()
    parameters = dict(network.named_parameters())
    for name, norm in VQA["grad_norms"].items():
        ours = our_name(name.replace("text_encoder.", "text_encoder.bert."))
        ours = ours.replace("text_decoder.bert.encoder.", "text_decoder.").replace(
            "text_decoder.cls.predictions.", "text_decoder.lm_head."
        )
        ours = ours.replace("lm_head.transform.", "lm_head.")
        assert_golden(parameters[ours].grad.norm(), norm, rtol=2e-4, atol=2e-6, msg=name)


def test_which_of_two_images_it_is(monkeypatch):
    monkeypatch.setattr(hard_negatives, "draw", lambda weights, generator=None: weights.argmax(1))
    golden = TABLE["nlvr_domain"]
    network = tuned_network("nlvr_domain", heads="which_image", images_per_text=2)
    drawn = {}

    def given(weights, neither, first, generator):
        drawn["weights"] = weights
        coins = [torch.tensor(coin).bool() for coin in ([0, 0, 1, 0], [1, 0, 1, 1])]  # as golden["rand_draws"] say
        return paired(weights, *coins, generator)

    monkeypatch.setattr("mlvl_fairseq.networks.cclm_heads.which_image.paired", given)
    criterion = CclmWhichImageCriterion(FairseqDataclass(), SimpleNamespace(streams=["image"]))
    batch = {"stream": "image", "nsentences": 4, "ntokens": 30}
    batch["net_input"] = {**inputs("nlvr_domain"), "ids": torch.arange(4)}
    loss, size, log = criterion(network, batch)
    assert_golden(loss / size, golden["loss"])
    counts = torch.tensor([True, True, False, True])
    parts = [criterion(network, {**batch, "counts": some})[0] for some in (counts, ~counts)]
    torch.testing.assert_close(sum(parts), log["loss"])
    assert min(parts) > 0
    with pytest.raises(UserError, match="a stream of kind text has no two images"):
        criterion(network, {**batch, "stream": "text"})
    found = network(**inputs("nlvr_domain"), head="which_image")
    assert_golden(drawn["weights"], golden["weights_rows"], atol=2e-7)
    assert found["labels"].tolist() == golden["labels"] and found["drawn"].all()
    assert_golden(F.cross_entropy(found["logits"], found["labels"]), golden["loss"])


def test_rows_of_one_thing_are_no_other_images():
    states, ids = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 3, 3, 5])
    weights = weights_of(states, ids)
    assert torch.equal(weights > 0, ids[:, None] != ids)
    found = paired(weights, torch.ones(4).bool(), torch.tensor([1, 0, 1, 0]).bool(), torch.Generator().manual_seed(1))
    assert found.images[:3].tolist() == [[0, 3], [3, 1], [2, 3]] and found.labels.tolist() == [0, 1, 0, 2]
    assert len(set(found.images[3].tolist())) == 2 and 3 not in found.images[3]
    assert found.found.all() and not paired(weights[:1, :1], *torch.ones(2, 1).bool(), None).found.any()


def test_the_published_size():
    config = CclmConfig(**{**ARCHITECTURES["cclm_base_384"], "image_size": 224, "image_window": 7, "heads": "labels"})
    config.num_labels = 3
    network = without_values(CclmModel.of_options, config, TowerConfigs.of_options(config))
    assert Counts.of(network).total == TABLE["counts"]["xvnli"]


def test_a_third_of_texts_is_about_each_image_and_a_third_about_neither():
    """4 standard deviations of 1,200 draws are 0.055."""
    torch.manual_seed(0)
    network = SimpleNamespace(ta_head=lambda states: states, first_states=lambda text, image: image.vector[::2])
    images = Encoded(torch.randn(1200, 2), torch.zeros(1200, 1, 2))
    found = WhichImage().run(network, Encoded(None, None, torch.ones(1200, 1)), images)
    shares = torch.bincount(found["labels"], minlength=3) / 1200
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.055) and found["drawn"].all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": "labels"}, "--heads labels has two classes at least, and --num-labels is 0"),
        ({"heads": "labels", "num_labels": 1}, "--heads labels has two classes at least, and --num-labels is 1"),
        ({"heads": "which_image"}, "--heads which_image needs --images-per-text 2"),
        ({"heads": "matching", "images_per_text": 2}, "--heads matching reads a text beside one image"),
        ({"heads": "answers", "decoder_layers": 0}, "--decoder-layers 0: a decoder has one at least"),
        ({"heads": "labels", "num_labels": 2, "images_per_text": -1}, "--images-per-text -1 is no number of images"),
        ({"heads": "answer"}, "there is no 'answer', there are matching, masked_lm, boxes, labels, answers"),
    ],
)
def test_heads_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        tuned_network("xvnli", **options)


def test_a_head_that_is_not_there():
    network = tuned_network("vqa", heads="answers")
    with pytest.raises(UserError, match="this CCLM has no head 'labels': train one with --heads labels"):
        network(**inputs("vqa"), head="labels")
    assert pictures("nlvr").shape == (3, 2, 3, 64, 64)
