"""The mixers of a launched script: classes made for one launch, and put where scripts look for timm's."""

import abc
import functools
import importlib
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

import numpy as np

import hmix_timm
from hmix_timm.families import FAMILIES

from ..common.errors import RunError
from .witness import MADE, MIXED, PROBLEM, leave

HOMES = {
    'Mixup': ('timm.data', 'timm.data.mixup'),
    'FastCollateMixup': ('timm.data', 'timm.data.mixup'),
    'NaFlexMixup': ('timm.data', 'timm.data.naflex_mixup'),
}
"""timm's mixers → modules that scripts import them from."""

HOOKS = [f'_mix_{mode}{collate}' for mode in ('batch', 'pair', 'elem') for collate in ('', '_collate')]

_owing: dict[int, tuple['Witnessed', str, int]] = {}
"""Mixers of this process whose λ was drawn and no mask after it, each with the method and the thread that called it."""


def owe(mixer: Any, method: str) -> None:
    """Notes that a method has drawn what a mask is to follow."""
    _owing[id(mixer)] = mixer, method, threading.get_ident()


def paid(mixer: Any) -> bool:
    """Notes that the mask was applied; says whether it was still to come."""
    return _owing.pop(id(mixer), None) is not None


class Witnessed:
    """A mixer that leaves facts, in whichever process: a mask was applied, or somebody mixed without one.

    `_draw_batch` and `_draw_each` are called by the `_mix_…` methods alone, which apply the masks at once.
    """

    witness = ''
    _asked: Mapping[str, Any] = {}
    family = FAMILIES['bbox']  # of a subclass that does not call our constructor
    _times_drawn = _times_masked = 0
    _judged = 0, 0
    _slot_draws = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if '__call__' in vars(cls):
            cls.__call__ = _judged(cls.__call__)  # type: ignore[method-assign]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        leave(self.witness, MADE)  # in the process that gets it, too

    def _params_per_batch(self) -> Any:
        return self._owe('_params_per_batch', super()._params_per_batch())  # type: ignore[misc]

    def _params_per_elem(self, batch_size: int) -> Any:
        return self._owe('_params_per_elem', super()._params_per_elem(batch_size))  # type: ignore[misc]

    def _owe(self, method: str, drawn: tuple[Any, Any]) -> tuple[Any, Any]:
        if np.any(drawn[0] != 1.0):
            owe(self, method)
        return drawn

    def draw_mask(self, *args: Any, **kwargs: Any) -> Any:
        self._slot_draws += 1
        return super().draw_mask(*args, **kwargs)  # type: ignore[misc]

    def _draw_batch(self, *args: Any, **kwargs: Any) -> Any:
        mask, lam = super()._draw_batch(*args, **kwargs)  # type: ignore[misc]
        self._drew([mask])
        return mask, lam

    def _draw_each(self, *args: Any, **kwargs: Any) -> Any:
        masks, lam = super()._draw_each(*args, **kwargs)  # type: ignore[misc]
        self._drew(masks)
        return masks, lam

    def _drew(self, masks: Sequence[Any]) -> None:
        paid(self)
        masked = len({id(mask) for mask in masks if mask is not None})
        if masked and (problem := self._strayed(masked)):
            leave(self.witness, PROBLEM, f'{name_of(type(self))} {problem}')
        self._slot_draws = 0
        self._times_drawn += 1
        self._times_masked += bool(masked)
        if masked and self._times_masked == 1:
            if unmade := without_constructor(self):
                leave(self.witness, PROBLEM, unmade)
            leave(self.witness, MIXED)

    def _strayed(self, count: int) -> str:
        """Says how a script has left what was asked for, by attributes or by its own choice of the slot of a mask."""
        now = {name: getattr(self, name) for name in self._asked}
        if changed := [f'{name}={value!r}' for name, value in now.items() if value != self._asked[name]]:
            return f'was set to {", ".join(changed)} after it was made'
        for name, others in (('mixup_alpha', count - self._slot_draws), ('cutmix_alpha', self._slot_draws)):
            if now.get(name) == 0 and others > 0:
                return f'mixes by the slot that {name}=0 turns off'
        return ''

    def _mixed_target(self, target: Any, lam: Any) -> Any:
        (draws, masks), self._judged = self._judged, (self._times_drawn, self._times_masked)
        # a tensor may be on a device, and is looked at only where no hook of ours has made it
        passed_by = masks == self._times_masked and (draws == self._times_drawn or isinstance(lam, float))
        if passed_by and own_hook(self) and (lam != 1 if isinstance(lam, float) else (lam != 1).any()):
            leave(self.witness, PROBLEM, by_itself(self, hook_name(self)))
        return super()._mixed_target(target, lam)  # type: ignore[misc]


class Mixup(Witnessed, hmix_timm.Mixup):
    """`hmix_timm.Mixup` that leaves facts."""


class FastCollateMixup(Witnessed, hmix_timm.FastCollateMixup):
    """`hmix_timm.FastCollateMixup` that leaves facts."""


def _judged(call: Callable[..., Any]) -> Callable[..., Any]:
    """A script's own `__call__`, which is said to mix by itself if it draws λ and applies no mask of ours."""

    @functools.wraps(call)
    def judged(self: Witnessed, *args: Any, **kwargs: Any) -> Any:
        masks = self._times_masked
        result = call(self, *args, **kwargs)
        if paid(self) and self._times_masked == masks:
            leave(self.witness, PROBLEM, by_itself(self, '__call__'))
        return result

    return judged


