import pytest

from mlvl_fairseq.cli import quickstart
from mlvl_fairseq.errors import UserError


@pytest.mark.parametrize("methods", ["cll_clip,cll_clap", ""])
def test_unknown_methods_are_told_before_anything_is_done(methods, tmp_path):
    with pytest.raises(UserError, match="no method '.*': "):
        quickstart.main(["--output", str(tmp_path / "out"), "--methods", methods])
    assert not (tmp_path / "out").exists()
