"""OpenAI's files: real TorchScript archives made here, damaged ones, hostile ones."""

import copy
import os
import pickle
import warnings
import zipfile

import pytest
import torch

from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.formats import torchscript_archive
from mlvl_fairseq.checkpoints.formats.torchscript_archive import StoredTensor, TorchScriptArchive
from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vision import VisionConfig

# torch.jit is deprecated, but the published files are what it wrote.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def save_archive(clip_model, path):
    """Trace and save a model like OpenAI's files were: with sizes beside the weights."""
    clip_model = copy.deepcopy(clip_model)
    for name, size in {"input_resolution": 16, "context_length": 10, "vocab_size": 60}.items():
        clip_model.__dict__.pop(name, None)
        clip_model.register_buffer(name, torch.tensor(size))
    image = torch.zeros(1, 3, 16, 16, dtype=clip_model.dtype)
    inputs = {"encode_image": (image,), "encode_text": (torch.zeros(1, 10, dtype=torch.long),)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace_module(clip_model, inputs, check_trace=False), path)


@pytest.fixture(scope="module")
def archive(official_clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "ViT-tiny.pt"
    save_archive(official_clip, path)
    return path


def rewritten(archive, path, replace):
    """Copy an archive with some entries replaced: `replace` maps the end of an entry's name to its new bytes."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            ends = [end for end in replace if entry.endswith(end)]
            new.writestr(entry, replace[ends[0]] if ends else old.read(entry))
    return path


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def assert_weights_are_the_models(weights, clip_model):
    state = {name: tensor.float() for name, tensor in clip_model.state_dict().items()}
    ours = {**weights.text, **{f"visual.{name}": tensor for name, tensor in weights.vision.items()}}
    assert ours.keys() == state.keys() - {"logit_scale"}
    assert all(torch.equal(ours[name], state[name]) and ours[name].dtype == torch.float32 for name in ours)
    assert weights.logit_scale == state["logit_scale"].item()
    assert weights.text_config == TextConfig(60, 64, 2, 1, 32, 10, 256)
    assert weights.vision_config == VisionConfig(16, 8, 64, 2, 1, 32, 256)


@pytest.mark.parametrize("half", [True, False])
def test_archive_gives_the_modules_tensors(official_clip, archive, tmp_path, half):
    clip_model = official_clip
    if not half:
        clip_model = import_clip().model.CLIP(32, 16, 2, 64, 8, 10, 60, 64, 1, 2).eval()
        archive = tmp_path / "single.pt"
        save_archive(clip_model, archive)
    names = set(TorchScriptArchive(archive).names())
    assert {"input_resolution", "context_length", "vocab_size"} <= names
    weights = read_clip_weights(archive)
    assert_weights_are_the_models(weights, clip_model)
    assert weights.source == str(archive)


def test_archive_is_never_given_to_torch(archive, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("the archive must not be loaded by torch")

    monkeypatch.setattr(torch.jit, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert read_clip_weights(archive).text_config.layers == 2


def test_towers_from_an_archive_give_clips_features(official_clip, archive):
    weights = read_clip_weights(archive)
    single = import_clip().model.CLIP(32, 16, 2, 64, 8, 10, 60, 64, 1, 2).eval()
    single.load_state_dict(official_clip.state_dict())
    tokens = torch.tensor([[1, 5, 9, 59, 0, 0, 0, 0, 0, 0], [1, 8, 7, 6, 5, 4, 3, 2, 1, 59]])
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = weights.text_tower()(tokens, torch.tensor([3, 9]))
        vision = weights.vision_tower()(images)
        torch.testing.assert_close(text, single.encode_text(tokens), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(vision, single.encode_image(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("legacy", [True, False])
def test_state_dict_saved_again_is_the_same_model(official_clip, archive, tmp_path, legacy):
    path = tmp_path / "state.pt"
    state = {**official_clip.state_dict(), "context_length": torch.tensor(10)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    weights = read_clip_weights(path)
    assert_weights_are_the_models(weights, official_clip)
    assert weights.fingerprint == read_clip_weights(archive).fingerprint


def test_fingerprint_sees_names_shapes_types_and_values():
    base = {"a": torch.arange(6.0), "b": torch.tensor(1.0)}
    variants = [
        {"a": torch.arange(6.0), "c": torch.tensor(1.0)},
        {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.0)},
        {"a": torch.arange(6.0).view(torch.int32), "b": torch.tensor(1.0)},
        {"a": torch.arange(6.0) + torch.tensor([0, 0, 0, 0, 0, 1e-6]), "b": torch.tensor(1.0)},
    ]
    prints = {fingerprint(tensors) for tensors in [base, *variants]}
    assert len(prints) == 5 and all(len(p) == 64 for p in prints)
    assert fingerprint(dict(reversed(base.items()))) == fingerprint(base)


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_truncated_archive_is_named(archive, tmp_path, kept):
    path = tmp_path / "cut.pt"
    content = archive.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="cut.pt: the file is truncated or damaged"):
        read_clip_weights(path)


def test_a_flipped_byte_is_noticed(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as zipped:
        start = zipped.getinfo("ViT-tiny/data/0").header_offset
    content[start + 200] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="flipped.pt: the archive is truncated or damaged.*CRC"):
        read_clip_weights(path)


def test_hostile_archive_is_refused_and_not_executed(archive, tmp_path):
    marker = tmp_path / "executed"
    path = rewritten(archive, tmp_path / "evil.pt", {"/data.pkl": pickle.dumps(Payload(marker), protocol=2)})
    with pytest.raises(DataError, match="evil.pt: refused: it refers to posix.system"):
        read_clip_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["torch.save", "torch.save legacy", "pickle"])
def test_hostile_state_dict_is_refused_and_not_executed(tmp_path, kind):
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    content = {"token_embedding.weight": Payload(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization="legacy" not in kind)
    with pytest.raises(DataError, match="evil.pt"):
        read_clip_weights(path)
    assert not marker.exists()


class Reduced:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        Reduced(getattr, ("", "join")),
        Reduced(torch._utils._rebuild_tensor_v2, (("0", 4, 4), 0, (2,), (1,))),
        Reduced(eval, ("1",)),
        torch.nn.Linear,
    ],
    ids=["no module", "getattr", "no storage", "eval", "class"],
)
def test_odd_pickles_are_refused(archive, tmp_path, content):
    path = rewritten(archive, tmp_path / "odd.pt", {"/data.pkl": pickle.dumps(content, protocol=2)})
    with pytest.raises(DataError, match="odd.pt"):
        read_clip_weights(path)


def test_tensor_beyond_its_storage_is_refused(archive, tmp_path):
    with zipfile.ZipFile(archive) as zipped:
        pickled = zipped.read("ViT-tiny/data.pkl")
    # Vectors of 64 elements from offset 0 on, announced with 65, their storages unchanged.
    wide = pickled.replace(b"K\x00(K@t(K\x01t", b"K\x00(KAt(K\x01t")
    assert wide != pickled
    path = rewritten(archive, tmp_path / "wide.pt", {"/data.pkl": wide})
    with pytest.raises(DataError, match="refused: a tensor reaches beyond its storage"):
        read_clip_weights(path)


def test_tensor_that_repeats_its_storage_is_refused():
    with pytest.raises(pickle.UnpicklingError, match="beyond its storage"):
        StoredTensor("0", torch.float32, numel=1, offset=0, shape=(10**12,), stride=(0,))
    assert StoredTensor("0", torch.float32, numel=6, offset=1, shape=(2, 2), stride=(3, 1)).shape == (2, 2)


def test_storage_of_another_length_is_refused(archive, tmp_path):
    path = rewritten(archive, tmp_path / "short.pt", {"/data/0": b"\0\0"})
    with pytest.raises(DataError, match="refused: its storage has 2 bytes"):
        read_clip_weights(path)


def test_compressed_archive_is_refused(archive, tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    with pytest.raises(DataError, match="refused: entry .*data.pkl is compressed"):
        read_clip_weights(path)


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"], ids=["LONG_BINPUT", "PUT"])
def test_a_huge_memo_is_refused_before_room_is_made(archive, tmp_path, put):
    path = rewritten(archive, tmp_path / "memo.pt", {"/data.pkl": b"\x80\x02}" + put + b"."})
    with pytest.raises(DataError, match="memo.pt: refused: entry 2,147,483,647 of its memo"):
        read_clip_weights(path)


def test_modules_within_themselves_have_an_end(archive, tmp_path):
    """A module whose attribute is the module itself, and a tensor that would have any number of names."""
    module = b"c__torch__\nM\n)\x81q\x01"
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00)))\x89Nt\x52"
    state = b"}(X\x04\0\0\0selfh\x01X\x01\0\0\0t" + tensor + b"ub."
    path = rewritten(archive, tmp_path / "circle.pt", {"/data.pkl": b"\x80\x02" + module + state})
    with pytest.raises(DataError, match="circle.pt: refused: a module of a name longer than 1000 characters"):
        read_clip_weights(path)


def test_tensors_that_share_a_storage_are_bounded(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(torchscript_archive, "SHARED_AT_LEAST", 0)
    monkeypatch.setattr(torchscript_archive, "MAX_SHARING", 0.1)
    with pytest.raises(DataError, match="refused: its tensors of .* bytes repeat their numbers"):
        read_clip_weights(archive)


def test_the_bound_is_the_larger_of_two_and_may_be_reached(archive, monkeypatch):
    """Of the tensors that are asked for: all of an honest file's fit its own size."""
    read = torchscript_archive.TorchScriptArchive(archive)
    (name,) = (name for name in read.names() if name.endswith("ln_final.weight"))
    monkeypatch.setattr(torchscript_archive, "MAX_SHARING", 0)
    size = read.load([name], lambda tensor: tensor)[name].nbytes
    monkeypatch.setattr(torchscript_archive, "SHARED_AT_LEAST", size)
    assert read.load([name], lambda tensor: tensor)[name].nbytes == size
    for double in ([name, name], [*read.names()]):
        with pytest.raises(DataError, match="repeat their numbers"):
            read.load(double, lambda tensor: tensor)
    monkeypatch.setattr(torchscript_archive, "MAX_SHARING", 8)
    assert len(read.load(read.names(), lambda tensor: tensor)) == len(read.names())


def test_resnet_models_are_declined(tmp_path):
    model = import_clip().model.CLIP(16, 32, (1, 1, 1, 1), 8, None, 10, 60, 64, 1, 1)
    torch.save(model.state_dict(), tmp_path / "RN50.pt")
    with pytest.raises(DataError, match="ResNet .* only ViT models are supported"):
        read_clip_weights(tmp_path / "RN50.pt")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("ln_final.bias"), "field 'ln_final.bias': tensor is missing"),
        (lambda s: s.pop("visual.proj"), "field 'proj': tensor is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "field 'extra': unknown tensor"),
        (lambda s: s.update({"ln_final.bias": torch.zeros(3)}), r"shape \[3\], expected \[64\]"),
        (lambda s: s.update({"ln_final.bias": "text"}), "field 'ln_final.bias': is a str, not a tensor"),
        (lambda s: s.update({"text_projection": torch.zeros(64, 8)}), "8 dimensions and image features 32"),
        (lambda s: s.update({"visual.positional_embedding": torch.zeros(6, 64)}), r"expected \[5, 64\]"),
    ],
)
def test_state_dict_that_does_not_fit_is_explained(official_clip, tmp_path, change, message):
    state = {**official_clip.state_dict(), "context_length": torch.tensor(10)}
    change(state)
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(DataError, match=message):
        read_clip_weights(tmp_path / "state.pt")


def test_unknown_files_are_explained(tmp_path):
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="other.pt: no CLIP checkpoint of a known format; known are: .*TorchScript"):
        read_clip_weights(tmp_path / "other.pt")
    with pytest.raises(DataError, match="absent.pt: no such file or folder"):
        read_clip_weights(tmp_path / "absent.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(DataError, match="empty.pt"):
        read_clip_weights(tmp_path / "empty.pt")


def test_a_directory_with_names_that_are_no_text_is_refused(archive, tmp_path):
    """A flag of a zip entry says that its name is UTF-8."""
    content = bytearray(archive.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 9] |= 8
    content[place + 46] = 0xFF
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(DataError, match="c.pt: the file is truncated or damaged .*codec"):
        read_clip_weights(tmp_path / "c.pt")
