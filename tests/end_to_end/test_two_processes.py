"""Two processes in one place: the second one ends with a clear line, and has written nothing."""

import fcntl
import json

import pytest

COMMANDS = {
    "fairseq-train": ("{corpus} {training} --max-epoch 1 --save-dir {tmp}/out", "out/.checkpoint_last.pt.lock"),
    "mlvl-analyse": ("attention {tmp}/run", "run/analysis/.attention.json.lock"),
    "mlvl-cll": ("{corpus} {tmp}/run --method cll_clip --order en,de {options}", "run/.lock"),
    "mlvl-convert": ("mclip {tmp}/none.pt {tmp}/out --sentencepiece {tmp}", "out/.lock"),
    "mlvl-evaluate": ("{test} --checkpoint {teacher} --json {tmp}/out.json", ".out.json.lock"),
    "mlvl-evaluate retrieval": ("{test} --checkpoint {teacher} --output-dir {tmp}/out", "out/.lock"),
    "mlvl-export": ("xlmr {mte} {tmp}/out --sentencepiece {pieces}", ".out.lock"),
    "mlvl-fuse": ("{test} --checkpoint {teacher} --plot {tmp}/out.png", ".out.png.lock"),
    "mlvl-picture-world": ("{tmp}/out --train 20 --valid 12 --test 12 --languages en", ".out.lock"),
    "mlvl-quickstart": ("--output {tmp}/out", "out/.lock"),
    "mlvl-report": ("{tmp}/run --output {tmp}/out", "out/.report.lock"),
    "mlvl-sentencepiece": ("{tmp}/out --train {corpus}/captions/train.en.txt --vocab-size 60", "out/.lock"),
}
METRICS = ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_one_is_told(
    run, corpus, world, teacher, mte, pieces, sequence_options, teacher_options, tmp_path, monkeypatch, command
):
    line, lock = COMMANDS[command]
    options = " ".join(map(str, sequence_options))
    test = f"--captions {world}/test.en.json --lang en --image-root {world}/images"
    training = " ".join(map(str, teacher_options))
    places = {"tmp": tmp_path, "corpus": corpus, "teacher": teacher, "mte": mte, "pieces": pieces}
    arguments = line.format(**places, options=options, test=test, training=training).split()
    score = tmp_path / "run" / "scores" / "00-en" / "en.test.json"
    score.parent.mkdir(parents=True)
    score.write_text(json.dumps(dict.fromkeys(METRICS, 50)))
    run_json = {"method": "cll_clip", "languages": ["en", "de"], "corpus": str(corpus)}
    (tmp_path / "run" / "run.json").write_text(json.dumps(run_json))
    (tmp_path / lock).parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0)
    with open(tmp_path / lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another opening of the file: as good as another process
        before = files(tmp_path)
        ended = run(*command.split(), *arguments)
    assert f"another process is at work in {tmp_path}" in ended.error and files(tmp_path) == before
