"""The index folder: pictures are added, changed and removed, an interruption costs nothing, damage is told."""

import json
import os
import tarfile
import zlib

import numpy as np
import pytest
from drawn_photos import NAMES, draw
from PIL import Image

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.search import building
from mlvl_fairseq.search.building import Changes
from mlvl_fairseq.search.folder import open_index
from mlvl_fairseq.search.marks import take_out
from mlvl_fairseq.search.sources import source_of


def found(folder):
    """Name -> vector of what can be found."""
    index = open_index(folder)
    rows = np.flatnonzero(index.live)
    return dict(zip(map(index.name, rows), index.vectors(rows)))


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_it_holds_the_vectors_of_all_pictures_below_a_folder(index, photos, model):
    same(found(index), dict(zip(NAMES, model.encode_image([photos / name for name in NAMES]))))


def test_half_precision_takes_half_the_room(tmp_path, photos, update, index):
    update(tmp_path / "half", photos, dtype="float16")
    stored = open_index(tmp_path / "half").parts[0].vectors
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, open_index(index).parts[0].vectors, atol=1e-3)


def test_it_is_brought_up_to_date(index, photos, update, model, encoded):
    before = open_index(index)
    numbers = {before.name(row): row for row in range(8)}
    draw(photos / "0 new.png", 20)
    draw(photos / "c.png", 21)
    (photos / "sub" / "f.png").unlink()
    assert update(index, photos) == Changes(added=1, gone=1, changed=1, same=6)
    assert encoded.pictures == 2
    names = sorted([*NAMES, "0 new.png"])
    names.remove("sub/f.png")
    same(found(index), dict(zip(names, model.encode_image([photos / name for name in names]))))
    after = open_index(index)
    kept = [name for name in NAMES if name not in ("c.png", "sub/f.png")]
    assert [after.name(numbers[name]) for name in kept] == kept
    for row in (numbers["c.png"], numbers["sub/f.png"], -1, len(after)):
        with pytest.raises(DataError, match="has no picture"):
            after.name(row)
    assert update(index, photos) == Changes(same=8)
    assert found(index).keys() == set(names)


def test_an_interruption_costs_no_finished_picture(tmp_path, photos, update, index, encoded, monkeypatch):
    monkeypatch.setattr(building, "PART_ROWS", 3)
    encoded.stop_at = 6  # after five pictures: a finished part, and two of the three of the next one
    with pytest.raises(KeyboardInterrupt):
        update(tmp_path / "slow", photos)
    assert encoded.pictures == 5
    assert found(tmp_path / "slow").keys() == set(NAMES[:3])  # which can be found already
    encoded.stop_at = None
    assert update(tmp_path / "slow", photos) == Changes(added=5, same=3)
    assert encoded.pictures == 8
    same(found(tmp_path / "slow"), found(index))


def test_pictures_may_change_during_an_interruption(tmp_path, photos, update, model, encoded, monkeypatch):
    monkeypatch.setattr(building, "PART_ROWS", 3)
    encoded.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        update(tmp_path / "slow", photos)
    draw(photos / "d.png", 30)  # in the part that was begun
    encoded.stop_at = None
    update(tmp_path / "slow", photos)
    same(found(tmp_path / "slow"), dict(zip(NAMES, model.encode_image([photos / name for name in NAMES]))))


def test_a_picture_that_was_read_twice_is_found_once(index, photos, update, encoded):
    """Changed pictures are found before the rows of their earlier states are marked as gone."""
    draw(photos / "a.png", 31)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building, "write_marks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        update(index, photos)
    assert open_index(index).pictures == 9
    update(index, photos)
    assert open_index(index).pictures == 8 and found(index).keys() == set(NAMES)
    assert encoded.pictures == 1


def test_pictures_that_cannot_be_read_are_counted_and_not_found(tmp_path, photos, update):
    (photos / "a.png").write_bytes(b"no picture")
    (photos / "e.png").write_bytes(b"")
    assert update(tmp_path / "index", photos) == Changes(added=8, bad=2)
    assert found(tmp_path / "index").keys() == set(NAMES) - {"a.png", "e.png"}
    draw(photos / "a.png", 0)
    assert update(tmp_path / "index", photos) == Changes(changed=1, same=7)
    assert "a.png" in found(tmp_path / "index")


