"""Whether a mixer was called: asked before the first step and at the end, with what is said where none was."""

import argparse
import re

import pytest
import torch

from train_patch.common.errors import RunError
from train_patch.launcher import watch as module
from train_patch.launcher.watch import Watch


@pytest.fixture
def hooks(monkeypatch):
    """Hooks that torch is given, taken back afterwards."""
    handles = []
    register = module.register_optimizer_step_pre_hook
    monkeypatch.setattr(
        module, 'register_optimizer_step_pre_hook', lambda hook: handles.append(register(hook)) or handles[-1]
    )
    yield handles
    for handle in handles:
        handle.remove()


@pytest.fixture
def watch(tmp_path, hooks):
    """watch('--mix-mode hmix') → a Watch, what it says being in `watch.said`."""

    def make(asked):
        said = []
        made = Watch('main.py', asked, str(tmp_path / 'called'), said.append)
        made.said = said
        return made

    return make


def step():
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    torch.optim.SGD([weight], lr=1.0).step()
    return float(weight.detach())


def test_a_step_before_any_mixer_was_called_is_not_made(watch):
    asked = watch('--mix-mode hmix')
    asked.start()
    with pytest.raises(SystemExit) as ended:
        step()
    text = 'hmix-train: error: main.py is about to train without --mix-mode hmix: no mixer was called before its first '
    assert ended.value.code.startswith(f'{text}optimizer step; it made none: ')
    assert asked.said == []


def test_steps_after_a_mixer_was_called_are_made(watch, tmp_path):
    asked = watch('--mix-mode hmix')
    asked.start()
    (tmp_path / 'called').touch()
    assert step() == -1.0
    (tmp_path / 'called').unlink()
    assert step() == -1.0  # only the first one is asked about
    assert asked.said == []


def test_where_nothing_was_asked_for_it_is_said_once(watch):
    nothing = watch('')
    nothing.start()
    assert [step(), step()] == [-1.0, -1.0]
    assert nothing.said == ['Mixing: none: main.py has called no mixer']


def test_where_a_mixer_was_called_nothing_is_said(watch, tmp_path):
    nothing = watch('')
    nothing.start()
    (tmp_path / 'called').touch()
    assert step() == -1.0 and nothing.said == []


@pytest.mark.parametrize(
    ('asked', 'called', 'by_a_parser', 'refused'),
    [
        ('--mix-mode hmix', False, False, True),
        ('--mix-mode hmix', True, False, False),
        ('--mix-mode hmix', False, True, False),
        ('', False, False, False),
    ],
)
def test_a_script_that_ends_without_what_was_asked_for_has_failed(watch, tmp_path, asked, called, by_a_parser, refused):
    made = watch(asked)
    if called:
        (tmp_path / 'called').touch()
    if by_a_parser:
        with made.listening(), pytest.raises(SystemExit):
            argparse.ArgumentParser(prog='main.py').parse_args(['--help'])
    if not refused:
        return made.check_at_the_end()
    with pytest.raises(
        RunError, match=r'^main.py has ended, and --mix-mode hmix had no effect: no mixer was called in its'
    ):
        made.check_at_the_end()


def reason(watch):
    with pytest.raises(RunError) as refusal:
        watch.check_at_the_end()
    return re.search(r'started for it; (.*)\. Processes that', str(refusal.value)).group(1)


def test_a_mixer_that_was_made_last_and_not_called_is_the_reason(watch):
    made = watch('--mix-mode hmix')
    made.made += ['Mixup(first)', 'Mixup(second)']
    assert reason(made) == 'it made Mixup(second) and has not called it'


def test_options_that_turn_mixing_on_are_named_with_their_values(watch):
    made = watch('--mix-mode hmix')
    parser = argparse.ArgumentParser()
    parser.add_argument('--mixup', type=float, default=0.0)
    parser.add_argument('--cutmix-alpha', type=float, default=0.0)
    parser.add_argument('-mixup_alpha', type=float, default=0.25)
    parser.add_argument('--mixup-prob', type=float, default=1.0)
    parser.add_argument('--remixup', default=1)
    parser.add_argument('--mixup-alpha', dest='hidden', default=argparse.SUPPRESS)
    with made.listening():
        assert parser.parse_args(['--cutmix-alpha', '0.5']).cutmix_alpha == 0.5
        parser.parse_args(['--cutmix-alpha', '0.5'])
    named = '--mixup (here 0.0) or --cutmix-alpha (here 0.5) or -mixup_alpha (here 0.25)'
    assert reason(made).startswith(
        f'it made none: it mixes only where its own {named} says so; turn that on (--mixup 0.8'
    )
    parser.parse_args(['--mixup', '7'])  # after the script: nobody listens
    assert '7' not in reason(made)


def test_without_such_options_the_scripts_configuration_is_the_reason(watch):
    made = watch('--mix-mode hmix')
    with made.listening():
        argparse.ArgumentParser().parse_args([])
    assert reason(made).startswith(
        "it made none: if it mixes with timm's Mixup, its own options or configuration say when;"
    )


def test_parsing_is_as_before_whatever_happens_in_the_script(watch):
    before = argparse.ArgumentParser.parse_known_args
    with pytest.raises(ZeroDivisionError), watch('').listening():
        assert argparse.ArgumentParser.parse_known_args is not before
        raise ZeroDivisionError
    assert argparse.ArgumentParser.parse_known_args is before


def test_a_parser_within_a_parser_leaves_the_count_even(watch):
    made = watch('--mix-mode hmix')
    outer = argparse.ArgumentParser()
    outer.add_subparsers().add_parser('train').add_argument('--mixup', type=float, default=0.0)
    with made.listening():
        outer.parse_args(['train'])
    assert reason(made).startswith('it made none: it mixes only where its own --mixup (here 0.0) says so')
