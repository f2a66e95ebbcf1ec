"""Never silently nothing: a run whose batches no mixer touched ends, before it has trained."""

import argparse
import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ..common.errors import RunError

_MIXING_OPTION = re.compile(r'--?(mixup|cutmix)([-_]alpha)?')


def is_first_process() -> bool:
    """Whether this process speaks for a distributed run.

    Asks torch if the processes have met already; before that, torchrun and SLURM name the process in the environment.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0) == 0


class Watch:
    """Checks that a mixer has been called when the first optimizer step comes, and at the end of the script.

    Args:
        script: the script's name in messages.
        asked: the mixing that was asked of the launcher, as '--mix-mode hmix'; '' if none was.
        witness: file that a mixer leaves when it is called, in whichever process.
        say: takes a line for the log.
    """

    def __init__(self, script: str, asked: str, witness: str, say: Callable[[str], object]) -> None:
        self.script, self.asked, self.witness, self.say = script, asked, Path(witness), say
        self.made: list[str] = []
        self._parsed: list[tuple[argparse.ArgumentParser, argparse.Namespace]] = []
        self._parsing = 0
        self._stepped = False

    def start(self) -> None:
        """Has torch ask before each optimizer step of this process and of those forked from it."""
        register_optimizer_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        first, self._stepped = not self._stepped, True
        if not first or self.witness.exists():
            return
        if not self.asked:
            self.say(f'Mixing: none: {self.script} has called no mixer')
            return
        # no exception that a script would catch and continue from
        raise SystemExit(
            f'hmix-train: error: {self.script} is about to train without {self.asked}: no mixer was called before its '
            f'first optimizer step; {self._why()}'
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Remembers the parsers that parse in this block, to name the options of a script that turn mixing on."""
        pythons = argparse.ArgumentParser.parse_known_args

        def parse_known_args(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
            self._parsing += 1
            parsed = pythons(parser, *args, **kwargs)
            self._parsing -= 1
            self._parsed.append((parser, parsed[0]))
            return parsed

        argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            argparse.ArgumentParser.parse_known_args = pythons  # type: ignore[method-assign]

    def check_at_the_end(self) -> None:
        """Raises RunError if a script has ended well and the mixing that was asked for had no effect."""
        ended_by_a_parser = self._parsing > 0  # as --help does
        if ended_by_a_parser or not self.asked or self.witness.exists():
            return
        raise RunError(
            f'{self.script} has ended, and {self.asked} had no effect: no mixer was called in its process or in those '
            f'that multiprocessing started for it; {self._why()}. Processes that a script starts by other means '
            '(submitit, subprocess) mix as if hmix-train were not there: start with hmix-train what runs in them'
        )

    def _why(self) -> str:
        if self.made:
            return f'it made {self.made[-1]} and has not called it'
        found = [
            f'{name} (here {getattr(parsed, action.dest)})'
            for parser, parsed in self._parsed
            for action in parser._actions
            for name in action.option_strings
            if _MIXING_OPTION.fullmatch(name) and hasattr(parsed, action.dest)
        ]
        how = "if it mixes with timm's Mixup, its own options or configuration say when"
        if found:
            how = f'it mixes only where its own {" or ".join(dict.fromkeys(found))} says so'
        return f'it made none: {how}; turn that on (--mixup 0.8, say)'
