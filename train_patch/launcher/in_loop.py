"""Mixes in the training loop of timm's script, for the mix modes that ask the model: PuzzleMix.

timm's script makes its mixers before its model is ready, and with the prefetcher mixes in the loader's workers. So the
loader only collates here, and `train_one_epoch`, which has model and loader, gets our mixer in place of the script's;
with the prefetcher, it gets a loader that mixes each batch on the device, after normalization.
"""

import argparse
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from hmix_timm import PuzzleMix, input_gradient

from ..common.errors import RunError
from ..mixing import Mixing


class MixedLoader:
    """A loader whose batches are mixed as they come; in all else it is the loader."""

    def __init__(self, loader: Any, mixer: PuzzleMix) -> None:
        self._loader = loader
        self._mixer = mixer

    def __iter__(self) -> Iterator[Any]:
        for images, target in self._loader:
            yield self._mixer(images, target)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class InLoopMixing:
    """The mixing of one run of timm's script.

    Args:
        mixing: how the script is to mix.
        args: the script's, resolved.
        made: is called with the mixer.
    """

    def __init__(self, mixing: Mixing, args: argparse.Namespace, made: Callable[[PuzzleMix], object]) -> None:
        self.mixing = mixing
        self.args = args
        self.made = made
        self.mixer: Any = None

    def collate_only(self, loading: dict[str, Any]) -> None:
        """Changes the arguments of `create_loader`; makes the mixer, which must know how a loader normalizes."""
        if not loading['is_training']:
            return
        loading['collate_fn'] = None
        self.mixer = self.mixing.puzzle(None, loading['std'], self.args.num_classes)
        choices = loading.get('input_size_choices')  # of a newer timm
        try:
            for size in [(side, side) for side in choices or ()] or [loading['input_size'][-2:]]:
                self.mixer.check_size(*size)
        except ValueError as error:
            asked = f'{self.mixing.asked} with --train-img-sizes' if choices else self.mixing.asked
            raise RunError(f'{asked}: {error}') from error
        self.made(self.mixer)

    def mix(self, training: dict[str, Any]) -> None:
        """Changes the arguments of `train_one_epoch`, so that its batches are mixed."""
        self.mixer.saliency = self.mixer.saliency or input_gradient(training['model'], training.get('amp_autocast'))
        if self.args.no_prefetcher:
            training['mixup_fn'] = self.mixer
        else:
            training['loader'] = MixedLoader(training['loader'], self.mixer)


def with_arguments(function: Callable[..., Any], change: Callable[[dict[str, Any]], object]) -> Callable[..., Any]:
    """A function of timm's script whose arguments, by their names, are changed at each call."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def changed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        change(bound.arguments)
        return function(*bound.args, **bound.kwargs)

    return changed
