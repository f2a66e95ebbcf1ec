"""What importing does and leaves undone, asked in one new process."""

import json
import subprocess
import sys

import pytest

NETWORKS = {'cifar_resnet56', 'cifar_wrn28_2', 'cifar_preactresnet18', 'cifar_preactresnet34', 'cifar_preactresnet50'}
QUESTIONS = """
import json, sys, warnings
import hmix_timm
hmix_timm.PuzzleMix
answers = {'scipy': 'scipy.sparse' in sys.modules}
import timm
answers['before'] = timm.list_models()
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter('always')
    import train_patch.data.cifar_networks
answers['warnings'] = [str(warning.message) for warning in warned]
answers['after'] = timm.list_models()
print(json.dumps(answers))
"""


@pytest.fixture(scope='module')
def answers():
    done = subprocess.run([sys.executable, '-c', QUESTIONS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_the_library_does_not_import_scipy(answers):
    assert not answers['scipy']


def test_timm_alone_does_not_know_our_networks(answers):
    assert not NETWORKS & set(answers['before'])


def test_our_networks_overwrite_nothing_of_timms(answers):
    assert set(answers['after']) - set(answers['before']) == NETWORKS
    assert answers['warnings'] == []