@pytest.mark.parametrize("options", [{"bad_image": "error"}, {"max_bad_images": 1}], ids=["error", "limit"])
def test_bad_pictures_can_stop_the_work(tmp_path, photos, update, options, monkeypatch):
    monkeypatch.setattr(building, "PART_ROWS", 3)  # the two are of two parts
    for name in ("a.png", "e.png"):
        (photos / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be decoded"):
        update(tmp_path / "index", photos, **options)


def test_what_is_taken_out_stays_out(index, photos, update):
    assert take_out(index, ["sub/*"]) == 3
    assert found(index).keys() == set(NAMES[:5])
    draw(photos / "sub" / "f.png", 40)
    assert update(index, photos) == Changes(same=8)
    assert found(index).keys() == set(NAMES[:5])
    (photos / "sub" / "h.png").unlink()
    assert update(index, photos) == Changes(same=7)
    draw(photos / "sub" / "h.png", 7)
    assert update(index, photos) == Changes(same=8)
    with pytest.raises(UserError, match="no picture fits 'sub/g.jpg'"):
        take_out(index, ["sub/g.jpg"])
    assert take_out(index, ["sub/g.jpg"], back=True) == 1
    assert found(index).keys() == {*NAMES[:5], "sub/g.jpg"}


def test_two_sources_do_not_touch_each_other(index, photos, update, tmp_path):
    draw(tmp_path / "more" / "a.png", 50)
    (tmp_path / "more" / "list.txt").write_text(f"a.png\n\n{photos / 'b.jpg'}\na.png\n")
    assert update(index, tmp_path / "more" / "list.txt") == Changes(added=2)
    assert update(index, photos) == Changes(same=8)
    opened = open_index(index)
    assert opened.pictures == 10 and [opened.name(8), opened.name(9)] == [str(photos / "b.jpg"), "a.png"]
    np.testing.assert_allclose(opened.vectors([8]), opened.vectors([1]), atol=1e-6)


def pack(path, folder, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.add(folder / name, name)


def test_archives_are_read_where_they_lie(tmp_path, photos, update, index):
    shards = tmp_path / "shards"
    shards.mkdir()
    pack(shards / "0.tar", photos, [*NAMES[:3], "notes.txt"])
    pack(shards / "1.tar", photos, NAMES[3:])
    assert update(tmp_path / "packed", shards) == Changes(added=8)
    whole, packed = found(index), found(tmp_path / "packed")
    assert packed.keys() == {f"{0 if name in NAMES[:3] else 1}.tar/{name}" for name in NAMES}
    same({name.partition("/")[2]: vector for name, vector in packed.items()}, whole)
    draw(photos / "new.png", 60)
    pack(shards / "1.tar", photos, ["new.png", *NAMES[4:]])
    os.utime(shards / "1.tar", ns=(0, 0))
    assert update(tmp_path / "packed", shards) == Changes(added=1, gone=1, changed=4, same=3)
    source = source_of(shards / "1.tar")
    with Image.open(photos / "new.png") as picture:
        assert source.picture("1.tar/new.png", 10**6).tobytes() == picture.tobytes()
    with pytest.raises(DataError, match="there is no picture 'notes.txt' in it"):
        source.picture("1.tar/notes.txt", 10**6)
    with tarfile.open(shards / "2.tar", "w:gz") as archive:
        archive.add(photos / "a.png", "a.png")
    with pytest.raises(DataError, match="no plain tar archive"):
        update(tmp_path / "packed", shards)


def test_a_corpus_gives_the_pictures_of_all_its_splits(tmp_path, photos, update, index):
    names = {"train": ["a.png", "sub/f.png"], "valid": ["b.jpg", "a.png"]}
    corpus = tmp_path / "corpus"
    (corpus / "images").mkdir(parents=True)
    splits = {}
    for split, own in names.items():
        (corpus / "images" / f"{split}.txt").write_text("".join(f"{name}\n" for name in own))
        splits[split] = {"images": len(own), "english": 1, "captions": {"en": 1}, "sha256": "0" * 64}
    manifest = {"format": 1, "source_lang": "en", "bpe_size": 1, "splits": splits, "image_root": str(photos)}
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    update(tmp_path / "own", corpus)
    whole = found(index)
    same(found(tmp_path / "own"), {name: whole[name] for name in ("a.png", "b.jpg", "sub/f.png")})


def test_a_source_without_pictures_changes_nothing(index, photos, update):
    for name in NAMES:
        (photos / name).unlink()
    with pytest.raises(DataError, match="holds no pictures"):
        update(index, photos)
    assert open_index(index).pictures == 8


def test_other_settings_and_folders_are_refused(index, photos, update, tmp_path):
    with pytest.raises(UserError, match="was made with dtype float32"):
        update(index, photos, dtype="float16")
    with pytest.raises(UserError, match="is no index and not empty"):
        update(photos, photos)
    with pytest.raises(DataError, match="no such folder"):
        update(index, tmp_path / "none")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["index.json", "parts/000000/vectors.npy", "parts/000000/vectors.json", "marks-3.npy"])
def test_damage_is_told(index, name):
    take_out(index, ["a.png"])
    flip(index / name, -40)
    with pytest.raises(DataError):
        open_index(index)


def test_names_of_other_pictures_are_told(index):
    path = index / "parts" / "000000" / "images.txt"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in lines[::-1]))
    with pytest.raises(DataError, match="names other pictures"):
        open_index(index).name(0)


def test_a_manifest_that_was_edited_is_told(index):
    path = index / "index.json"
    path.write_text(path.read_text().replace('"dtype": "float32"', '"dtype": "float16"'))
    with pytest.raises(DataError, match="it is not what was written"):
        open_index(index)


def test_a_manifest_of_another_version_is_told(index):
    path = index / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(DataError, match="is of version 3"):
        open_index(index)


def test_a_manifest_without_what_a_later_version_adds_is_read(index):
    path = index / "index.json"
    content = json.loads(path.read_text())
    del content["pictures"], content["digest"]  # `pictures` has a default
    content["digest"] = f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
    path.write_text(json.dumps(content))
    assert open_index(index).pictures == 8
