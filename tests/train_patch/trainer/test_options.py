"""The table of options, one by one: timm's defaults, what each takes, and what each refuses."""

import argparse

import pytest

from train_patch.mixing.resolve import group_options
from train_patch.trainer.options import REFUSED, build_parser, refusal


def words(text):
    return text.split()


# As timm's train.py has them. Flags are not listed: each is False.
# fmt: off
DEFAULTS = {
    'config': '', 'data': None, 'data_dir': None, 'dataset': '', 'train_split': 'train',
    'val_split': 'validation', 'train_num_samples': None, 'val_num_samples': None, 'class_map': '',
    'input_img_mode': None, 'input_key': None, 'target_key': None, 'model': 'resnet50', 'pretrained_path': None,
    'initial_checkpoint': '', 'resume': '', 'num_classes': None, 'gp': None, 'img_size': None, 'in_chans': None,
    'input_size': None, 'crop_pct': None, 'mean': None, 'std': None, 'interpolation': '', 'batch_size': 128,
    'validation_batch_size': None, 'grad_accum_steps': 1, 'model_kwargs': {}, 'head_init_scale': None,
    'head_init_bias': None, 'torchcompile': None, 'torchcompile_mode': None, 'device': None,
    'amp_dtype': 'float16', 'model_dtype': None, 'local_rank': 0, 'opt': 'sgd', 'opt_eps': None, 'opt_betas': None,
    'momentum': 0.9, 'weight_decay': 2e-5, 'clip_grad': None, 'clip_mode': 'norm', 'layer_decay': None,
    'layer_decay_min_scale': 0, 'layer_decay_no_opt_scale': None, 'opt_kwargs': {}, 'sched': 'cosine', 'lr': None,
    'lr_base': 0.1, 'lr_base_size': 256, 'lr_base_scale': '', 'lr_noise': None, 'lr_noise_pct': 0.67,
    'lr_noise_std': 1.0, 'lr_cycle_mul': 1.0, 'lr_cycle_decay': 0.5, 'lr_cycle_limit': 1, 'lr_k_decay': 1.0,
    'warmup_lr': 1e-5, 'min_lr': 0, 'epochs': 300, 'epoch_repeats': 0.0, 'start_epoch': None, 'decay_epochs': 90,
    'decay_milestones': [90, 180, 270], 'warmup_epochs': 5, 'cooldown_epochs': 0, 'patience_epochs': 10,
    'decay_rate': 0.1, 'train_crop_mode': None, 'scale': [0.08, 1.0], 'ratio': [3 / 4, 4 / 3], 'hflip': 0.5,
    'vflip': 0.0, 'color_jitter': 0.4, 'color_jitter_prob': None, 'grayscale_prob': None, 'aa': None,
    'gaussian_blur_prob': None, 'aug_repeats': 0, 'aug_splits': 0, 'bce_target_thresh': None,
    'bce_pos_weight': None, 'reprob': 0.0, 'remode': 'pixel', 'recount': 1, 'mixup': 0.0, 'cutmix': 0.0,
    'cutmix_minmax': None, 'mixup_prob': 1.0, 'mixup_switch_prob': 0.5, 'mixup_mode': 'batch',
    'mixup_off_epoch': 0, 'smoothing': 0.1, 'train_interpolation': 'random', 'drop': 0.0, 'drop_path': None,
    'drop_block': None, 'bn_momentum': None, 'bn_eps': None, 'dist_bn': 'reduce', 'model_ema_decay': 0.9998,
    'seed': 42, 'worker_seeding': 'all', 'log_interval': 50, 'val_interval': 1, 'recovery_interval': 0,
    'checkpoint_hist': 10, 'workers': 4, 'output': '', 'experiment': '', 'eval_metric': 'top1',
    'wandb_project': None, 'wandb_tags': [], 'wandb_resume_id': '', 'train_padding': None,
}
# fmt: on
FLAGS = words(
    'dataset_download pretrained no_resume_opt channels_last grad_checkpointing fast_norm amp no_ddp_bb '
    'synchronize_step sched_on_updates warmup_prefix no_aug jsd_loss bce_loss bce_sum resplit sync_bn split_bn '
    'model_ema model_ema_force_cpu model_ema_warmup pin_mem no_prefetcher train_accuracy use_multi_epochs_loader '
    'log_wandb'
)

