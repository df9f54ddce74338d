"""The table of methods and the orders of languages."""

import json
import random

import pytest
import yaml
from golden import FIXTURES

from mlvl_fairseq.cli.cll import build_parser
from mlvl_fairseq.cli.common import ORDERS, language_order
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
    rows = methods._rows()
    hidden = {name for name, row in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items() if row.get("hidden")}
    assert hidden and list_methods().keys() == rows.keys() - hidden
    assert all(list_methods().values())
    for name in [*hidden, "CLL-CLIP", ""]:
        with pytest.raises(UserError, match=f"no method '{name}': .*mlvl-cll --list-methods"):
            method_options(name)


def test_rows_are_those_of_earlier_versions():
    """Names, options, descriptions, published names: the table of the last version that had every variant typed."""
    earlier = json.loads((FIXTURES / "methods_53e6f82.json").read_text(encoding="utf-8"))
    published = {ours: theirs for theirs, ours in methods.published_names().items()}
    assert len(earlier) == 53
    for name, row in earlier.items():
        assert {preset: method_options(name, preset) for preset in PRESETS} == {p: row[p] for p in PRESETS}, name
        assert method_protocol(name) == row["protocol"] and list_methods()[name] == row["about"], name
        assert published.get(name) == row.get("published_as"), name
    now = [name for name in list_methods() if name in earlier]
    assert now == list(earlier)


def test_a_row_with_a_title_has_every_variant():
    table = {
        "cll_clip": {"about": "x", "published_as": "CLL"},
        "cll_clip_with_a": {"about": "x", "variant": "with A", "published_as": "CLL_A", "seed": 1},
        "cll_clip_with_b": {"about": "x", "variant": "by B", "seed": 2},
        "plain": {"about": "x", "lr": 1},
        "family": {"about": "x", "title": "Family", "published_as": "FAM", "lr": 2},
        "other": {"about": "x", "title": "Other"},
    }
    rows = methods.with_variants(table)
    assert list(rows) == [
        *list(table)[:4], "family", "family_with_a", "family_with_b", "other", "other_with_a", "other_with_b"
    ]  # fmt: skip
    inherits = {"inherit_from": ["family", "cll_clip_with_a"]}
    assert rows["family_with_a"] == {"about": "Family with A", "published_as": "FAM_A", **inherits}
    assert rows["family_with_b"]["about"] == "Family by B"
    assert not any("published_as" in rows[name] for name in ("family_with_b", "other_with_a", "other_with_b"))


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
    rows, published = methods._rows(), methods.published_names()
    assert len(published) == sum("published_as" in row for row in rows.values()) and not published.keys() & rows.keys()
    for theirs, ours in published.items():
        assert not rows[ours].get("hidden") and method_options(theirs) == method_options(ours)
        assert method_protocol(theirs) == method_protocol(ours) and method_name(theirs) == ours
    assert method_options("DER_with_TEIR") == {**TEIR, "memory_size": 8000, "memory_label": "student"}


def test_methods_joined_by_plus_work_together():
    joined = method_options("er+oEWC+cll_clip_with_teir_update")
    assert method_name("er+oEWC") == method_name("oewc+er") == "er+oewc"
    assert joined == {"memory_size": 8000, "ewc_scale": 1000, **TEIR, "row_scale_on": "update"}
    assert method_protocol("joint+cll_clip_with_teir") == "joint" and method_protocol("er+si") == "sequence"
    for wrong in ("er+", "+er", "er+nothing", "er+teir_initialisation"):
        with pytest.raises(UserError, match="no method '.*': .*--list-methods"):
            method_options(wrong)


@pytest.mark.parametrize(
    "name, close", [("owec", "oewc"), ("ER-ACE", "er_ace"), ("cll_clip_with_tier", "cll_clip_with_teir")]
)
def test_names_that_are_close_are_told(name, close):
    with pytest.raises(UserError, match=f"no method '{name}': did you mean (.* or )?{close}( or .*)?\\? mlvl-cll"):
        method_options(name)
    with pytest.raises(UserError, match="no method 'zzz': mlvl-cll --list-methods"):
        method_options("zzz")


@pytest.mark.parametrize(
    "joined, message",
    [
        ("lora+mla", r"lora\+mla: mla needs --adapter bottleneck, another of them lora"),
        ("er+si+der", "er adds nothing to the others"),
        ("er+er", r"er\+er: er is there more than once"),
        ("oewc+er+oEWC", "oewc is there more than once"),
        ("derpp+er_ace", r"derpp\+er_ace: er_ace needs --"),
        ("der+er_ace", r"er_ace needs --memory-label teacher, another of them student"),
        ("ablation_grad+cll_clip_with_teir", "cll_clip_with_teir needs --regularize grad_decay, another of them grad"),
    ],
)
def test_methods_that_contradict_each_other_are_refused(joined, message):
    for function in (method_options, method_name):
        with pytest.raises(UserError, match=message):
            function(joined)


def test_the_default_method_is_told_in_the_readme(root):
    method = build_parser().get_default("method")
    assert method_options(method)["grad_scale_type"] == "usage_share"
    assert f"Without `--method` it is `{method}`" in (root / "README.md").read_text(encoding="utf-8")


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
    assert {method_protocol(name) for name in list_methods()} <= PROTOCOLS.keys()
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
