"""Mixers that are not timm's: a second one beside timm's, a copy of timm's, one of a library."""

import functools
import gc
import importlib.abc
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

import hmix_timm
from hmix_timm import private
from hmix_timm.families import Slot

from .mixers import Witnessed, without_constructor
from .site.sitecustomize import executed_by

_MIXER = re.compile('mixup|cutmix', re.IGNORECASE)
_NO_MIXER = re.compile('loss|criterion|entropy', re.IGNORECASE)


refused: set[str] = set()
"""Reasons for which this process was stopped."""


def stop(message: str) -> NoReturn:
    """Ends the process with an error, said once, by no exception that a script would catch and continue from."""
    if message not in refused:
        refused.add(message)
        sys.stderr.write(f'hmix-train: error: {message}\n')
    raise SystemExit(1)


def notice_boxes(found: Callable[[str], object]) -> None:
    """Calls `found` with a sentence when code that is neither timm's nor ours has timm draw a CutMix box."""

    def around(timms: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(timms)
        def box(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)
            if not _is_of_the_mixers(caller):
                where = f'{caller.f_code.co_filename}, line {caller.f_lineno}'
                found(f"a second mixer cuts boxes by timm's {timms.__name__} ({where})")
            return timms(*args, **kwargs)

        return box

    private.put_before_boxes(around)


def _is_of_the_mixers(frame: FrameType | None) -> bool:
    """Whether a frame is of timm or hmix_timm, or of a user's family or box function that draws one of our masks."""
    if frame and frame.f_globals.get('__name__', '').partition('.')[0] in ('timm', 'hmix_timm'):
        return True
    while frame and frame.f_code is not Slot.draw_mask.__code__:
        frame = frame.f_back
    return frame is not None


class Replacing(importlib.abc.MetaPathFinder):
    """Puts our mixer in the place of a copy of timm's, right after the copy's module has been executed.

    Args:
        copy: 'module:Class'.
        ours: our classes by the names of timm's.
        transform: makes ours in the place of a copy of torchvision's.
    """

    def __init__(self, copy: str, ours: dict[str, type], transform: Callable[[type, str], type]) -> None:
        self.module, _, self.name = copy.partition(':')
        self.copy, self.ours, self.transform = copy, ours, transform
        self.done = False
        sys.meta_path.insert(0, self)
        if self.module in sys.modules:
            self.replace(sys.modules[self.module])

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders have, with a loader that replaces the class."""
        return executed_by(self, (fullname, path, target)) if fullname == self.module else None

    def execute(self, module: ModuleType, exec_module: Callable[[ModuleType], object]) -> None:
        """Executes the module, and replaces the class."""
        exec_module(module)
        self.replace(module)

    def replace(self, module: ModuleType) -> None:
        """Replaces the class in its module; ends the process if ours cannot take its place."""
        copy = getattr(module, self.name, None)
        if not isinstance(copy, type):
            stop(f'--mixer {self.copy}: {module.__file__} has no class {self.name}')
        if different := difference(copy):
            stop(f'--mixer {self.copy}: it is no copy of a mixer of timm: {different}')
        setattr(module, self.name, self.transform(copy, self.module) if _is_transform(copy) else self.ours[_kind(copy)])
        self.done = True


def _kind(copy: type) -> str:
    return 'FastCollateMixup' if hasattr(copy, '_mix_batch_collate') else 'Mixup'


def _is_transform(copy: type) -> bool:
    """Whether a class takes the arguments of torchvision's `MixUp`, or those that its reference scripts have."""
    names = {*inspect.signature(copy).parameters}
    return hasattr(copy, 'forward') and {'alpha', 'num_classes'} <= names <= {
        'alpha',
        'num_classes',
        'labels_getter',
        'p',
        'inplace',
    }


def difference(copy: type) -> str:
    """Says what of a class differs from timm's mixer, as its user sees it; '' if ours can take its place."""
    if _is_transform(copy):
        return ''
    base = getattr(hmix_timm, _kind(copy))
    for method in ('__init__', '__call__'):
        its, ours = (list(inspect.signature(getattr(kind, method)).parameters) for kind in (copy, base))
        if method == '__init__':
            ours = ours[: ours.index('num_classes') + 1]
        if its != ours[: len(its)] or len(its) < (3 if method == '__init__' else 2):
            return f'its {method} takes {", ".join(its[1:])}, and not {", ".join(ours[1:])}'
    return ''


def mixers_of_others() -> Iterator[str]:
    """Says by which objects a script may mix: those of other classes that are named like mixers."""
    things = gc.get_objects()
    for thing in things:
        # of the type alone: some objects warn when they are asked
        if issubclass(type(thing), Witnessed) and (unmade := without_constructor(thing)):
            yield unmade
    for kind in filter(_is_mixer, dict.fromkeys(map(type, things))):
        instead = f'--mixer {kind.__module__}:{kind.__qualname__} puts ours in its place'
        if kind.__module__ == '__main__' or kind.__module__.startswith('hmix_timm.') or difference(kind):
            instead = 'import Mixup from timm.data in its place'
        elif kind.__module__.startswith('torchvision.'):
            instead = '--mix-mode puts ours in its place'
        yield f"it mixes by {_file_of(kind)}: class {kind.__qualname__}, which is not timm's; {instead}"


def _is_mixer(kind: type) -> bool:
    package = str(kind.__module__).partition('.')[0]
    named = _MIXER.search(kind.__name__) and not _NO_MIXER.search(kind.__name__)
    own = package not in ('timm', 'train_patch') and not issubclass(kind, Witnessed)
    return bool(named) and own and any('__call__' in vars(base) for base in kind.__mro__)


def _file_of(thing: Any) -> str:
    """The file of a class or function, below the script's folder where it is there."""
    path = Path(getattr(sys.modules.get(thing.__module__), '__file__', None) or thing.__module__)
    return str(path.relative_to(sys.path[0])) if path.is_relative_to(sys.path[0]) else thing.__module__
