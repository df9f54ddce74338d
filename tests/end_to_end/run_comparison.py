"""When two runs are the same."""

import json

from mlvl_fairseq.checkpoints.comparison import differing


def assert_same_run(run, whole):
    """Final checkpoints, results and scores of `whole` are those of `run`, byte for byte; costs do not count."""
    steps = [path.parent.name for path in whole.glob("*/done.json")]
    scores = list(whole.glob("scores/*/*"))
    assert steps and scores
    for step in steps:
        assert differing(run / step / "checkpoint_best.pt", whole / step / "checkpoint_best.pt") == []
        results, expected = (json.loads((folder / step / "done.json").read_text()) for folder in (run, whole))
        # fairseq notes every start in a checkpoint
        assert {**results, "checkpoint_bytes": None} == {**expected, "checkpoint_bytes": None}
    for path in scores:
        assert path.read_bytes() == (run / path.relative_to(whole)).read_bytes()
