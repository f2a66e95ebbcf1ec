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


class Finder:
    """Enters the launch once `timm.data` has been executed, and no module of this project is half executed."""

    def __init__(self) -> None:
        self.depth = 0
        self.executed = False

    def find_spec(self, name, path=None, target=None):
        """The spec that other finders have; for the modules that matter, with a loader that tells this finder."""
        if name != 'timm.data' and name.partition('.')[0] not in ('hmix_timm', 'train_patch'):
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, 'find_spec')]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            self.depth += 1
            try:
                execute(module)
            finally:
                self.depth -= 1
            self.executed = self.executed or name == 'timm.data'
            if self.executed and not self.depth and self in sys.meta_path:
                sys.meta_path.remove(self)
                self.enter()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

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


class Starts:
    """An audit hook that looks at the programs that this process starts, and says which cannot be reached."""

    started = False
    """Whether this process has started a program that may train."""

    listening = False

    def __init__(self) -> None:
        self.said: set = set()

    def __call__(self, event, args):
        """Called by Python, at each of its audit events."""
        if event == 'subprocess.Popen' or event in ('os.exec', 'os.posix_spawn', 'os.system'):
            if event == 'os.system':
                self.look([os.fsdecode(args[0])], None)
            else:
                words = args[1] if event != 'subprocess.Popen' or args[1] else [args[0]]
                self.look([os.fsdecode(word) for word in words], args[-1])

    def look(self, command, environment):
        """Looks at a command and the environment that it gets (None: that of this process)."""
        import re

        words = ' '.join(command).split()
        names = [os.path.basename(word.strip('\'"')) for word in words]
        programs = [number for number, name in enumerate(names) if re.fullmatch(_PROGRAM, name)]
        shell_or_wrapper = len(command) == 1 or re.fullmatch(_WRAPPER, names[0])
        if not programs or not (programs[0] == 0 or shell_or_wrapper):
            return
        Starts.started = True
        if '"asked": ""' in os.environ.get(VARIABLE, '"asked": ""') or {'hmix-train', 'train_patch'} & set(names):
            return
        given = os.environ if environment is None else environment
        kept = {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}
        reason = _isolating(words[programs[0] + 1 :]) if names[programs[0]].startswith('python') else ''
        if VARIABLE not in kept:
            reason = 'without ' + VARIABLE
        elif FOLDER not in kept.get('PYTHONPATH', '').split(os.pathsep):
            reason = 'with another PYTHONPATH'
        line = ' '.join(words)[:200]
        if reason and line not in self.said:
            self.said.add(line)
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
    """Has Python call `Starts` from now on."""
    if not Starts.listening:
        Starts.listening = True
        sys.addaudithook(Starts())


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
