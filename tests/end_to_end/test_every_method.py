"""Every row of the table of methods: it runs over two languages, its TEIR variants are made of it, it is documented."""

import re

import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.continual.methods import list_methods, method_options, method_protocol
from mlvl_fairseq.runs.protocols import PROTOCOLS

VARIANT = re.compile("_with_(teir|teir_update)$")
BASE = [name for name in list_methods() if name.startswith("cll_clip") or not VARIANT.search(name)]
VARIANTS = [name for name in list_methods() if name not in BASE]
# These leave out a part of TEIR or of the loss; which part is tested beside the table.
PARTS = re.compile("ablation_(?!train_all)")
COMPOSED = "er+oewc+cll_clip_with_teir_update"
# What a method adds to the loss of the second language.
TERMS = {
    "oewc": {"oewc"}, "si": {"si"}, "mas": {"mas"}, "lwf": {"lwf"}, "er": {"replay"}, "der": {"replay"},
    "er_herding": {"replay"}, "er_gdumb": {"replay"}, COMPOSED: {"replay", "oewc"},
    "dualprompt": {"auxiliary"},
}  # fmt: skip


def logged_losses(state):
    """The losses that training has logged, by name: their mean."""
    meters = {name: meter for _, name, _, meter in state["extra_state"]["metrics"]["train"]}
    usual = {"loss", "cross_lingual", "cross_modal"}
    names = usual | {name for names in TERMS.values() for name in names}
    return {name: float(meters[name]["sum"] / meters[name]["count"]) for name in names & meters.keys()}


@pytest.mark.parametrize("method", [*(name for name in BASE if not PARTS.match(name)), COMPOSED])
def test_it_learns_two_languages(method, learn, read_json, tmp_path):
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
        always = {"loss", "cross_lingual", "cross_modal"} | (TERMS.get(method, set()) & {"auxiliary"})
        assert losses.keys() == (always | TERMS.get(method, set()) if step.learned else always)
        assert all(value > 0 for value in losses.values())
    remembers = {name.split(".")[1] for name in state["model"] if name.startswith("continual.")}
    assert remembers == set(method.split("+")) & {"oewc", "si", "mas", "lwf"} | replays(method)


def replays(method):
    return {"replay"} if method_options(method).get("memory_size") else set()


@pytest.mark.parametrize("preset", ["default", "reference"])
@pytest.mark.parametrize("method", VARIANTS)
def test_variants_are_the_method_and_teir(method, preset):
    base, teir = VARIANT.sub("", method), "cll_clip" + VARIANT.search(method).group()
    assert method_options(method, preset) == {**method_options(base, preset), **method_options(teir, preset)}
    assert not method_options(base, preset).keys() & method_options(teir, preset).keys()
    assert method_protocol(method) == method_protocol(base)


def test_every_method_is_documented(root):
    text = (root / "docs" / "methods.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z0-9_]+)`", text))
    suffixes = {f"_with_{kind}" for kind in ("teir", "teir_update")}
    missing = [name for name in BASE if name not in documented]
    assert not missing, f"docs/methods.md does not name {', '.join(missing)}"
    assert suffixes <= set(re.findall(r"(_with_teir_update|_with_teir)\b", text)), "docs/methods.md names no variants"
