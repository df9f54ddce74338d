"""What the tests compose once is what Hydra composes."""

import contextlib

import pytest
from composing import Composer
from fairseq import options
from fairseq.dataclass import utils
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException

import mlvl_fairseq

mlvl_fairseq.register()
LINE = "data --task image_text_retrieval --arch clip_tiny_vit --criterion clip_contrastive".split()


def composed(**values):
    args = options.parse_args_and_arch(options.get_training_parser(), LINE)
    return utils.convert_namespace_to_omegaconf(type(args)(**{**vars(args), **values}))


@pytest.fixture
def composer(monkeypatch):
    """A new one in the place of fairseq's, which counts what it leaves to Hydra in `left`."""
    import hydra.experimental

    left = []

    def compose(*args, **kwargs):
        left.append(args)
        return hydra.experimental.compose(*args, **kwargs)

    monkeypatch.setattr(utils, "compose", Composer(compose))
    monkeypatch.setattr(utils, "initialize", lambda config_path: contextlib.nullcontext())
    return left


@pytest.fixture
def by_hydra(monkeypatch):
    """``by_hydra(...)`` is ``composed(...)`` as in a process of fairseq's."""
    import hydra.experimental

    def compose(**values):
        with monkeypatch.context() as patch:
            patch.setattr(utils, "compose", hydra.experimental.compose)
            patch.setattr(utils, "initialize", hydra.experimental.initialize)
            return composed(**values)

    return compose


OTHERS = [
    {},
    {"lr": [0.5, 0.1], "update_freq": [2]},
    {"save_dir": 'it\'s a=b, "c" {d}', "batch_size": None, "cpu": True},
    {"seed": 7, "embed_dim": 8, "clip_norm": 0.25},
    {"arch": "clip_tiny"},
    {"optimizer": "adam", "adam_betas": "(0.5, 0.6)"},
    {"optimizer": "adam", "lr_scheduler": "inverse_sqrt", "warmup_updates": 3},
    {"lr_scheduler": "inverse_sqrt", "warmup_init_lr": 0.5},  # both are known, not together
]


def test_other_values_are_those_of_hydra(composer, by_hydra):
    first = composed()
    for values in OTHERS:
        assert repr(composed(**values)) == repr(by_hydra(**values))
    assert repr(composed()) == repr(first)  # what was put in and taken since is not in it
    assert len(composer) == 3, "one for each component"


def test_a_configuration_is_nobody_else_s(composer):
    first = composed()
    first.optimization.lr[0] = 3.0
    assert composed().optimization.lr == [0.25]


def test_what_does_not_fit_is_told_as_by_hydra(composer, by_hydra):
    composed()
    with pytest.raises(HydraException) as expected:
        by_hydra(ddp_backend="none")
    with pytest.raises(HydraException) as told:
        composed(ddp_backend="none")
    assert str(told.value) == str(expected.value) and len(composer) == 2


def test_options_registered_anew_are_composed_anew(composer, monkeypatch):
    composed(), composed()
    assert len(composer) == 1
    task = ConfigStore.instance().repo["task"]
    again = type(task["image_text_retrieval.yaml"])(**vars(task["image_text_retrieval.yaml"]))
    monkeypatch.setitem(task, "image_text_retrieval.yaml", again)
    composed(), composed()
    assert len(composer) == 2