def judge_drawn() -> None:
    """Leaves the fact of each mixer whose λ this thread has drawn, and mixed without a mask of ours."""
    for key, (mixer, method, thread) in list(_owing.items()):
        if thread == threading.get_ident():  # another one may be about to apply its mask
            del _owing[key]
            leave(mixer.witness, PROBLEM, by_itself(mixer, method))


def by_itself(mixer: Witnessed, method: str) -> str:
    """Says that a mixer mixes by itself, in a method."""
    return f'{name_of(type(mixer))}.{method} mixes by itself: no mask of hmix-timm is applied there'


def name_of(kind: type) -> str:
    """A class in messages: '__main__.RecordingMixup'; ours have no module."""
    return (
        kind.__qualname__
        if kind.__module__.startswith((str(__package__), 'timm.data.mixup'))
        else f'{kind.__module__}.{kind.__qualname__}'
    )


def without_constructor(mixer: Witnessed) -> str:
    """Says that a mixer's class does not call our constructor; '' if it does."""
    if 'witness' in vars(mixer):
        return ''
    return f'{name_of(type(mixer))} mixes as its own attributes say: its __init__ does not call super().__init__()'


def hook_name(mixer: Any) -> str:
    """The method that mixes in a mixer's mode."""
    mode = getattr(mixer, 'mode', 'batch')
    if isinstance(mixer, hmix_timm.FastCollateMixup):
        return {'batch': '_mix_batch_collate', 'pair': '_mix_pair_collate'}.get(mode, '_mix_elem_collate')
    return {'pair': '_mix_pair', 'elem': '_mix_elem'}.get(mode, '_mix_batch')


def own_hook(mixer: Any) -> Any:
    """The script's method in the place of ours that mixes in a mixer's mode; None if it is ours."""
    hook = getattr(mixer, hook_name(mixer), None)  # torchvision's have none
    hook = getattr(hook, '__func__', hook)
    ours = str(getattr(hook, '__module__', '')).partition('.')[0] in ('hmix_timm', 'train_patch')
    return None if ours else hook


def cannot_reach(mixer: Any) -> str:
    """Says that the script's method cannot reach ours: it names neither `super` nor one of our hooks; '' if it may."""
    hook = own_hook(mixer)
    if hook is None or _reaches(type(mixer), hook, set()):
        return ''
    return by_itself(mixer, hook_name(mixer))


def _reaches(kind: type, function: Any, seen: set[str]) -> bool:
    code = getattr(inspect.unwrap(function), '__code__', None)
    if code is None:
        return True
    names = _names(code) - seen
    if names & {'super', *HOOKS}:
        return True
    helpers = {name: vars(owner)[name] for owner in kind.__mro__ for name in names if name in vars(owner)}
    own = [(n, f) for n, f in helpers.items() if isinstance(f, FunctionType) and not hasattr(FastCollateMixup, n)]
    return any(_reaches(kind, helper, seen | names) for _, helper in own)


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def launch_class(base: Any, overrides: Callable[[], Mapping[str, Any]], made: Callable[[Any, str], object]) -> type:
    """A mixer whose constructor applies the launch's overrides.

    Scripts can derive from it as from timm's class. Instances are pickled and copied as instances of `base`, which
    every process can import.

    Args:
        base: a mixer at the top level of its module.
        overrides: gives the constructor arguments that replace the script's; called at each construction.
        made: is called with each instance, and its repr as the mixer that it is.
    """
    signature = inspect.signature(base)

    class Launched(abc.ABCMeta):  # that of a script's class that is abstract, too
        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, base) if cls is LaunchMixer else super().__instancecheck__(thing)

    class LaunchMixer(base, metaclass=Launched):
        @functools.wraps(base.__init__)  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            ours = overrides()
            bound.arguments |= {name: value for name, value in ours.items() if name in signature.parameters}
            others = {name: value for name, value in ours.items() if name not in signature.parameters}
            try:
                super().__init__(*bound.args, **{**bound.kwargs, **others})
            except ValueError as error:
                if not ours:
                    raise
                raise RunError(f"the script's {base.__name__} cannot mix as asked: {error}") from error
            names = ('mix_prob' if name == 'prob' else name for name in ours)
            self._asked = {name: getattr(self, name) for name in names if hasattr(self, name)}
            made(self, base.__repr__(self))

        def __reduce_ex__(self, protocol: Any) -> Any:
            if type(self) is not LaunchMixer:  # a script's own subclass, which pickles as it stands there
                return super().__reduce_ex__(protocol)
            return object.__new__, (base,), dict(vars(self))

    LaunchMixer.__name__ = LaunchMixer.__qualname__ = base.__name__
    LaunchMixer.__module__ = HOMES[base.__name__][-1]  # where every process finds its own: cloudpickle would copy it
    LaunchMixer.__doc__ = base.__doc__
    return LaunchMixer


def put_in_place(
    bases: Iterable[type], overrides: Callable[[], Mapping[str, Any]], made: Callable[[Any, str], object]
) -> dict[str, type]:
    """Makes `launch_class`es and puts them where scripts import timm's mixers from; returns them by name."""
    classes = {base.__name__: launch_class(base, overrides, made) for base in bases}
    for name, mixer in classes.items():
        for home in HOMES[name]:
            setattr(importlib.import_module(home), name, mixer)
    return classes
