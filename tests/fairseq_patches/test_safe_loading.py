import argparse
import builtins
import copyreg
import importlib
import os
import pickle
import subprocess

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed_utils
from fairseq.logging.meters import AverageMeter, TimeMeter
from omegaconf import OmegaConf

from mlvl_fairseq.checkpoints.safe_loading import allowed_globals, allowed_globals_of_torch, load_checkpoint_file
from mlvl_fairseq.errors import DataError, UserError


def updates(path):
    return load_checkpoint_file(path)["optimizer_history"][-1]["num_updates"]


def test_stock_model_trains_resumes_generates(run_here, train_options, translation_data, user_dir, tmp_path, capsys):
    save = ["--save-dir", tmp_path]
    run_here("fairseq-train", *train_options, *save, "--max-epoch", 2)
    run_here("fairseq-train", *train_options, *save, "--max-epoch", 3)
    assert updates(tmp_path / "checkpoint2.pt") == 16  # 60 sentences in batches of 8
    assert updates(tmp_path / "checkpoint3.pt") == 24
    capsys.readouterr()
    options = ["--path", tmp_path / "checkpoint_best.pt", "--cpu", "--user-dir", user_dir, "--max-len-b", 8]
    run_here("fairseq-generate", translation_data, *options, "--batch-size", 20)
    hypotheses = [line for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
    assert len(hypotheses) == 20


def old_style(state):
    """The same checkpoint as fairseq wrote it before 2019-12: a Namespace, meters as objects, numpy statistics."""
    options = argparse.Namespace(**vars(state["cfg"]["model"]))
    meter = AverageMeter(round=3)
    meter.update(np.float32(2.5))
    state.update(args=options, cfg=None)
    state["extra_state"].update(train_meters={"loss": meter, "ups": TimeMeter()}, val_loss=np.float64(1.5))
    return state


def test_old_checkpoint_with_namespace_and_meters(trained, tmp_path):
    state = old_style(load_checkpoint_file(trained / "checkpoint_last.pt"))
    path = tmp_path / "old.pt"
    torch.save(state, path)
    loaded = load_checkpoint_file(path)
    assert loaded["extra_state"]["val_loss"] == 1.5
    assert loaded["extra_state"]["train_meters"]["loss"].avg == 2.5
    (new,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(trained / "checkpoint_last.pt")])
    (old,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, old.state_dict()[name]), name


def test_old_meters_under_their_old_name(tmp_path, monkeypatch):
    monkeypatch.setattr(AverageMeter, "__module__", "fairseq.meters")
    torch.save({"meter": AverageMeter(round=2)}, tmp_path / "meter.pt")
    assert load_checkpoint_file(tmp_path / "meter.pt")["meter"].round == 2


def test_dictionary_and_omegaconf(tmp_path):
    dictionary = Dictionary()
    dictionary.add_symbol("word", n=3)
    cfg = OmegaConf.create({"task": {"data": "x", "sizes": [1, 2.5, None, True]}}, flags={"allow_objects": True})
    torch.save({"dictionary": dictionary, "cfg": cfg}, tmp_path / "state.pt")
    loaded = load_checkpoint_file(tmp_path / "state.pt")
    assert loaded["cfg"] == cfg and loaded["dictionary"].symbols == dictionary.symbols


@pytest.mark.parametrize("value", [np.float64(0.1), np.float32(0.1), np.int64(-3), np.uint16(7), np.bool_(True)])
def test_numpy_scalars(tmp_path, value):
    torch.save({"value": value}, tmp_path / "scalar.pt")
    loaded = load_checkpoint_file(tmp_path / "scalar.pt")["value"]
    assert loaded == value and loaded.dtype == value.dtype


def test_numpy_scalar_of_objects_is_refused(tmp_path):
    reconstruct, (dtype, _) = np.float64(1).__reduce__()
    payload = type("Scalar", (), {"__reduce__": lambda self: (reconstruct, (np.dtype(object), b"12345678"))})
    globals()["Scalar"] = payload
    torch.save({"value": payload()}, tmp_path / "scalar.pt")
    with pytest.raises(DataError, match="numpy.object_"):
        load_checkpoint_file(tmp_path / "scalar.pt")


