"""Our commands, one after another."""

import os
import shlex
import subprocess
import sys
from typing import List, Mapping, Optional, Sequence

from mlvl_fairseq.process.signals import on_stop_signal


class Shell:
    """Runs commands, and says which."""

    def run(self, command: str, *words: object, environment: Optional[Mapping[str, str]] = None) -> None:
        """Raises SystemExit: it failed, with its exit status. A signal is passed on to it, and its end waited for."""
        line = [command, *map(str, words)]
        named = [f"{name}={value}" for name, value in (environment or {}).items()]
        print(f"+ {' '.join(named + [shlex.join(line)])}", file=sys.stderr, flush=True)
        process = subprocess.Popen(line, env={**os.environ, **(environment or {})})
        with on_stop_signal(process.send_signal):
            status = process.wait()
        if status:
            raise SystemExit(status if status > 0 else 128 - status)

    def output(self, *words: str) -> str:
        """What a command prints. Raises SystemExit: it failed."""
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, end="", file=sys.stderr)
            raise SystemExit(done.returncode)
        return done.stdout

    def recipe(self, name: str, overrides: Sequence[str]) -> List[str]:
        """Flags for fairseq-train of a recipe of mlvl_fairseq/configs."""
        return self.output("mlvl-options", "--config", name, *overrides).splitlines()

    def train(self, recipe: str, overrides: Sequence[str], words: Sequence[object], environment: Mapping[str, str]):
        """fairseq-train with a recipe's flags, and `words` behind them. Raises SystemExit: it failed."""
        plugin = self.output("mlvl-path").strip()
        own = [*self.recipe(recipe, overrides), *words]
        self.run("fairseq-train", "--user-dir", plugin, *own, environment=environment)
