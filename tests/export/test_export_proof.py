"""The proof finds what is not the same; the card says what it should; only folders of exports are written into."""

import json

import numpy as np
import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.export import EXPORTS, Export, Stock, register_export
from mlvl_fairseq.export.exporting import export_model
from mlvl_fairseq.files import write_json


@pytest.fixture
def made_up(clip, monkeypatch):
    """``made_up(texts=..., tokens=...)``: a format whose program gives what these functions make of our results."""
    monkeypatch.setattr("mlvl_fairseq.export.base.EXPORTS", EXPORTS)

    def make(texts=lambda v: v, pixels=lambda v: v, tokens=lambda ids: ids, cleaned=None, installed="numpy"):
        @register_export("made-up", "for tests")
        class MadeUp(Export):
            programs, library_name = (installed,), "numpy"

            def fits(self, encoder):
                return None

            def write(self, encoder, folder):
                (folder / "weights").write_text("x")

            def load(self, folder, program):
                import torch

                more = {} if cleaned is None else {"cleaned": cleaned}
                return Stock(
                    lambda captions: texts(clip.encode_texts(captions)),
                    lambda batch: pixels(clip.encode_images(torch.from_numpy(batch))),
                    tokens=lambda captions: tokens(clip.tokenize(captions)),
                    **more,
                )

            def example(self, encoder, folder):
                return f'load("{folder.name}")'

        return MadeUp(MadeUp.Options())

    yield make
    EXPORTS.pop("made-up", None)


def proof_in(folder):
    return json.loads((folder / "proof.json").read_text(encoding="utf-8"))


def test_what_is_the_same_is_proven(made_up, clip, tmp_path):
    proof = export_model(made_up(), clip, tmp_path / "out")
    found = proof_in(tmp_path / "out")
    assert proof.proven and found["proven"] and found["fingerprint"] == clip.fingerprint
    trial = found["trials"]["numpy"]
    assert (trial["version"], trial["texts"], trial["images"]) == (np.__version__, 0, 0)
    assert trial["tokens"]["captions"] >= 25 and trial["tokens"]["differ"] == 0
    assert {"torch", "tokenizers", "mlvl_fairseq"} == found["versions"].keys()


def first_one_longer(vectors):
    """One number of one vector grows by 2e-5 of the vector's length."""
    vectors = vectors.copy()
    vectors[3, 1] += 2e-5 * np.linalg.norm(vectors[3])
    return vectors


@pytest.mark.parametrize("wrong, message", [
    ({"texts": first_one_longer}, "gives texts that differ by 2.0e-05 of a vector's length, more than 1e-05"),
    ({"pixels": first_one_longer}, "gives images that differ by 2.0e-05"),
    ({"texts": lambda v: v[:, :-1]}, "gives texts that differ by nan"),
    ({"texts": lambda v: v * np.nan}, "gives texts that differ by nan"),
    ({"tokens": lambda ids: [*ids[:-1], ids[-1][:-1]]}, "gives 1 captions other token ids, such as 'a very long"),
])  # fmt: skip
def test_what_differs_is_an_error(wrong, message, made_up, clip, tmp_path):
    with pytest.raises(UserError, match=message):
        export_model(made_up(**wrong), clip, tmp_path / "out")
    assert not proof_in(tmp_path / "out")["proven"] and not (tmp_path / "out" / "README.md").exists()


def test_a_program_that_does_not_load_it_is_an_error(made_up, clip, tmp_path):
    export = made_up()
    export.load = lambda folder, program: 1 / 0
    with pytest.raises(UserError, match="numpy does not load it: division by zero; see proof.json"):
        export_model(export, clip, tmp_path / "out")


def test_a_program_that_does_not_run_it_is_an_error(made_up, clip, tmp_path):
    with pytest.raises(UserError, match="numpy loads it and does not run it: division by zero; see proof.json"):
        export_model(made_up(pixels=lambda vectors: 1 / 0), clip, tmp_path / "out")


def test_without_the_program_nothing_is_proven(made_up, clip, tmp_path):
    proof = export_model(made_up(installed="no-such-package"), clip, tmp_path / "out")
    assert not proof.proven and proof.lines() == ["no-such-package: not installed, so not proven"]
    assert "not installed, so not proven" in (tmp_path / "out" / "README.md").read_text()


def test_captions_that_a_program_rewrites_are_counted_apart(made_up, clip, tmp_path):
    """As open_clip's ftfy: compared is what becomes of what it has made of them."""

    def cleaned(text):
        return text.replace("，", ",")

    export = made_up(cleaned=cleaned)
    stock = export.load(None, None)
    given = Stock(stock.texts, stock.pixels, tokens=lambda all: clip.tokenize(list(map(cleaned, all))), cleaned=cleaned)
    export.load = lambda folder, program: given
    tokens = export_model(export, clip, tmp_path / "out").trials["numpy"].tokens
    assert (tokens.rewritten, tokens.rewritten_differ, tokens.differ) == (1, 1, 0)


def test_the_card(made_up, clip, tmp_path):
    scores = tmp_path / "scores"
    settings = {"evaluator": "retrieval", "model": clip.fingerprint, "split": "test"}
    write_json(scores.mkdir() or scores / "settings.json", settings)
    write_json(scores / "de.test.json", {"txt_r1": 12.5, "r_mean": 34.25, "signature": "data:1|split:test|lang:de"})
    export = made_up()
    export_model(export, clip, tmp_path / "out", [str(scores)], "mit", "er_with_teir")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: numpy\nlanguage:\n- en\n- de\nlicense: mit\n")
    for line in ("- languages: en, de", "- method: er_with_teir", "- licence of the origin: mit", 'load("out")'):
        assert line in card
    assert "| de | 34.25 | 12.50 |" in card and "- de: `data:1|split:test|lang:de`" in card
    assert f"numpy {np.__version__}: texts differ by 0.0e+00" in card
    write_json(scores / "settings.json", {**settings, "model": "0" * 64})
    with pytest.raises(UserError, match="holds scores of another model"):
        export_model(export, clip, tmp_path / "out", [str(scores)])
    write_json(scores / "settings.json", settings)
    write_json(scores / "de.test.json", {"txt_r1": 12.5})
    with pytest.raises(DataError, match="signature"):
        export_model(export, clip, tmp_path / "out", [str(scores)])


def test_only_folders_of_exports_are_written_into(made_up, clip, tmp_path):
    export_model(made_up(), clip, tmp_path / "out")
    EXPORTS.pop("made-up")
    export_model(made_up(), clip, tmp_path / "out")  # again
    (tmp_path / "out" / "README.md").unlink()  # one that was interrupted
    (tmp_path / "out" / "proof.json").write_text('{"format": "made-up", "proven": false}')
    EXPORTS.pop("made-up")
    assert export_model(made_up(), clip, tmp_path / "out").proven
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "proof.json").write_text('{"format": "onnx"}')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    refused = {
        "mine": "holds other files, such as letter",
        "mine/letter": "is a file; give a folder",
        "theirs": "holds an export to onnx: give a new folder",
    }
    for place, message in refused.items():
        EXPORTS.pop("made-up")
        with pytest.raises(UserError, match=message):
            export_model(made_up(), clip, tmp_path / place)
