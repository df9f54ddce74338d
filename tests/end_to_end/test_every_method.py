"""Every row of the table of methods: it runs over two languages, its variants are made of it, it is documented."""

import re

import pytest
import yaml
from method_rows import EVERYTHING, families_of, plugins_of

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.continual.methods import TABLE, list_methods, method_options, method_protocol
from mlvl_fairseq.continual.plugins import PLUGINS, ContinualPlugin
from mlvl_fairseq.runs.protocols import PROTOCOLS

WRITTEN = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
BASE = [name for name in list_methods() if name in WRITTEN]
VARIANTS = [name for name in list_methods() if name not in WRITTEN]
SUFFIXES = {name.removeprefix("cll_clip"): name for name, row in WRITTEN.items() if "variant" in row}
# These leave out a part of TEIR or of the loss; which part is tested beside the table.
PARTS = re.compile("ablation_(?!train_all)")
COMPOSED = "er+oewc+cll_clip_with_teir_update"
USUAL = {"loss", "cross_lingual", "cross_modal"}
# The names under which users know what these methods add to the loss of the second language.
TERMS = {
    "oewc": {"oewc"}, "si": {"si"}, "mas": {"mas"}, "lwf": {"lwf"}, "er": {"replay"}, "der": {"replay"},
    "er_herding": {"replay"}, "er_gdumb": {"replay"}, COMPOSED: {"replay", "oewc"}, "dualprompt": {"auxiliary"},
    "derpp": {"replay", "dark"},
}  # fmt: skip
STATISTICS = {"wps", "ups", "wpb", "bsz", "num_updates", "lr", "gnorm", "clip", "train_wall", "gb_free", "wall", "ppl"}


def logged_losses(state):
    """The losses that training has logged, by name: their mean."""
    meters = {name: meter for _, name, _, meter in state["extra_state"]["metrics"]["train"] if name not in STATISTICS}
    return {name: float(meter["sum"] / meter["count"]) for name, meter in meters.items() if "count" in meter}


@pytest.mark.parametrize("method", [*(name for name in BASE if not PARTS.match(name)), COMPOSED, EVERYTHING])
def test_it_learns_two_languages(method, learn, read_json, no_update_waits, tmp_path):
    run = learn(tmp_path / "run", method, "en,de", "--max-update", 2)
    steps = PROTOCOLS[method_protocol(method)].steps(["en", "de"])
    scored = {f"{step.name}/{lang}.test.json" for step in steps for lang in step.evaluated}
    assert {str(path.relative_to(run / "scores")) for path in run.glob("scores/*/*.json")} == scored
    assert all(0 <= read_json(run / "scores" / name)["r_mean"] <= 100 for name in scored)
    for step in steps:
        assert read_json(run / step.name / "done.json")["num_updates"] == 2 * len(step.current)
        state = load_checkpoint_file(run / step.name / "checkpoint_best.pt")
        assert all(value.isfinite().all() for value in state["model"].values() if value.is_floating_point())
        losses = logged_losses(state)
        assert losses.keys() >= USUAL and all(value > 0 for value in losses.values())
        check_terms(method, losses.keys() - USUAL, second=bool(step.learned))
    families, remembers = families_of(method), {n.split(".")[1] for n in state["model"] if n.startswith("continual.")}
    assert remembers <= families
    known = {"oewc", "si", "mas", "lwf", "replay"}  # a new method need not remember anything
    assert remembers & known == families & known


def check_terms(method, found, second):
    """Plugins add to the loss once there is a language to keep; adapters do from the first one on, or never."""
    if method in TERMS:
        assert found == (TERMS[method] if second else TERMS[method] & {"auxiliary"})
    else:
        adding = [name for name in plugins_of(method) if PLUGINS[name].losses is not ContinualPlugin.losses]
        assert len(found - {"auxiliary"}) >= len(adding) * second


@pytest.mark.parametrize("preset", ["default", "reference"])
@pytest.mark.parametrize("method", VARIANTS)
def test_variants_are_the_method_and_a_way_to_train_the_embedding(method, preset):
    (suffix,) = (suffix for suffix in SUFFIXES if method.endswith(suffix))
    base, teir = method.removesuffix(suffix), SUFFIXES[suffix]
    assert method_options(method, preset) == {**method_options(base, preset), **method_options(teir, preset)}
    assert not method_options(base, preset).keys() & method_options(teir, preset).keys()
    assert method_protocol(method) == method_protocol(base)


def test_every_family_has_its_variants():
    families = [name for name in BASE if plugins_of(name) or "adapter" in method_options(name)]
    assert set(VARIANTS) == {family + suffix for family in families for suffix in SUFFIXES}


def test_every_method_is_documented(root):
    """In docs/methods.md; where a file brings it, in that file; where it is a row of options only, in its `about`."""
    text = (root / "docs" / "methods.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z0-9_]+)`", text))
    documented |= {name for name in BASE if name in PLUGINS and PLUGINS[name].__doc__}
    documented |= {name for name in BASE if name not in PLUGINS and len(WRITTEN[name]["about"]) > 20}
    missing = [name for name in [*BASE, *SUFFIXES] if name not in documented]
    assert not missing, f"say what these are (docs/architecture.md, What is one file): {', '.join(missing)}"
