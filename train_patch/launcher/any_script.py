"""Running a script that mixes with timm's `Mixup` as it stands, with mixers of ours in the place of timm's.

Only arguments of the mixer's constructor are replaced, never those of the script: scripts choose their loss by them.
`prob`, `mode`, `label_smoothing` and `num_classes` stay as the script passes them.
"""

import json
import os
import runpy
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hmix_timm.families import load_families

from ..mixing import Mixing
from .children import reach_children
from .command_line import CommandLine
from .first_process import is_first_process
from .mixers import WitnessedFastCollateMixup, WitnessedMixup, launch_class, put_in_place
from .watch import Watch


@dataclass(frozen=True)
class Launch:
    """What each process of a launch has to know, as plain values.

    Args:
        script: absolute path of a file, or name of a module.
        is_module: which of them.
        name: what messages call the script.
        asked: '--mix-mode hmix', '--cutmix-mode gmix', …; '' where nothing was asked that could be missed.
        replaced: constructor arguments that replace the script's.
        families: file of the user's families, or None.
        witness: file that a mixer leaves when it is called.
    """

    script: str
    is_module: bool
    name: str
    asked: str
    replaced: dict[str, Any]
    families: str | None
    witness: str


class AnyScript:
    """A script, and the launch that it is run in.

    Args:
        line: the command line.
        mixing: asked for by the options before the script.
    """

    def __init__(self, line: CommandLine, mixing: Mixing) -> None:
        script = line.script if line.is_module else str(Path(line.script).resolve())
        self.arguments = line.arguments
        self.folder = tempfile.mkdtemp(prefix='hmix-train-')
        witness = os.path.join(self.folder, 'called')
        asked = '' if mixing.mode == 'none' else mixing.asked
        families = mixing.values['mix_families']
        self.launch = Launch(script, line.is_module, line.name, asked, mixing.overrides, families, witness)

    def main(self) -> None:
        """Runs the script as `python script.py` or `python -m module` would.

        Raises:
            RunError: the script has trained or ended without a mixer having been called, or a mixer cannot be made.
            SystemExit: the script's own.
        """
        sys.argv = [self.launch.script, *self.arguments]
        pid = os.getpid()
        end: SystemExit | None = None
        try:
            watch = enter(self.launch)
            with watch.listening():
                try:
                    execute(self.launch, '__main__')
                except SystemExit as error:
                    end = error
            if end is None or not end.code:
                watch.check_at_the_end()
        finally:
            if os.getpid() == pid:
                shutil.rmtree(self.folder, ignore_errors=True)
        if end is not None:
            raise end


def enter(launch: Launch) -> Watch:
    """Puts the mixers of a launch in place in this process, and in those that it will spawn."""
    if launch.families:
        load_families(launch.families)
    watch = Watch(launch.name, launch.asked, launch.witness, say)

    def made(mixer: Any, text: str) -> None:
        mixer.witness = launch.witness
        watch.made.append(text)
        say(f'Mixing: {text}')

    mixers = {'Mixup': WitnessedMixup, 'FastCollateMixup': WitnessedFastCollateMixup}
    put_in_place({name: launch_class(name, base, lambda: launch.replaced, made) for name, base in mixers.items()})
    watch.start()
    reach_children(json.dumps(asdict(launch)))
    return watch


def execute(launch: Launch, name: str) -> dict[str, Any]:
    """Executes the script under a module name. Returns its global names."""
    if launch.is_module:
        return runpy.run_module(launch.script, run_name=name, alter_sys=True)
    return runpy.run_path(launch.script, run_name=name)


def execute_in_child(launch: str) -> dict[str, Any]:
    """What a spawned process does in place of importing the script: enters the launch first."""
    launched = Launch(**json.loads(launch))
    enter(launched)
    return execute(launched, '__mp_main__')


def say(message: str) -> None:
    """Writes a line for the log, from the first process; a script of unknown ways need not have a logger."""
    if is_first_process():
        sys.stderr.write(f'{message}\n')  # in one piece, beside what others write
