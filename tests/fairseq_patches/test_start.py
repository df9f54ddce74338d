"""What a command that needs torch and fairseq does without when it starts."""

CODE = """
import gc, sys
import mlvl_fairseq.cli, fairseq_cli.train

mlvl_fairseq.register()
slow = "torch._dynamo torch._inductor sympy scipy sklearn pandas matplotlib datasets transformers torchvision"
assert not [name for name in slow.split() if name in sys.modules], sys.modules.keys()
assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()
"""


def test_what_is_not_imported(run_alone):
    ended = run_alone("python", "-c", CODE)
    assert ended.returncode == 0, ended.stderr