COUNTS = words(
    '--train-num-samples --val-num-samples --num-classes --img-size --in-chans --batch-size --validation-batch-size '
    '--grad-accum-steps --lr-base-size --epochs --recount --log-interval --val-interval --checkpoint-hist'
)
NATURALS = words(
    '--lr-cycle-limit --start-epoch --warmup-epochs --cooldown-epochs --patience-epochs --aug-splits --mixup-off-epoch '
    '--recovery-interval --workers'
)
REALS = words(
    '--head-init-scale --head-init-bias --layer-decay-min-scale --layer-decay-no-opt-scale --lr-noise-pct '
    '--lr-noise-std --lr-cycle-mul --lr-cycle-decay --lr-k-decay --decay-rate --dr --bce-target-thresh '
    '--bce-pos-weight --bn-momentum'
)
FROM_ZERO = words(
    '--opt-eps --momentum --weight-decay --clip-grad --lr --lr-base --warmup-lr --min-lr --epoch-repeats '
    '--color-jitter --aug-repeats --bn-eps'
)
PARTS = words(
    '--hflip --vflip --color-jitter-prob --grayscale-prob --gaussian-blur-prob --reprob --drop --drop-path '
    '--drop-block --model-ema-decay'
)
# option → words that it takes, words that it refuses; what is 1.0 as a number of an epoch is a typo
TAKEN = {
    **dict.fromkeys(COUNTS, ('1 7', '0 -1 1.0 x')),
    **dict.fromkeys(NATURALS, ('0 7', '-1 1.0 x')),
    **dict.fromkeys(REALS, ('-2.5 0 2.5 1e3', 'nan inf -inf x')),
    **dict.fromkeys(FROM_ZERO, ('0 0.5 1e3', '-1e-9 nan inf x')),
    **dict.fromkeys(PARTS, ('0 0.5 1', '-1e-9 1.000001 nan inf x')),
    '--decay-epochs': ('1e-9 2.4', '0 -1 nan inf'),
    '--layer-decay': ('1e-9 1', '0 1.000001 nan'),
    '--smoothing': ('0 0.999', '1 -1e-9 nan'),
    '--crop-pct': ('0.1 10', '0.099 10.001 nan'),
    '--seed': ('0 2147483647', '-1 2147483648 1.0'),
    '--mixup': ('0.2', 'x'),
    '--cutmix': ('0.2', 'x'),
    '--mixup-prob': ('0.2', 'x'),
    '--mixup-switch-prob': ('0.2', 'x'),
    '--local-rank': ('3', 'x'),
    '--local_rank': ('3', 'x'),
}
CHOICES = {
    '--interpolation': ['', 'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos'],
    '--train-interpolation': ['', 'random', 'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos'],
    '--amp-dtype': ['float16', 'bfloat16'],
    '--model-dtype': ['float32', 'float16', 'bfloat16'],
    '--clip-mode': ['norm', 'value', 'agc'],
    '--lr-base-scale': ['', 'linear', 'sqrt'],
    '--train-crop-mode': ['rrc', 'rkrc', 'rkrr'],
    '--remode': ['const', 'rand', 'pixel'],
    '--dist-bn': ['', 'reduce', 'broadcast'],
    '--worker-seeding': ['all', 'part'],
    '--eval-metric': ['top1', 'top5', 'loss'],
}
TEXTS = words(
    '--config --data-dir --dataset --train-split --val-split --class-map --input-img-mode --input-key --target-key '
    '--model --pretrained-path --initial-checkpoint --resume --gp --torchcompile --torchcompile-mode --device --opt '
    '--sched --aa --mixup-mode --output --experiment --wandb-project --wandb-resume-id'
)
# option → words, values, line that is refused
LISTS = {
    '--input-size': ('1 32 40', [1, 32, 40], '3 32'),
    '--mean': ('-0.5 0 2', [-0.5, 0, 2], 'nan'),
    '--std': ('0.5 2', [0.5, 2], '0'),
    '--opt-betas': ('0.9 0.95 1', [0.9, 0.95, 1], 'inf'),
    '--lr-noise': ('0.1 0.9', [0.1, 0.9], 'nan'),
    '--decay-milestones': ('0 30', [0, 30], '-1'),
    '--scale': ('0.2 0.9', [0.2, 0.9], '0 1'),
    '--ratio': ('0.5 2', [0.5, 2], '0 1'),
    '--cutmix-minmax': ('0.2 0.8', [0.2, 0.8], 'x'),
    '--wandb-tags': ('a b', ['a', 'b'], ''),
}


