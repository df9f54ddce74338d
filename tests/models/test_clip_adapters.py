"""A `ClipModel` with an adapter: what trains, which language is meant, and where adapters have no place."""

from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask

SIZE = 60
TOKENS, ENDS = torch.tensor([[1, 5, 9, 59], [1, 7, 59, 59], [1, 4, 8, 59]]), torch.tensor([3, 2, 3])


def task(learned, current):
    return SimpleNamespace(
        source_dictionary=range(SIZE), trains_image_tower=False, image_feature_dim=0, growth=GrowthOptions(),
        default_freeze=CllRetrievalTask.default_freeze, learned=learned, current=current,
        languages=[*learned, *current], position=len(learned), seed_for=lambda purpose: purpose,
        tokenizer=ClipTokenizer(clip_vocabulary()),
    )  # fmt: skip


def build(adapter, learned=("en",), current=("de",), **options):
    dimensions = {"embed_dim": 32, "text_width": 32, "text_heads": 2, "text_layers": 2, "context_length": 10}
    config = ClipConfig(adapter=adapter, **dimensions, **options)
    model = ClipModel.build_model(config, task([*learned], [*current]))
    with torch.no_grad():
        for parameter in model.adapter.parameters() if model.adapter else ():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", ["bottleneck", "prefix", "lora", "dual_prompt", "coda_prompt"])
def test_token_embedding_and_the_new_language_s_part_train(kind):
    model = build(kind)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    new = {f"adapter.parts.1.{name}" for name, _ in model.adapter.parts[1].named_parameters()}
    assert trained - {"adapter.shared"} == {"text.token_embedding.weight"} | new
    assert not any(name.startswith("adapter.") for name in model.frozen_names)  # all of it is saved


def test_no_adapter_unless_asked_for():
    model = build("none")
    assert model.adapter is None and not any(name.startswith("adapter.") for name in model.state_dict())


def test_the_current_language_is_meant_unless_another_is_named():
    model = build("lora").eval()
    german, english = model(TOKENS, ENDS, lang="de")["text"], model(TOKENS, ENDS, lang="en")["text"]
    assert torch.equal(model(TOKENS, ENDS)["text"], german) and not torch.allclose(english, german, atol=1e-3)


def test_pull_loss_is_given_to_the_criterion_in_training():
    model = build("dual_prompt", dual_pull=2.0).train()
    loss = model(TOKENS, ENDS)["auxiliary_loss"]
    query = model.text(TOKENS, ENDS)
    cosine = torch.cosine_similarity(query[:, None], model.adapter.parts[1].keys, dim=-1)  # one E-layer of two
    torch.testing.assert_close(loss, 2 * (1 - cosine).mean(), rtol=1e-5, atol=1e-6)
    assert model.eval()(TOKENS, ENDS).keys() == {"text"}
    assert build("coda_prompt").train()(TOKENS, ENDS).keys() == {"text"}


def test_seeds_are_a_language_s_own():
    purposes = []
    for learned in ([], ["en"]):
        place = task(learned, ["de"])
        place.seed_for = lambda purpose: purposes.append(purpose) or purpose
        ClipModel.build_model(ClipConfig(adapter="lora"), place)
    assert len(set(purposes)) == 2 and not {0, 1} & set(purposes)  # those draw embedding rows


def test_several_languages_at_once_have_no_adapter():
    with pytest.raises(UserError, match="--adapter lora is for languages that are learned one after another"):
        build("lora", [], ["en", "de"])


def test_other_tasks_have_no_languages():
    place = task([], ["en"])
    del place.current
    with pytest.raises(UserError, match=r"learned one after another \(cll_retrieval\)"):
        ClipModel.build_model(ClipConfig(adapter="prefix"), place)
