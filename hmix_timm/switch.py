"""An on/off switch that loader workers see while they run."""

from typing import Any

import torch


class SharedSwitch:
    """Gives a mixer a `mixup_enabled` that lives in shared memory.

    timm keeps loader workers alive over epochs, each with its own copy of the mixer, so that a plain attribute set in
    the training process never reaches them. The flag is a one-byte tensor in shared memory: forked workers inherit
    it, and torch's pickler hands it on to spawned and forkserver workers as the same memory. A copy made by `pickle`
    or `copy` gets a flag of its own.
    """

    _enabled: torch.Tensor

    @property
    def mixup_enabled(self) -> bool:
        """Whether batches are mixed; setting it takes effect in every process that holds this mixer."""
        return bool(self._enabled.item())

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        if '_enabled' not in self.__dict__:
            self._enabled = torch.zeros(1, dtype=torch.uint8, device='cpu').share_memory_()
        self._enabled.fill_(bool(enabled))

    def __copy__(self) -> Any:
        other = object.__new__(type(self))
        other.__setstate__({**vars(self), '_enabled': self._enabled.clone()})
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._enabled.is_shared():
            self._enabled = self._enabled.clone().share_memory_()
