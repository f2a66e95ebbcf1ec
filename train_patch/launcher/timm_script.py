"""Putting the option group and the mixers into timm's train.py, without editing it.

timm's script imports its mixers from `timm.data`, most of them when it is executed and `NaFlexMixup` inside `main()`.
So `timm.data` gets the launch's classes first, then the script is executed as a module, then its parser gets the option
group. A script in which that would not take effect is refused.
"""

import importlib.util
import logging
import sys
from types import ModuleType
from typing import Any

import timm.data.naflex_loader

import hmix_timm

from ..common.errors import RunError
from ..data import cifar_networks as models  # noqa: F401  # registers the CIFAR networks
from ..data.crop import check_padding, declare_padding, padded_crop_loader
from ..mixing import Mixing, check_recipe_keys, declare, load_mix_families, read_mixing, remember_typed
from ..recipes.reader import find_recipe, read_recipe, shipped_recipes
from ..trainer.augmentation import check_augmentation
from .command_line import names_missing
from .first_process import is_first_process
from .in_loop import InLoopMixing
from .mixers import launch_class, put_in_place

_logger = logging.getLogger('train_patch')


def log_once(message: str) -> None:
    """Logs from the first process of a distributed run only."""
    if is_first_process():
        _logger.info(message)


class TimmScript:
    """timm's train.py as a module, and what its arguments resolved to.

    Executes the script with the project's mixers in place and patches its parser; does not run its `main()`. The
    script's arguments are those in `sys.argv`.

    Args:
        path: the script.

    Raises:
        RunError: the file is missing, is not timm's train.py or like it, or does not take its mixers from `timm.data`.
        SystemExit: the parser's, for a recipe that cannot be used.
    """

    def __init__(self, path: str) -> None:
        if missing := names_missing(path):
            raise RunError(f'{path} is not a timm train script: it has no {", ".join(missing)} at its top level')
        self.args: Any = None
        self.mixing: Mixing | None = None
        self.naflex_mixers: list[Any] = []
        bases = (hmix_timm.Mixup, hmix_timm.FastCollateMixup, hmix_timm.NaFlexMixup)
        mixers = {base.__name__: launch_class(base.__name__, base, self.slot_arguments, self.made) for base in bases}
        put_in_place(mixers)
        self.module = execute_module(path)
        for name in ('Mixup', 'FastCollateMixup'):
            if getattr(self.module, name) is not mixers[name]:
                raise RunError(f'{path} does not take {name} from timm.data, so mixing could not be replaced there')
        self.timms_parse_args = self.module.parser.parse_args
        self.timms_parse_all = self.module._parse_args
        self.timms_create_loader = self.module.create_loader
        self.timms_train_one_epoch = self.module.train_one_epoch
        self.prepare_parser()
        _let_naflex_loaders_say_whether_they_mix()

    def main(self) -> None:
        """Runs the script."""
        self.module.main()

    def slot_arguments(self) -> dict[str, Any]:
        """What the script does not pass to its mixers: which mask the CutMix slot draws."""
        assert self.mixing is not None
        return dict(self.mixing.mask)

    def made(self, mixer: Any, text: str) -> None:
        """Is told of each mixer that the script makes; one that leaves its work to the loop is not worth a word."""
        if self.mixing is not None and self.mixing.needs_model:
            return
        if isinstance(mixer, hmix_timm.NaFlexMixup):
            self.naflex_mixers.append(mixer)
        log_once(f'Mixing: {text}')

    def prepare_parser(self) -> None:
        """Adds the option groups to the script's parser, those of the families asked for too, and names the recipes."""
        parser = self.module.parser
        try:
            load_mix_families(sys.argv[1:], self.read_recipe())
            declare(parser)
            declare_padding(parser)
        except ValueError as error:
            parser.error(str(error))
        recipes = f'A recipe (-c, --config) may also be one of hmix-timm: {", ".join(shipped_recipes())}.'
        parser.epilog = ' '.join(filter(None, [parser.epilog, recipes]))
        parser.parse_args = self.parse_args
        self.module._parse_args = self.parse_all  # type: ignore[attr-defined]

    def read_recipe(self) -> dict[str, Any]:
        """The recipe that the command line names, which may be one of the package's; {} without one.

        Raises:
            ValueError: it cannot be read, or has a misspelt key of ours.
        """
        known, _ = self.module.config_parser.parse_known_args()
        if not known.config:
            return {}
        recipe = read_recipe(known.config)
        check_recipe_keys(recipe, known=[action.dest for action in self.module.parser._actions])
        return recipe

    def parse_all(self) -> Any:
        """`_parse_args` of the script, for which a recipe may be one of the package's."""
        known, remaining = self.module.config_parser.parse_known_args()
        if known.config:
            try:
                sys.argv = [sys.argv[0], '--config', str(find_recipe(known.config)), *remaining]
            except ValueError as error:
                self.module.parser.error(str(error))
        return self.timms_parse_all()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """`parser.parse_args` of the script, resolved: what it returns says what is really used."""
        parser = self.module.parser
        parsed = self.timms_parse_args(args, remember_typed(namespace))
        try:
            mixing = read_mixing(parser, parsed)
            check_padding(parsed)
            check_augmentation(parsed)
        except ValueError as error:
            parser.error(str(error))
        self.args, self.mixing = parsed, mixing
        self.patch_loop(mixing)
        if mixing.replaced:
            log_once(mixing.replaced)
        if not mixing.active:
            log_once('Mixing: none')
        return parsed

    def patch_loop(self, mixing: Mixing) -> None:
        """Puts what the arguments ask for around the script's functions."""
        create_loader = padded_crop_loader(self.timms_create_loader, self.args.train_padding)
        train_one_epoch = self.train_one_epoch
        if mixing.needs_model:
            in_loop = InLoopMixing(mixing, self.args, lambda mixer: log_once(f'Mixing: {mixer!r}'))
            create_loader = in_loop.around_create_loader(create_loader)
            train_one_epoch = in_loop.around_train_one_epoch(self.timms_train_one_epoch)
        self.module.create_loader = create_loader  # type: ignore[attr-defined]
        self.module.train_one_epoch = train_one_epoch  # type: ignore[attr-defined]

    def train_one_epoch(self, epoch: int, *args: Any, **kwargs: Any) -> Any:
        """`train_one_epoch` of the script, with --mixup-off-epoch for NaFlex mixers.

        timm's older scripts have no way to turn those off: with the prefetcher they ask the loader whether it mixes,
        which timm's NaFlex loader cannot answer.
        """
        off_epoch = self.args.mixup_off_epoch
        for mixer in self.naflex_mixers:
            mixer.mixup_enabled = not off_epoch or epoch < off_epoch
        return self.timms_train_one_epoch(epoch, *args, **kwargs)


def execute_module(path: str) -> ModuleType:
    """Executes a script as a module of its own."""
    spec = importlib.util.spec_from_file_location('timm_train_script', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _let_naflex_loaders_say_whether_they_mix() -> None:
    loader_class = timm.data.naflex_loader.NaFlexPrefetchLoader
    if not hasattr(loader_class, 'mixup_enabled'):
        loader_class.mixup_enabled = property(
            lambda loader: getattr(loader.loader.dataset.mixup_fn, 'mixup_enabled', False)
        )