@pytest.mark.parametrize(
    "function, arguments, name",
    [
        (os.system, ("touch {marker}",), "posix.system"),
        (subprocess.check_call, (["touch", "{marker}"],), "commands.check_call"),  # its name in pickle protocol 2
        (builtins.eval, ("open('{marker}', 'w')",), "eval"),
        (builtins.getattr, ("text", "upper"), "getattr"),
        (copyreg._reconstructor, (dict, dict, {}), "copyreg._reconstructor"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_payload_is_refused_and_not_executed(tmp_path, monkeypatch, payload, function, arguments, name, legacy):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # must not open the door either
    marker = tmp_path / "marker"
    arguments = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
    path = tmp_path / "evil.pt"
    state = {"model": {}, "args": payload(function, *arguments)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    for load in (load_checkpoint_file, checkpoint_utils.load_checkpoint_to_cpu):
        with pytest.raises(DataError, match="not on the list") as caught:
            load(str(path))
        assert name in str(caught.value) and str(path) in str(caught.value)
    assert not marker.exists()


def test_payload_as_restore_file_ends_the_command(run_here, train_options, tmp_path, payload):
    torch.save({"args": payload(os.system, f"touch {tmp_path / 'marker'}")}, tmp_path / "evil.pt")
    options = ["--save-dir", tmp_path / "save", "--restore-file", tmp_path / "evil.pt"]
    with pytest.raises(DataError, match="evil.pt: holds an object of type"):
        run_here("fairseq-train", *train_options, *options)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_checkpoint(trained, tmp_path, keep):
    content = (trained / "checkpoint_last.pt").read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match="truncated"):
        load_checkpoint_file(path)


def test_fairseq_itself_notices_a_flipped_bit(trained, tmp_path):
    good, path = (trained / "checkpoint_best.pt").read_bytes(), tmp_path / "checkpoint_best.pt"
    path.write_bytes(good)
    assert checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"]
    for part in (0.1, 0.5, 0.9, 0.999):
        content = bytearray(good)
        content[int(part * len(good))] ^= 4
        path.write_bytes(content)
        with pytest.raises(DataError, match="checkpoint_best.pt: is truncated or damaged: .*; restore it"):
            checkpoint_utils.load_checkpoint_to_cpu(str(path))


def test_what_is_no_checkpoint_is_named(tmp_path):
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(DataError, match="one list"):
        load_checkpoint_file(tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(DataError, match="not a checkpoint of fairseq.*best_loss"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "weights.pt"))
    with pytest.raises(DataError, match="nowhere.pt: no such file"):
        load_checkpoint_file(tmp_path / "nowhere.pt")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    with pytest.raises(DataError, match="TorchScript"):
        load_checkpoint_file(tmp_path / "script.pt")


def test_allow_list_is_narrow_and_temporary(trained):
    before = set(torch.serialization.get_safe_globals())
    load_checkpoint_file(trained / "checkpoint_last.pt")
    assert set(torch.serialization.get_safe_globals()) == before
    assert not {"os", "posix", "sys", "subprocess"} & {path.partition(".")[0] for _, path in allowed_globals()}


def test_what_torch_says_of_a_damaged_file_is_cut_to_its_first_sentence(tmp_path, trained, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError(
            "Weights only load failed. Try another. WeightsUnpickler error: It ends early. See the page\nof torch"
        )

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(DataError, match=r"\(It ends early\)"):
        load_checkpoint_file(trained / "checkpoint_last.pt")


ALLOWED = {
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.dict",
    "builtins.int",
    "builtins.list",
    "collections.defaultdict",
    "fairseq.data.dictionary.Dictionary",
    "fairseq.distributed.utils._TensorPlaceholder",
    "fairseq.logging.meters.AverageMeter",
    "fairseq.logging.meters.StopwatchMeter",
    "fairseq.logging.meters.TimeMeter",
    "fairseq.meters.AverageMeter",
    "fairseq.meters.StopwatchMeter",
    "fairseq.meters.TimeMeter",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
}


def test_allow_list_is_exactly_this():
    """A name more is a door more: whoever adds one has to say so here. Numpy's, the codec and defaultdict are ours."""
    found = {path: value for value, path in allowed_globals()}
    assert found.keys() == ALLOWED and len(allowed_globals()) == len(ALLOWED)
    for path, value in found.items():
        if path.startswith(("numpy", "_codecs", "collections")):
            assert value.__module__ == "mlvl_fairseq.checkpoints.safe_loading"
        else:
            module, _, name = path.replace("fairseq.meters", "fairseq.logging.meters").rpartition(".")
            assert value is getattr(importlib.import_module(module), name)


OF_TORCH = {
    "builtins.set",
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch.device",
    "torch.nn.parameter.Parameter",
}


def test_of_torch_s_own_list_this_is_left():
    """Beside types of numbers and storages: nothing that calls what the file says, no subclass, no quantised tensor."""
    left = allowed_globals_of_torch()
    others = {n for n, value in left.items() if not (isinstance(value, torch.dtype) or n.endswith("Storage"))}
    assert others == OF_TORCH and any(isinstance(value, torch.dtype) for value in left.values())


def test_the_codec_is_that_of_bytes():
    encode = {path: value for value, path in allowed_globals()}["_codecs.encode"]
    assert encode("\xe9", "latin1") == b"\xe9"
    with pytest.raises(pickle.UnpicklingError, match="unsupported GLOBAL _codecs.encode with utf-8"):
        encode("\xe9", "utf-8")


@pytest.mark.parametrize("dtype", ["U3", "S4", "c8", "M8[s]", "V4", "O"])
def test_numpy_scalars_of_other_kinds_are_refused(dtype):
    """Numbers that are whole, real or true and false; nothing that a size or a structure in the file describes."""
    kind = np.dtype(dtype)
    scalar = {path: value for value, path in allowed_globals()}["numpy.core.multiarray.scalar"]
    own = {path: value for value, path in allowed_globals()}["numpy.dtype"](dtype)
    with pytest.raises(pickle.UnpicklingError, match=f"unsupported GLOBAL numpy.{kind.type.__name__}"):
        scalar(own, b"\0" * 16)


def test_old_torch_is_refused(trained, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(UserError, match="torch>=2.6"):
        load_checkpoint_file(trained / "checkpoint_last.pt")


def test_state_for_other_ranks_passes_the_allow_list(tmp_path):
    """What `broadcast_object` sends: a configuration and placeholders for tensors."""
    cfg = OmegaConf.create({"a": [1]}, flags={"allow_objects": True})
    tensors = []
    sent = distributed_utils._split_tensors_from_obj({"cfg": cfg, "w": torch.ones(2)}, tensors)
    torch.save(sent, tmp_path / "sent.pt")
    received = distributed_utils._put_tensors_in_obj(load_checkpoint_file(tmp_path / "sent.pt"), tensors)
    assert received["cfg"] == cfg and torch.equal(received["w"], torch.ones(2))


def test_plain_pickle_is_refused(tmp_path):
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"args": argparse.Namespace()}, protocol=4))
    with pytest.raises(DataError):
        load_checkpoint_file(tmp_path / "plain.pt")


UPDATE = {"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("model",), [1], "field 'model': expected object, found a list of 1"),
        (("model",), torch.zeros(2), "field 'model': expected object, found a Tensor"),
        (("optimizer_history",), [], "is not a checkpoint of fairseq .IndexError"),
        (("optimizer_history",), [{**UPDATE, "num_updates": "7"}], r"history\[0\].num_updates': expected int"),
        (("extra_state",), None, "(is not a checkpoint of fairseq|field 'extra_state')"),
        (("extra_state", "train_iterator"), {"epoch": -1}, "field 'extra_state.train_iterator.epoch': expected int"),
        (("args",), 3, "is not a checkpoint of fairseq"),
        (("cfg",), [1], "(is not a checkpoint of fairseq|field)"),
    ],
)  # fmt: skip
def test_fields_of_other_types_are_named_where_fairseq_loads(trained, tmp_path, place, value, message):
    path = tmp_path / "c.pt"
    state = load_checkpoint_file(trained / "checkpoint_last.pt")
    part = state
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    torch.save(state, path)
    with pytest.raises(DataError, match=f"c.pt.*{message}"):
        checkpoint_utils.load_checkpoint_to_cpu(str(path))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state["model"].update({"encoder.embed_tokens.weight": "text"}), "embed_tokens.weight"),
        (lambda state: state["model"].clear(), "Missing key"),
        (lambda state: state.update(last_optimizer_state=3), "not subscriptable|argument|int"),
    ],
)
def test_what_does_not_fit_a_training_ends_it_in_one_line(trained, tmp_path, train_options, run_here, change, message):
    state = load_checkpoint_file(trained / "checkpoint_last.pt")
    change(state)
    torch.save(state, tmp_path / "c.pt")
    options = ["--save-dir", tmp_path / "save", "--restore-file", tmp_path / "c.pt", "--max-epoch", 9]
    with pytest.raises(DataError, match=f"c.pt: does not fit what is trained here .*({message})") as error:
        run_here("fairseq-train", *train_options, *options)
    assert "\n" not in str(error.value)
