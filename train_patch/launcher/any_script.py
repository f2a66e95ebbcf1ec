"""Runs a script that mixes with timm's `Mixup` as it stands, with our mixers in the place of timm's.

Only arguments of the mixer's constructor are replaced, never those of the script: scripts choose their loss by them.
`prob`, `mode`, `label_smoothing` and `num_classes` stay as the script passes them.

multiprocessing tells a process that it spawns which file its main module is, and the process executes that file under
the name `__mp_main__`. Processes of a launched script are told `spawned.py`, which enters the launch first.
"""

import json
import multiprocessing.spawn
import os
import runpy
import shutil
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..mixing import Mixing, load_mix_families
from .command_line import CHECK, CommandLine, OwnParser
from .mixers import FastCollateMixup, Mixup, put_in_place
from .others import Replacing, notice_boxes
from .site.sitecustomize import VARIABLE, reach
from .torchvisions import launch_transform, replaced_by
from .watch import Watch, rank
from .witness import PROBLEM, here, inside, leave, make_folder, take
from .witness import VARIABLE as WITNESS

_watch: Watch | None = None

MAIN_MODULE = str(Path(__file__).with_name('spawned.py'))


@dataclass(frozen=True)
class Launch:
    """The facts that each process of a launch needs, as plain values.

    Args:
        script: absolute path of a file, or name of a module.
        is_module: which of them.
        name: the script's name in messages.
        asked: '--mix-mode hmix', '--cutmix-mode gmix', …; '' if no mixing was asked for.
        overrides: constructor arguments that replace the script's.
        families: file of the user's families, or None.
        copies: copies of timm's mixers that ours replace, 'module:Class'.
        keep: whether others may mix beside ours.
        witness: folder of the facts.
        own: our options as typed, for a script of timm's that this one starts.
    """

    script: str
    is_module: bool
    name: str
    asked: str
    overrides: dict[str, Any]
    families: str | None
    copies: list[str]
    keep: bool
    witness: str
    own: list[str]


def run(line: CommandLine, mixing: Mixing) -> None:
    """Runs the script of a command line as `python script.py` or `python -m module` would.

    Raises:
        RunError: the script has ended without a mixer having been called, or a mixer cannot be made.
        SystemExit: the script's own, or that of the watch.
    """
    script = line.script if line.is_module else os.path.abspath(line.script)
    asked = '' if mixing.mode == 'none' else mixing.asked
    options = OwnParser().parse_args(line.own)
    folder, pid, keep = make_folder(), os.getpid(), options.mix_others == 'keep'
    families, *own = map(_absolute, [mixing.values['mix_families'] or '', *line.own])
    launch = Launch(
        script, line.is_module, line.name, asked, mixing.overrides, families, options.mixer, keep, folder, own
    )
    sys.argv = [script, *line.arguments]
    _hide_own_frames()
    ended = None
    try:
        watch = enter(launch)
        _redirect_spawned()
        try:
            execute(launch, '__main__')
        except SystemExit as end:
            if end.code:
                raise
            ended = end
        for thread in threading.enumerate():  # as Python waits before it ends
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        watch.check_at_the_end(ended)
    finally:
        if os.getpid() == pid:  # not in a process that the script has forked
            shutil.rmtree(folder, ignore_errors=True)


def _absolute(word: str) -> str:
    """A word of the command line with the file in it as an absolute path: a process may be started elsewhere."""
    option, equals, path = word.rpartition('=') if word.startswith('-') else ('', '', word)
    return f'{option}{equals}{os.path.abspath(path)}' if path.endswith('.py') else word


def enter(launch: Launch) -> Watch:
    """Puts the mixers of a launch in place in this process, once, and has the Pythons that it starts do so, too."""
    global _watch
    if _watch is not None:
        return _watch
    load_mix_families([], {'mix_families': launch.families or None})
    spawned = multiprocessing.current_process().name != 'MainProcess'
    take(inside(os.environ.get(WITNESS, launch.witness)) if spawned else launch.witness)
    watch = _watch = Watch(launch.name, launch.asked, launch.keep, say)
    bases: tuple[type, ...] = Mixup, FastCollateMixup
    if CHECK in launch.own:
        from . import seen

        bases, watch.check = (seen.Mixup, seen.FastCollateMixup), seen.Check()
    classes = put_in_place(bases, lambda: launch.overrides, watch.made)
    transform = launch_transform(launch.overrides, launch.asked, CHECK in launch.own, watch.made)
    watch.copies = [Replacing(copy, classes, transform) for copy in launch.copies]
    for of_torchvision in replaced_by(launch.overrides):
        Replacing(of_torchvision, classes, transform)
    if launch.asked:
        notice_boxes(lambda text: leave(here(), PROBLEM, text))
    reach(json.dumps(asdict(launch)))
    return watch


def _redirect_spawned() -> None:
    """Tells processes that multiprocessing will spawn that their main module is `spawned.py`."""
    pythons = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = pythons(name)
        if data.pop('init_main_from_name', None) or 'init_main_from_path' in data:
            data['init_main_from_path'] = MAIN_MODULE
        return data

    multiprocessing.spawn.get_preparation_data = get_preparation_data


def execute(launch: Launch, name: str) -> dict[str, Any]:
    """Executes the script under a module name. Returns its global names."""
    if launch.is_module:
        return runpy.run_module(launch.script, run_name=name, alter_sys=True)
    return runpy.run_path(launch.script, run_name=name)


def execute_in_child() -> dict[str, Any]:
    """Enters the launch in a spawned process, then executes the script as multiprocessing would."""
    launch = Launch(**json.loads(os.environ[VARIABLE]))
    enter(launch)
    _redirect_spawned()
    return execute(launch, '__mp_main__')


def _hide_own_frames() -> None:
    """Shows a script's traceback without the launcher's frames."""
    shown = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        frames = trace
        while frames is not None and frames.tb_frame.f_code is not execute.__code__:
            frames = frames.tb_next
        if frames is not None:
            trace = frames.tb_next
            while trace is not None and trace.tb_frame.f_globals.get('__name__') == 'runpy':
                trace = trace.tb_next
        shown(kind, error.with_traceback(trace), trace)

    sys.excepthook = excepthook


def say(message: str) -> None:
    """Writes a line for the log, from the first process; an unknown script need not have a logger."""
    if rank() == 0:
        sys.stderr.write(f'{message}\n')  # in one piece, beside the lines of other processes