@pytest.fixture(scope='module')
def parser():
    return build_parser()


def value(parser, option, *given):
    dest = parser._option_string_actions[option.partition('=')[0]].dest
    return getattr(parser.parse_args([option, *given]), dest)


def refused(parser, option, *given):
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args([option, *given])
    return stopped.value.code == 2


def test_defaults_are_timms(parser):
    found = vars(parser.parse_args([]))
    assert {name: value for name, value in found.items() if name not in group_options()} == {
        **DEFAULTS,
        **dict.fromkeys(FLAGS, False),
    }


def test_a_flag_takes_no_word(parser):
    for name in FLAGS:
        args = parser.parse_args([f'--{name.replace("_", "-")}', 'folder'])
        assert (getattr(args, name), args.data) == (True, 'folder'), name


@pytest.mark.parametrize('kind', [int, float])
def test_numbers_are_held_to_their_limits(parser, capsys, kind):
    whole = (*COUNTS, *NATURALS, '--seed', '--local-rank', '--local_rank')
    for option in whole if kind is int else TAKEN.keys() - whole:
        taken, wrong = map(words, TAKEN[option])
        for word in taken:
            found = value(parser, f'{option}={word}')
            assert found == float(word) and type(found) is kind, (option, word)
        for word in wrong:
            assert refused(parser, f'{option}={word}'), (option, word)
            message = capsys.readouterr().err.strip().splitlines()[-1]
            named = f'argument {"/".join(parser._option_string_actions[option].option_strings)}: '
            reason = f'{word}: must be ', f"invalid {kind.__name__} value: '{word}'"
            assert any(f'{named}{text}' in message for text in reason), message


def test_choices(parser):
    for option, names in CHOICES.items():
        assert [value(parser, option, name) for name in names] == names
        assert refused(parser, option, 'cubic') and refused(parser, option, names[-1].upper()), option


def test_texts_are_taken_as_they_are(parser):
    for option in TEXTS:
        assert value(parser, option, 'some/text') == 'some/text'
        assert option == '--torchcompile' or refused(parser, option), option


def test_lists(parser):
    for option, (given, values, wrong) in LISTS.items():
        assert value(parser, option, *given.split()) == values, option
        assert refused(parser, option, *wrong.split()), option


@pytest.mark.parametrize(('option', 'count'), [('--scale', 2), ('--ratio', 2), ('--input-size', 3)])
def test_lists_of_a_fixed_length_take_no_other(parser, option, count):
    assert refused(parser, option, *['1'] * (count - 1))
    assert parser.parse_args([option, *['1'] * (count + 1)]).data == '1'  # the next word is the folder


