"""Puts the option group and the mixers into timm's train.py, without editing it.

timm's script imports its mixers from `timm.data`, most of them when it is executed and `NaFlexMixup` inside `main()`.
So `timm.data` gets the launch's classes first, then the script is executed as a module, then its parser gets the option
group. A script in which that would have no effect is refused.
"""

import importlib.util
import logging
import sys
from types import ModuleType
from typing import Any

import hmix_timm

from ..common.errors import WrongArguments, wrong_arguments
from ..data.crop import check_padding, declare_padding, padded_crop_loader
from ..mixing import Mixing, check_recipe_keys, declare, load_mix_families, read_mixing, remember_typed
from ..recipes.reader import find_recipe, read_recipe, shipped_recipes
from .command_line import names_missing
from .in_loop import InLoopMixing, with_arguments
from .mixers import put_in_place
from .watch import rank

_logger = logging.getLogger('train_patch')


class TimmScript:
    """timm's train.py as a module, and the arguments that it was given, resolved.

    Executes the script with the project's mixers in place and patches its parser; does not run its `main()`. The
    script's arguments are those in `sys.argv`.

    Args:
        path: the script.

    Raises:
        WrongArguments: the file is missing, is not timm's train.py or like it, does not take its mixers from
            `timm.data`, or its recipe cannot be used.
    """

    def __init__(self, path: str) -> None:
        if missing := names_missing(path):
            raise WrongArguments(f'{path} is not a timm train script: it has no {", ".join(missing)} at its top level')
        self.mixing = Mixing({'mix_mode': None})
        self.mixers: list[Any] = []
        bases: list[type] = [hmix_timm.Mixup, hmix_timm.FastCollateMixup]
        self.naflex_problem: ImportError | None = None
        try:
            bases.append(hmix_timm.NaFlexMixup)
        except ImportError as error:
            self.naflex_problem = error
        # the script passes all that it has options for
        mixers = put_in_place(bases, lambda: self.mixing.mask, self.made)
        self.module = execute_module(path)
        for name in ('Mixup', 'FastCollateMixup'):
            if getattr(self.module, name) is not mixers[name]:
                raise WrongArguments(f'{path} does not take {name} from timm.data, so mixing cannot be replaced there')
        self.timms_parse_args = self.module.parser.parse_args
        self.timms_create_loader = self.module.create_loader
        self.timms_train_one_epoch = self.module.train_one_epoch
        with wrong_arguments():
            self.prepare_parser()
        let_naflex_loaders_be_asked_whether_they_mix()

    def made(self, mixer: Any, text: str = '') -> None:
        """Remembers a mixer and logs it, except those that the script makes beside PuzzleMix, which are not used."""
        if isinstance(mixer, hmix_timm.PuzzleMix) or not self.mixing.needs_model:
            self.mixers.append(mixer)
            log_once(f'Mixing: {text or repr(mixer)}')

    def prepare_parser(self) -> None:
        """Adds the option groups to the script's parser, and lets a recipe be one of the package's.

        Raises:
            ValueError: the recipe or a file of families cannot be used.
        """
        parser, config_parser = self.module.parser, self.module.config_parser
        name = config_parser.parse_known_args()[0].config
        recipe = read_recipe(name) if name else {}
        load_mix_families(sys.argv[1:], recipe)
        declare(parser)
        declare_padding(parser)
        check_recipe_keys(recipe, known=[action.dest for action in parser._actions])
        for action in config_parser._actions:
            if action.dest == 'config':  # the script's own parsing finds the file, however the option is written
                action.type = lambda word: str(find_recipe(word)) if word else word
        recipes = f'A recipe (-c, --config) may also be one of hmix-timm: {", ".join(shipped_recipes())}.'
        parser.epilog = ' '.join(filter(None, [parser.epilog, recipes]))
        parser.parse_args = self.parse_args

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """`parser.parse_args` of the script; the arguments that it returns are resolved, and hold for the run.

        Raises:
            WrongArguments: a value is wrong, or cannot go with another.
        """
        parsed = self.timms_parse_args(args, remember_typed(namespace))
        with wrong_arguments():
            self.mixing = read_mixing(self.module.parser, parsed)
            check_padding(parsed)
            _check_augmentation(parsed)
            if self.naflex_problem and getattr(parsed, 'naflex_loader', False) and self.mixing.active:
                raise ValueError(f'--naflex-loader cannot go with mixing: {self.naflex_problem}')
        if any(str(getattr(parsed, dest, '')).startswith('cifar_') for dest in ('model', 'kd_model_name')):
            from ..data import cifar_networks as models  # noqa: F401  # registers them
        self.patch_loop(parsed)
        if self.mixing.replaced:
            log_once(self.mixing.replaced)
        if not self.mixing.active:
            log_once('Mixing: none')
        return parsed

    def patch_loop(self, args: Any) -> None:
        """Wraps the script's functions as its arguments ask for."""
        create_loader = padded_crop_loader(self.timms_create_loader, args.train_padding)
        train_one_epoch = self.timms_train_one_epoch
        if self.mixing.needs_model:
            in_loop = InLoopMixing(self.mixing, args, self.made)
            create_loader = with_arguments(create_loader, in_loop.collate_only)
            train_one_epoch = with_arguments(train_one_epoch, in_loop.mix)

        def turning_off(epoch: int, *words: Any, **more: Any) -> Any:
            # timm's scripts turn off neither NaFlex mixers nor ours in the loop
            if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
                for mixer in self.mixers:
                    mixer.mixup_enabled = False
            return train_one_epoch(epoch, *words, **more)

        self.module.create_loader = create_loader  # type: ignore[attr-defined]
        self.module.train_one_epoch = turning_off  # type: ignore[attr-defined]


def execute_module(path: str) -> ModuleType:
    """Executes a script as a module of its own."""
    spec = importlib.util.spec_from_file_location('timm_train_script', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def log_once(message: str) -> None:
    """Logs from the first process of a distributed run only."""
    if rank() == 0:
        _logger.info(message)


def _check_augmentation(args: Any) -> None:
    """Checks --aa ahead, unless a newer timm has taken away a private name that the check needs."""
    try:
        from ..trainer.augmentation import check_augmentation
    except ImportError:
        return
    check_augmentation(args)


def let_naflex_loaders_be_asked_whether_they_mix() -> None:
    """Makes timm's NaFlex loaders answer the question that timm's older scripts ask of every loader."""
    loader_class = getattr(sys.modules.get('timm.data.naflex_loader'), 'NaFlexPrefetchLoader', None)
    if loader_class is not None and not hasattr(loader_class, 'mixup_enabled'):
        loader_class.mixup_enabled = False
