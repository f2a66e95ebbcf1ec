"""Never silently nothing: a run that does not train by the mixing that was asked for ends, and says why."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ..common.errors import RunError
from .mixers import Witnessed, cannot_reach, judge_drawn
from .others import Replacing, mixers_of_others, stop
from .site.sitecustomize import started
from .witness import MADE, MIXED, PROBLEM, facts, here, leave, text_of

_MIXING_OPTION = re.compile(r'--?(mixup|cutmix)([-_]alpha)?')


def rank() -> int:
    """The number of this process in a distributed run.

    Asks torch if the processes have met already; before that, torchrun and SLURM name the process in the environment.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0)


class Watch:
    """Judges by the facts that mixers leave: when one is made, before each optimizer step, and at the end.

    Args:
        script: the script's name in messages.
        asked: the mixing that was asked of the launcher, as '--mix-mode hmix'; '' if none was.
        keep: whether others may mix beside it.
        say: takes a line for the log.
    """

    def __init__(self, script: str, asked: str, keep: bool, say: Callable[[str], object]) -> None:
        self.script, self.asked, self.keep, self.say = script, asked, keep, say
        self.mixer: Any = None
        self.copies: list[Replacing] = []
        self.check: Any = None  # of `seen`, under --mix-check
        self._said: set[str] = set()
        self._steps, self._next = 0, 1
        self._parsed: list[tuple[argparse.ArgumentParser, argparse.Namespace]] = []
        self.parsers_exit: SystemExit | None = None
        self._listen_to_parsers()
        register_optimizer_step_pre_hook(self._before_step)  # of this process and of those forked from it

    def made(self, mixer: Witnessed, text: str) -> None:
        """Notes a mixer, and says what it is; ends the process if the script's class cannot apply our masks."""
        self.mixer, self.text, mixer.witness = mixer, text, here()
        leave(here(), MADE)
        if problem := cannot_reach(mixer):
            leave(here(), PROBLEM, problem)
            if torch.utils.data.get_worker_info() is None:
                self._judge()
        else:
            self.say(f'Mixing: {text}')

    def _judge(self) -> set[str]:
        """Looks at the facts: ends the process, or says it in the log where that may be, if somebody else mixes."""
        judge_drawn()
        found = facts(here())
        for name in sorted(name for name in found - self._said if name.startswith(PROBLEM)):
            problem = text_of(here(), name)
            if self.asked and not self.keep:
                stop(f'{self.script} does not mix by {self.asked} alone: {problem} (--mix-others keep leaves it alone)')
            self.say(f'Mixing: left alone: {problem}')
            self._said.add(name)
        return found

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._steps += 1
        # Lightning's training step is a closure: the first one is still to mix, and may make its mixer
        steps = self._steps - any(map(callable, [*args[1:], *kwargs.values()]))
        found = self._judge()
        if not steps or MIXED in found or (self._said and not self.asked):
            return
        if MADE not in found and self.mixer is None:  # nor by the process that this one was forked from
            if self.asked:
                stop(
                    f'{self.script} is about to train without {self.asked}: no mixer was made before its first '
                    f'optimizer step; {self._why()}'
                )
            if steps == 1:
                others = '; '.join(dict.fromkeys(mixers_of_others()))
                self.say(f'Mixing: {others or f"none: {self.script} has made no mixer"}')
        elif self.asked and steps == self._next:
            self.say(f'Mixing: not yet: step {self._steps} comes, and no mask was applied so far')
            self._next *= 10

    def _listen_to_parsers(self) -> None:
        """Remembers what parsers parse from now on, to name the options of a script that turn mixing on."""
        pythons = argparse.ArgumentParser.parse_known_args

        def parse_known_args(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
            try:
                parsed = pythons(parser, *args, **kwargs)
            except SystemExit as end:
                self.parsers_exit = end
                raise
            self._parsed.append((parser, parsed[0]))
            return parsed

        argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]

    def check_at_the_end(self, end: SystemExit | None = None) -> None:
        """Raises RunError if a script has ended well and the mixing that was asked for had no effect.

        Args:
            end: the exit of the script, if it ended by one.
        """
        helped = not self.began and {'-h', '--help'} & {*sys.argv[1:]}
        if end is not None and (end is self.parsers_exit or helped):
            return
        found = self._judge()
        if MIXED in found or not self.asked:
            if self.check:
                self.check.end()
            return
        if not self._steps and MADE not in found and started:
            self.say(f'Mixing: none in {self.script} itself: the processes that it has started say how they mix')
            return
        raise RunError(
            f'{self.script} has ended, and {self.asked} had no effect: no mask was applied in its process or in those '
            f'that multiprocessing started for it; {self._why()}'
        )

    @property
    def began(self) -> bool:
        """Whether this process has stepped an optimizer, or made a mixer."""
        return self._steps > 0 or self.mixer is not None

    def _why(self) -> str:
        if self.mixer is not None:
            off = (
                'which is switched off (mixup_enabled is False)'
                if not self.mixer.mixup_enabled
                else 'and did not use it'
            )
            return f'it made {self.text}, {off}'
        for copy in self.copies:
            if not copy.done:
                return f'it has not imported {copy.module} (--mixer {copy.copy})'
        found = {
            f'{name} (here {getattr(parsed, action.dest)})': getattr(parsed, action.dest)
            for parser, parsed in self._parsed
            for action in parser._actions
            for name in action.option_strings
            if _MIXING_OPTION.fullmatch(name) and hasattr(parsed, action.dest)
        }
        on = any(found.values())
        if (on or not found) and (others := '; '.join(dict.fromkeys(mixers_of_others()))):
            return others
        if on:
            return f"it made none, although {' or '.join(found)} is on: it mixes by something else than timm's Mixup"
        how = "if it mixes with timm's Mixup, its own options or configuration say when"
        if found:
            how = f'it mixes only where its own {" or ".join(found)} says so'
        return f'it made none: {how}; turn that on (--mixup 0.8, say)'
