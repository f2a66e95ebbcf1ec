"""Reaches the Pythons that a launched script starts; Python imports it in each of them, before their program.

It imports the standard library alone, and of that what it needs when it needs it: most of these Pythons never import
`timm.data`. The launch is in an environment variable. Any Python 3 can run this file: a script may start another one.
"""

import os
import sys

VARIABLE = 'HMIX_TRAIN_LAUNCH'
"""Environment variable that holds a launch."""

FOLDER = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.dirname(os.path.dirname(os.path.dirname(FOLDER)))

_TIMMS_NAMES = (b'_parse_args', b'FastCollateMixup', b'create_loader', b'train_one_epoch')
_PROGRAM = r'python[\d.]*|torchrun|accelerate|deepspeed|sbatch|srun|mpirun|mpiexec|ssh|.*\.(py|sh)'
_WRAPPER = r'(ba|z|da)?sh|env|nice|nohup|timeout|taskset|numactl|conda|uv|poetry'


def start() -> None:
    """Enters the launch later, if there is one, and runs the `sitecustomize` that this one hides."""
    sys.path[:] = [folder for folder in sys.path if folder != FOLDER]
    if VARIABLE in os.environ and hasattr(sys, 'orig_argv'):  # Python 3.10 or newer, as this package
        if _is_timms(sys.argv[0]):
            _run_by_launcher()
        sys.meta_path.insert(0, Finder())
        listen()
    this = sys.modules.pop('sitecustomize')
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != 'sitecustomize':
            raise
        sys.modules['sitecustomize'] = this
    sys.modules['train_patch.launcher.site.sitecustomize'] = this  # which the launcher imports


def _is_timms(script: str) -> bool:
    """Whether a file may be timm's train.py; the launcher then looks closer."""
    if not script.endswith('.py'):
        return False
    try:
        with open(script, 'rb') as file:
            text = file.read()
    except OSError:
        return False
    return all(name in text for name in _TIMMS_NAMES)


def _run_by_launcher() -> None:
    """Replaces this process by `python -m train_patch OPTIONS SCRIPT ARGUMENTS`."""
    import json
    from importlib.util import find_spec

    if find_spec('train_patch') is None:
        os.environ['PYTHONPATH'] += os.pathsep + HOME
    flags = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    own = json.loads(os.environ[VARIABLE])['own']
    os.execv(sys.executable, [sys.executable, *flags, '-m', 'train_patch', *own, *sys.argv])


def executed_by(finder, wanted):
    """The spec that the finders behind this one have, with a loader that leaves executing to `finder.execute`."""
    behind = sys.meta_path[sys.meta_path.index(finder) + 1 :]  # several may wait for one module
    spec = next(filter(None, (other.find_spec(*wanted) for other in behind if hasattr(other, 'find_spec'))), None)
    if spec is not None and spec.loader is not None:
        exec_module = spec.loader.exec_module
        spec.loader.exec_module = lambda module: finder.execute(module, exec_module)  # type: ignore[method-assign]
    return spec


class Finder:
    """Enters the launch once `timm.data` has been executed, and no module of this project is half executed."""

    def __init__(self) -> None:
        self.depth = 0
        self.executed = False

    def find_spec(self, name, path=None, target=None):
        """The spec that other finders have; for the modules that matter, with a loader that tells this finder."""
        if name != 'timm.data' and name.partition('.')[0] not in ('hmix_timm', 'train_patch'):
            return None
        return executed_by(self, (name, path, target))

    def execute(self, module, exec_module):
        """Executes a module that matters, and enters the launch if it is time."""
        self.depth += 1
        try:
            exec_module(module)
        finally:
            self.depth -= 1
        self.executed = self.executed or module.__name__ == 'timm.data'
        if self.executed and not self.depth and self in sys.meta_path:
            sys.meta_path.remove(self)
            self.enter()

    def enter(self) -> None:
        """Enters the launch, unless an inner `hmix-train` has taken it away."""
        if VARIABLE not in os.environ:
            return
        from importlib import import_module
        from importlib.util import find_spec

        if find_spec('train_patch') is None:
            sys.path.append(HOME)
        try:
            children = import_module('train_patch.launcher.children')
        except ImportError as error:
            raise SystemExit(f'hmix-train: error: {sys.executable} imports timm and cannot mix: {error}') from error
        children.enter()


started: set = set()
"""Programs that may train, which this process has started."""

_said: set = set()
_heard_by: list = []


def hear(event, args):
    """Called by Python at each of its audit events: looks at the programs that this process starts."""
    if event == 'os.system':
        _look([os.fsdecode(args[0])], None)
    elif event in ('subprocess.Popen', 'os.exec', 'os.posix_spawn'):
        _look([os.fsdecode(word) for word in args[1] or [args[0]]], args[-1])


def _look(command, environment):
    """Says that a program cannot be reached, by its command and the environment that it gets (None: the process's)."""
    import re

    words = ' '.join(command).split()
    names = [os.path.basename(word.strip('\'"')) for word in words]
    programs = [number for number, name in enumerate(names) if re.fullmatch(_PROGRAM, name)]
    shell_or_wrapper = len(command) == 1 or re.fullmatch(_WRAPPER, names[0])
    if not programs or not (programs[0] == 0 or shell_or_wrapper):
        return
    line = ' '.join(words)[:200]
    started.add(line)
    if '"asked": ""' in os.environ.get(VARIABLE, '"asked": ""') or {'hmix-train', 'train_patch'} & set(names):
        return
    given = os.environ if environment is None else environment
    kept = {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}
    reason = _isolating(words[programs[0] + 1 :]) if names[programs[0]].startswith('python') else ''
    if VARIABLE not in kept:
        reason = 'without ' + VARIABLE
    elif FOLDER not in kept.get('PYTHONPATH', '').split(os.pathsep):
        reason = 'with another PYTHONPATH'
    if reason and line not in _said:
        _said.add(line)
        sys.stderr.write(
            f'hmix-train: warning: out of reach, {reason}: {line}: if this trains, it mixes as if hmix-train were '
            'not there; start it with hmix-train\n'
        )


def reach(launch: str) -> None:
    """Has the Pythons that this process starts enter a launch, and says which it cannot reach.

    Args:
        launch: what they need to know, as a JSON object.
    """
    os.environ[VARIABLE] = launch
    before = os.environ.get('PYTHONPATH', '')
    if FOLDER not in before.split(os.pathsep):
        os.environ['PYTHONPATH'] = FOLDER + (os.pathsep + before if before else '')
    listen()


def listen() -> None:
    """Has Python call `hear` from now on."""
    if not _heard_by:
        _heard_by.append(hear)
        sys.addaudithook(hear)


def _isolating(words):
    """The option among Python's own that hides the environment or leaves `sitecustomize` out; '' without one."""
    words = iter(words)
    for word in words:
        if not word.startswith('-') or word in ('-', '-c', '-m'):
            break
        if word in ('-W', '-X'):
            next(words, None)
        elif not word.startswith(('-W', '-X', '--')):
            for letter in 'IES':
                if letter in word:
                    return 'by -' + letter
    return ''


if __name__ == 'sitecustomize':
    start()
