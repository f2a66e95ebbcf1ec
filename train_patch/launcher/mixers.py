"""The mixers that a launched script makes: classes made for one launch, and put where scripts look for timm's."""

import inspect
import sys
from collections.abc import Callable, Mapping
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
    """A mixer that leaves a file when it is called: collate functions are called in the processes of loader workers."""

    witness = ''

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.witness:
            Path(self.witness).touch()
            self.witness = ''
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class WitnessedMixup(Witnessed, hmix_timm.Mixup):
    """`hmix_timm.Mixup` that leaves a file when it is called."""


class WitnessedFastCollateMixup(Witnessed, hmix_timm.FastCollateMixup):
    """`hmix_timm.FastCollateMixup` that leaves a file when it is called."""


def launch_class(
    name: str, base: Any, arguments: Callable[[], Mapping[str, Any]], made: Callable[[Any, str], object]
) -> type:
    """A subclass of a mixer in whose constructor the launch has its say.

    Scripts can derive from it as from timm's class. Instances are pickled and copied as instances of `base`, which
    every process can import.

    Args:
        name: name of the class, timm's.
        base: a mixer at the top level of its module.
        arguments: gives the constructor arguments that replace the script's; asked at each construction.
        made: is told of each instance, with its repr as the mixer that it is.
    """
    signature = inspect.signature(base)

    class LaunchMixer(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            replaced = dict(arguments())
            bound.arguments.update({name: replaced.pop(name) for name in signature.parameters if name in replaced})
            try:
                super().__init__(*bound.args, **bound.kwargs, **replaced)
            except ValueError as error:
                if not arguments():
                    raise
                raise RunError(f"the script's {name} cannot mix as asked: {error}") from error
            made(self, base.__repr__(self))

        def __reduce_ex__(self, protocol: Any) -> Any:
            if type(self) is not LaunchMixer:  # a script's own subclass, which pickles as it stands there
                return super().__reduce_ex__(protocol)
            return _new, (base,), dict(vars(self))

    LaunchMixer.__name__ = LaunchMixer.__qualname__ = name
    LaunchMixer.__doc__ = base.__doc__
    return LaunchMixer


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


def put_in_place(classes: Mapping[str, type]) -> None:
    """Has scripts that import timm's mixers from now on get these classes, by their names in `HOMES`."""
    for name, mixer in classes.items():
        for home in HOMES[name]:
            setattr(sys.modules[home], name, mixer)
