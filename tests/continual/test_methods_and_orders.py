"""The table of methods and the orders of languages."""

import random

import pytest
import yaml

from mlvl_fairseq.continual import methods
from mlvl_fairseq.continual.methods import (
    PRESETS,
    TABLE,
    as_arguments,
    list_methods,
    method_name,
    method_options,
    method_protocol,
)
from mlvl_fairseq.continual.orders import ORDERS, language_order
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world import language_codes
from mlvl_fairseq.runs.protocols import PROTOCOLS

TEIR = {
    "new_row_std": -1,
    "regularize": "grad_decay",
    "grad_scale_type": "current_reciprocal",
    "weight_decay_scale_type": "current_reciprocal",
}


def without(options, name):
    return {key: value for key, value in options.items() if key != name}


def test_published_rows():
    assert method_options("cll_clip") == {}
    assert method_options("cll_clip_with_teir") == TEIR
    assert method_options("cll_clip_with_teir_update") == {**TEIR, "row_scale_on": "update"}
    assert method_options("ablation_init") == {"new_row_std": -1}
    assert method_options("ablation_grad") == {**without(TEIR, "new_row_std"), "regularize": "grad"}
    assert method_options("ablation_decay") == {**without(TEIR, "new_row_std"), "regularize": "decay"}
    assert method_options("ablation_grad_decay") == without(TEIR, "new_row_std")
    only_image = method_options("ablation_only_cross_modal")
    assert (only_image["cross_lingual_scale"], only_image["cross_modal_scale"]) == (0, 1)
    assert method_options("ablation_train_all")["freeze"] == ""


def test_every_row_is_made_of_options_that_fairseq_train_knows():
    from mlvl_fairseq.criterions.cll_clip import CllClipCriterionConfig
    from mlvl_fairseq.models.clip import ClipConfig
    from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig

    configs = (CllRetrievalConfig, CllClipCriterionConfig, ClipConfig)
    known = {name for config in configs for name in config.__dataclass_fields__}
    for name in list_methods():
        for preset in PRESETS:
            assert method_options(name, preset).keys() <= known, name


def test_parts_of_methods_are_not_listed_but_described():
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    hidden = {name for name, row in rows.items() if row.get("hidden")}
    assert hidden and list_methods().keys() == rows.keys() - hidden
    assert all(list_methods().values())
    for name in [*hidden, "CLL-CLIP", ""]:
        with pytest.raises(UserError, match=f"no method '{name}': .*mlvl-cll --list-methods"):
            method_options(name)


def test_later_parents_and_own_options_win(monkeypatch):
    table = {
        "first": {"about": "x", "lr": 1, "seed": 1},
        "second": {"about": "x", "hidden": True, "lr": 2, "freeze": "a"},
        "child": {"about": "x", "inherit_from": ["first", "second"], "freeze": "b"},
        "grandchild": {"about": "x", "inherit_from": "child", "seed": 3},
    }
    monkeypatch.setattr(methods, "_rows", lambda: table)
    assert method_options("grandchild") == {"lr": 2, "seed": 3, "freeze": "b"}


def test_published_names_are_understood():
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    published = {row["published_as"]: name for name, row in rows.items() if "published_as" in row}
    assert len(published) == sum("published_as" in row for row in rows.values()) and not published.keys() & rows.keys()
    for theirs, ours in published.items():
        assert not rows[ours].get("hidden") and method_options(theirs) == method_options(ours)
        assert method_protocol(theirs) == method_protocol(ours) and method_name(theirs) == ours
    assert method_options("DER_with_TEIR") == {**TEIR, "memory_size": 8000, "memory_label": "student"}


def test_methods_joined_by_plus_work_together():
    joined = method_options("er+oEWC+cll_clip_with_teir_update")
    assert method_name("er+oEWC") == "er+oewc"
    assert joined == {"memory_size": 8000, "ewc_scale": 1000, **TEIR, "row_scale_on": "update"}
    assert method_protocol("joint+cll_clip_with_teir") == "joint" and method_protocol("er+si") == "sequence"
    for wrong in ("er+", "+er", "er+nothing", "er+teir_initialisation"):
        with pytest.raises(UserError, match="no method '.*': .*--list-methods"):
            method_options(wrong)


@pytest.mark.parametrize(
    "joined, message",
    [
        ("lora+mla", r"lora\+mla: mla needs --adapter bottleneck, another of them lora"),
        ("er+si+der", "er adds nothing to the others"),
        ("ablation_grad+cll_clip_with_teir", "cll_clip_with_teir needs --regularize grad_decay, another of them grad"),
    ],
)
def test_methods_that_contradict_each_other_are_refused(joined, message):
    with pytest.raises(UserError, match=message):
        method_options(joined)


def test_quirks_of_the_published_code_are_a_preset():
    assert method_options("er") == {"memory_size": 8000}
    quirks = {"memory_every_epoch": True, "memory_counts_as_use": True}
    assert method_options("er", "reference") == {"memory_size": 8000, **quirks}
    inherited = method_options("der_with_teir", "reference")
    assert inherited == {"memory_size": 8000, "memory_label": "student", **quirks, **TEIR}
    assert method_options("cll_clip_with_teir", "reference") == TEIR
    with pytest.raises(UserError, match="no preset 'fast'; there are: default, reference"):
        method_options("er", "fast")


def test_protocols_of_methods_are_registered_and_no_training_option():
    assert {method_protocol(name) for name in list_methods()} == {"sequence", "joint", "single"} == PROTOCOLS.keys()
    assert all("protocol" not in method_options(name) for name in list_methods())
    assert method_options("joint") == {"oracle_languages": "{languages}"}


def test_arguments_survive_minus_signs_and_empty_values():
    assert as_arguments({"new_row_std": -1, "freeze": ""}) == ["--new-row-std=-1", "--freeze="]


def test_arguments_of_flags_and_languages():
    options = {"memory_every_epoch": True, "update_all_rows": False, "oracle_languages": "{languages}"}
    assert as_arguments(options, languages="en,de") == ["--memory-every-epoch", "--oracle-languages=en,de"]


def test_published_orders():
    alphabetical = language_order("order1")
    assert alphabetical == sorted(alphabetical)
    shuffled = list(alphabetical)
    random.Random(222).shuffle(shuffled)
    shuffled.remove("en")
    assert language_order("order222") == ["en", *shuffled]


def test_order36_is_a_fixed_shuffle_of_the_picture_world():
    english, *others = language_codes()
    random.Random(36).shuffle(others)
    assert language_order("order36") == [english, *others]


def test_comma_lists():
    assert language_order(" en, de ,fr,") == ["en", "de", "fr"]
    assert language_order("en") == ["en"]


@pytest.mark.parametrize("text, message", [
    ("", "'' is no order: give order1, order222, order36 or languages as en,de,fr"),
    (" , ", "is no order"),
    ("en,de,en,fr,de", "de, en occurs more than once"),
])  # fmt: skip
def test_wrong_orders(text, message):
    with pytest.raises(UserError, match=message):
        language_order(text)


def test_orders_hold_every_language_once():
    assert all(len(set(order.split())) == len(order.split()) == 36 for order in ORDERS.values())
