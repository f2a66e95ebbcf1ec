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

    def around_create_loader(self, create_loader: Callable[..., Any]) -> Callable[..., Any]:
        """`create_loader` whose training loader only collates; makes the mixer, which must know how it normalizes."""
        signature = inspect.signature(create_loader)

        @functools.wraps(create_loader)
        def collating(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = bound.arguments
            if values['is_training']:
                values['collate_fn'] = None
                self.mixer = self.mixing.puzzle(None, values['std'], self.args.num_classes)
                choices = values.get('input_size_choices')  # of a newer timm
                try:
                    for size in [(side, side) for side in choices or ()] or [values['input_size'][-2:]]:
                        self.mixer.check_size(*size)
                except ValueError as error:
                    asked = f'{self.mixing.asked} with --train-img-sizes' if choices else self.mixing.asked
                    raise RunError(f'{asked}: {error}') from error
                self.made(self.mixer)
            return create_loader(*bound.args, **bound.kwargs)

        return collating

    def around_train_one_epoch(self, train_one_epoch: Callable[..., Any]) -> Callable[..., Any]:
        """`train_one_epoch` whose batches are mixed."""
        signature = inspect.signature(train_one_epoch)

        @functools.wraps(train_one_epoch)
        def mixing(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            values = bound.arguments
            self.mixer.saliency = self.mixer.saliency or input_gradient(values['model'], values.get('amp_autocast'))
            if self.args.no_prefetcher:
                values['mixup_fn'] = self.mixer
            else:
                values['loader'] = MixedLoader(values['loader'], self.mixer)
            return train_one_epoch(*bound.args, **bound.kwargs)

        return mixing
