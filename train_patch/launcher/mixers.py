"""The mixers of a launched script: classes made for one launch, and put where scripts look for timm's."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import hmix_timm

from ..common.errors import RunError

HOMES = {
    'Mixup': ('timm.data', 'timm.data.mixup'),
    'FastCollateMixup': ('timm.data', 'timm.data.mixup'),
    'NaFlexMixup': ('timm.data', 'timm.data.naflex_mixup'),
}
"""timm's mixers → modules that scripts import them from."""


class Witnessed:
    """A mixer that leaves a file when it is called, since loader workers call collate functions in other processes."""

    witness = ''

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.witness:
            Path(self.witness).touch()
            self.witness = ''
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class Mixup(Witnessed, hmix_timm.Mixup):
    """`hmix_timm.Mixup` that leaves a file when it is called."""


class FastCollateMixup(Witnessed, hmix_timm.FastCollateMixup):
    """`hmix_timm.FastCollateMixup` that leaves a file when it is called."""


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

    class LaunchMixer(base):
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
            made(self, base.__repr__(self))

        def __reduce_ex__(self, protocol: Any) -> Any:
            if type(self) is not LaunchMixer:  # a script's own subclass, which pickles as it stands there
                return super().__reduce_ex__(protocol)
            return object.__new__, (base,), dict(vars(self))

    LaunchMixer.__name__ = LaunchMixer.__qualname__ = base.__name__
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
