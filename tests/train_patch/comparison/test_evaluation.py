"""A run's checkpoint on clean, attacked and damaged images, read as the run's own arguments say."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from train_patch.common.errors import RunError
from train_patch.comparison.evaluation import KINDS, evaluate
from train_patch.comparison.request import build_parser
from train_patch.trainer.arguments import parse_arguments

MEAN, STD = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)


@pytest.fixture(scope='module')
def networks():
    """Two networks: the weights of a run, and their moving average."""
    torch.manual_seed(1)
    return [timm.create_model('test_mambaout', num_classes=2).eval() for _ in range(2)]


@pytest.fixture
def run(tmp_path, work, networks):
    """Folder and arguments of a run with a moving average, and of a pretrained model that need not be there again."""
    line = ['--data-dir', str(work / 'data'), '--model', 'test_mambaout', '--num-classes', '2', '-b', '8', '-j', '0']
    line += ['--input-size', '3', '32', '32', '--crop-pct', '1', '--pretrained', '--mixup', '1']
    line += ['--mean', *map(str, MEAN), '--std', *map(str, STD)]
    weights = {name: one.state_dict() for name, one in zip(('state_dict', 'state_dict_ema'), networks, strict=True)}
    torch.save({**weights, 'optimizer': {}, 'epoch': 1, 'version': 2}, tmp_path / 'last.pth.tar')
    return tmp_path, vars(parse_arguments(line)[0])


def pixels(folder):
    """Images (N, 3, 32, 32) in [0, 1] of a split, and labels, read without timm."""
    files = sorted(folder.glob('*/*.png'))
    images = np.stack([np.asarray(Image.open(file).convert('RGB')) for file in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255, torch.tensor([int(file.parent.name) for file in files])


def normalized(images):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def test_every_number_is_that_of_plain_code_and_the_moving_average_has_its_own(run, work, networks):
    folder, arguments = run
    found = evaluate(folder, arguments, KINDS, 8 / 255, images=16)
    for prefix, network in zip(('', 'ema_'), networks, strict=True):
        top1, loss = {}, {}
        for split in ('train', 'validation'):
            images, labels = pixels(work / 'data' / split)
            x = images.clone().requires_grad_(True)
            scores = network(normalized(x))
            loss[split] = nn.functional.cross_entropy(scores, labels)
            top1[split] = 100 * (scores.argmax(1) == labels).float().mean().item()
        loss['validation'].backward()
        attacked = (images + 8 / 255 * x.grad.sign()).clamp(0, 1)
        fgsm = 100 * (network(normalized(attacked)).argmax(1) == labels).float().mean().item()
        expected = {'top1': top1['validation'], 'nll': loss['validation'].item(), 'train_top1': top1['train']}
        expected |= {'train_nll': loss['train'].item(), 'gap': top1['train'] - top1['validation'], 'fgsm': fgsm}
        for name, value in expected.items():
            assert found[prefix + name] == pytest.approx(value, rel=1e-4), prefix + name
        for name in ('pgd', 'noise', 'blur', 'jpeg', 'contrast', 'brightness', 'occlusion_centre', 'occlusion_random'):
            assert 0 <= found[prefix + name] <= 100
        assert sum(count for count, *_ in found[f'{prefix}bins']) == 16
        parts = [found[prefix + name] for name in ('noise', 'blur', 'jpeg', 'contrast', 'brightness')]
        assert found[f'{prefix}corruption'] == pytest.approx(sum(parts) / 5)
    assert found['nll'] != found['ema_nll']


def test_what_was_measured_is_not_measured_again_until_the_checkpoint_or_the_question_is_another(run):
    folder, arguments = run
    record = folder / 'evaluation.json'
    first = evaluate(folder, arguments, ['fgsm'], 0.1, images=8)
    assert {*first} == {prefix + name for prefix in ('', 'ema_') for name in ('top1', 'fgsm', 'bins')}
    record.write_text(record.read_text().replace('"fgsm": ', '"fgsm": 1000'))
    assert evaluate(folder, arguments, ['fgsm'], 0.1, images=8)['fgsm'] >= 1000
    assert evaluate(folder, arguments, ['fgsm'], 0.1, images=8) != first
    torch.save(torch.load(folder / 'last.pth.tar', weights_only=True), folder / 'last.pth.tar')
    assert evaluate(folder, arguments, ['fgsm'], 0.1, images=8) == first
    assert 'pgd' in evaluate(folder, arguments, ['pgd'], 0.1, images=8)
    record.write_text('{')
    assert 'fgsm' not in evaluate(folder, arguments, [], 0.1, images=8) and json.loads(record.read_text())


def test_what_cannot_be_measured_is_said_in_one_line(run, work):
    folder, arguments = run
    for changed, message in (
        ({'val_split': ''}, 'it was trained without validation images'),
        ({'data_dir': 'no/such'}, '--data-dir no/such: there is no such folder'),
        ({'model': 'test_resnet'}, f'the checkpoint {folder}/last.pth.tar does not fit this run: '),
        (
            {'input_size': [4, 32, 32], 'input_img_mode': 'RGBA', 'mean': None, 'std': None},
            'corruption is for images of 1 or 3 channels, not 4',
        ),
    ):
        with pytest.raises(RunError) as raised:
            evaluate(folder, {**arguments, **changed}, KINDS, 0.1, images=8)
        assert str(raised.value).startswith(message) and '\n' not in str(raised.value)
    saved = torch.load(folder / 'last.pth.tar')
    diverged = {name: weight * torch.nan for name, weight in saved['state_dict'].items() if weight.is_floating_point()}
    torch.save({**saved, 'state_dict': {**saved['state_dict'], **diverged}}, folder / 'last.pth.tar')
    with pytest.raises(RunError, match=f'the loss of the state_dict in {folder}/last.pth.tar is nan'):
        evaluate(folder, arguments, [], 0.1, images=8)
    (folder / 'last.pth.tar').unlink()
    with pytest.raises(RunError, match=f'there is no checkpoint in {folder}'):
        evaluate(folder, arguments, KINDS, 0.1, images=8)


def test_the_size_of_an_attack_is_a_number_or_a_fraction(capsys):
    parser = build_parser()
    for text, value in (('8/255', 8 / 255), ('0.03', 0.03), ('1', 1.0)):
        assert parser.parse_args(['digits', '--attack-eps', text]).attack_eps == value
    assert parser.parse_args(['digits']).attack_eps == 8 / 255
    for text in ('0', '2', '1/0', 'x'):
        with pytest.raises(SystemExit):
            parser.parse_args(['digits', '--attack-eps', text])
        assert f"above 0 and up to 1, got '{text}'" in capsys.readouterr().err