@pytest.mark.parametrize('option', ['--model-kwargs', '--opt-kwargs'])
def test_keywords_may_be_none_and_are_told_apart(parser, option, capsys):
    assert value(parser, option) == {}
    assert value(parser, option, 'a=1e-3', 'b=text', "c='2'", 'd=', 'e=(1, 2)', 'f=a b') == {
        'a': 0.001,
        'b': 'text',
        'c': '2',
        'd': '',
        'e': (1, 2),
        'f': 'a b',
    }
    for word in ('=1', 'key'):
        assert refused(parser, option, word)
        assert f'argument {option}: {word!r}: must be KEY=VALUE' in capsys.readouterr().err


def test_an_option_with_two_names_and_a_place_without_one(parser):
    assert parser.parse_args(['folder', '-b', '3', '-c', 'recipe']).data == 'folder'
    assert value(parser, '--torchcompile') == 'inductor'
    assert parser.parse_args(['-b', '3', '-vb', '5', '-j', '7']) == parser.parse_args(
        ['--batch-size', '3', '--validation-batch-size', '5', '--workers', '7']
    )


# As timm's train.py has them: a recipe may carry these values and no others.
# fmt: off
LEFT_ALONE = {
    '--amp-impl': 'native', '--dataset-trust-remote-code': False, '--device-modules': None, '--fuser': '',
    '--distill-loss-weight': None, '--drop-connect': None, '--kd-distill-type': 'logit', '--kd-loss-type': 'kl',
    '--kd-model-name': None, '--kd-student-feature-dim': None, '--kd-teacher-feature-dim': None,
    '--kd-temperature': 4.0, '--kd-token-distill-type': 'soft', '--naflex-loader': False,
    '--naflex-loss-scale': 'linear', '--naflex-max-seq-len': 576, '--naflex-patch-size-probs': None,
    '--naflex-patch-sizes': None, '--naflex-patchify-channels-first': False, '--save-images': False,
    '--naflex-train-seq-lens': [128, 256, 576, 784, 1024], '--task-loss-weight': None, '--torchscript': False,
    '--train-batch-sizes': None, '--train-batches-per-epoch': None, '--train-img-sizes': None, '--tta': 0,
    '--train-size-probs': None, '--train-size-random-mix': 0.1, '--train-size-schedule': 'constant',
    '--train-size-schedule-spread': 0.65, '--train-steps-per-epoch': None, '--variable-batch-loss-scale': 'none',
}
# fmt: on


def test_what_is_refused_and_which_values_a_recipe_may_carry():
    assert REFUSED == LEFT_ALONE


@pytest.mark.parametrize('given', [[], ['1'], ['1', '2']])
def test_a_refused_option_is_named_whatever_follows_it(parser, capsys, given):
    for option in LEFT_ALONE:
        assert refused(parser, option, *given), option
        assert capsys.readouterr().err.splitlines()[-1] == f'{parser.prog}: error: {refusal(option)}'


def test_a_refusal_names_the_option_and_what_takes_it():
    assert refusal('--drop-connect') == '--drop-connect is not taken: --drop-path is its name now'
    assert refusal('--tta').startswith('--tta is not taken by this script; ') and 'train.py' in refusal('--tta')


def test_refused_options_are_neither_in_the_arguments_nor_in_the_help(parser):
    names = {option[2:].replace('-', '_') for option in LEFT_ALONE}
    assert not names & vars(parser.parse_args([])).keys()
    text = parser.format_help()
    assert not [option for option in LEFT_ALONE if f'  {option} ' in text or f'  {option}\n' in text]


def test_what_an_option_takes_has_a_short_name_in_the_help():
    """Not argparse's own, which is the option's once more: --bce-target-thresh BCE_TARGET_THRESH."""
    actions = [action for action in build_parser()._actions if action.help != argparse.SUPPRESS]
    unnamed = [action.dest for action in actions if action.nargs != 0 and not (action.choices or action.metavar)]
    assert len(actions) > 100 and unnamed == []
