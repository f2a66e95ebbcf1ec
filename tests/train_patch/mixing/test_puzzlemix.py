"""--mix-mode puzzlemix on a parser: what it resolves to, and what it is refused with."""

import argparse
import sys

import pytest
import yaml

from train_patch.mixing import add_mix_arguments, mixing_active, puzzle_mixer_from


def parse(line='', **recipe):
    parser = argparse.ArgumentParser(prog='train.py')
    for option, default in {'--mixup': 0.0, '--cutmix': 0.0, '--mixup-prob': 1.0, '--mixup-switch-prob': 0.5}.items():
        parser.add_argument(option, type=float, default=default)
    parser.add_argument('--cutmix-minmax', type=float, nargs='+')
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--smoothing', type=float, default=0.1)
    parser.add_argument('--num-classes', type=int, default=100)
    parser.add_argument('--aug-splits', type=int, default=0)
    parser.add_argument('--jsd-loss', action='store_true')
    parser.add_argument('--naflex-loader', action='store_true')
    parser.add_argument('--kd-model-name')
    parser.add_argument('--kd-distill-type', default='logit')
    add_mix_arguments(parser, say=lambda line: None)
    parser.set_defaults(**recipe)
    return parser.parse_args(line.split())


def mixer_of(args):
    return repr(puzzle_mixer_from(args, None, (0.2, 0.3, 0.4)))


@pytest.mark.parametrize(
    ('preset', 'published'),
    [('imagenet', 'neigh_size=2, t_eps=0.8, t_size=-1'), ('cifar100', 'neigh_size=4, t_eps=0.8, t_size=4')],
)
def test_a_preset_is_what_was_published(preset, published):
    assert mixer_of(parse(f'--mix-mode puzzlemix --mix-preset {preset}')) == (
        f'PuzzleMix(alpha=1, beta=1.2, gamma=0.5, eta=0.2, {published}, blocks=2|4|8|16, prob=1, label_smoothing=0.1, '
        'num_classes=100, std=0.2|0.3|0.4)'
    )


def test_alpha_probability_and_smoothing_are_the_command_lines():
    text = mixer_of(parse('--mix-mode puzzlemix --mix-alpha 0.3 --mixup-prob 0.6 --smoothing 0 --num-classes 7'))
    assert text.startswith('PuzzleMix(alpha=0.3, ')
    assert 'prob=0.6, label_smoothing=0, num_classes=7, ' in text


def test_timms_scripts_expect_soft_targets():
    args = parse('--mix-mode puzzlemix', mixup=0.3, mixup_switch_prob=0.9)
    assert mixing_active(args)
    assert (args.mixup, args.cutmix, args.cutmix_minmax, args.mixup_switch_prob) == (0.0, 1.0, None, 0.5)


def test_what_is_recorded_gives_the_same_run():
    args = parse('--mix-mode puzzlemix --mix-preset cifar100 --mix-alpha 0.5')
    again = parse('', **yaml.safe_load(yaml.safe_dump(vars(args))))
    assert vars(again) == vars(args)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--naflex-loader', '--naflex-loader'),
        ('--aug-splits 2', '--aug-splits 2'),
        ('--jsd-loss', '--jsd-loss'),
        ('--kd-model-name resnet18 --kd-distill-type feature', '--kd-distill-type feature'),
        ('--mixup-mode elem', '--mixup-mode must be batch'),
        ('--hmix-ratio 0.5', '--hmix-ratio is for --mix-mode hmix'),
        ('--mix-literal', '--mix-literal is for'),
        ('--mix-alpha 0', '--mix-alpha must be'),
    ],
)
def test_what_it_cannot_go_with_is_refused_by_name(capsys, line, message):
    with pytest.raises(SystemExit):
        parse(f'--mix-mode puzzlemix {line}')
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_teacher_of_scores_is_no_obstacle():
    parse('--mix-mode puzzlemix --kd-model-name resnet18 --kd-distill-type logit')


def test_without_scipy_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.sparse', None)
    with pytest.raises(SystemExit):
        parse('--mix-mode puzzlemix')
    assert "pip install 'hmix-timm[puzzle]'" in capsys.readouterr().err
