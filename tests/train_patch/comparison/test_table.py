"""`hmix-compare --table`: runs of any command, wherever they lie, as one table; nothing is trained."""

import csv
import io
import shutil

import pytest
import yaml

from train_patch.compare import main
from train_patch.comparison.training_arguments import resolve

RECORD = 'script: null\nprocesses: []\n'


@pytest.fixture(scope='module')
def defaults():
    """The arguments of a run of two epochs, as args.yaml records them."""
    return resolve(None, [['--data-dir', '/nowhere/data', '--epochs', '2', '--warmup-epochs', '0']])[0]


@pytest.fixture
def run(defaults, tmp_path):
    """`run(folder, *top1, **arguments)`: a run in a folder, with top-1 after each epoch."""

    def make(folder, *top1, **arguments):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / 'args.yaml').write_text(yaml.safe_dump({**defaults, **arguments}))
        rows = [f'{epoch},0.5,{value}' for epoch, value in enumerate(top1)]
        (place / 'summary.csv').write_text('\n'.join(['epoch,eval_loss,eval_top1', *rows]) + '\n')
        return place

    return make


@pytest.fixture
def table(capsys):
    """`table(*words)`: row → its cells, from CSV; what else was said is `table.said`."""

    def make(*words):
        assert main(['--table', *map(str, words), '--format', 'csv']) == 0
        shown = capsys.readouterr()
        make.said = shown.err
        return {row['mode']: row for row in csv.DictReader(io.StringIO(shown.out))}

    return make


def comparison(run, tmp_path, name, ratios=('0.25', '0.5'), **arguments):
    """A comparison of hmix with two ratios, and none, with seeds 1 and 2; hmix gains 2 and 3."""
    for seed in (1, 2):
        run(f'{name}/none/seed{seed}', 10, 50 + seed, mix_mode='none', seed=seed, **arguments)
        for gain, ratio in enumerate(ratios, start=2):
            hmix = {'mix_mode': 'hmix', 'cutmix': 1.0, 'hmix_ratio': float(ratio), 'seed': seed, **arguments}
            run(f'{name}/hmix hmix_ratio={ratio}/seed{seed}', 10, 50 + seed + gain, **hmix)
    (tmp_path / name / 'comparison.yaml').write_text(RECORD)
    return tmp_path / name


def test_a_comparison_can_be_read_anywhere_in_any_state(run, table, tmp_path):
    folder = comparison(run, tmp_path, 'nets')
    (folder / 'hmix hmix_ratio=0.5' / 'seed2' / 'summary.csv').write_text('epoch,eval_top1\n0,10\n1,5')  # being written
    run('nets/none/seed3', mix_mode='none', seed=3)  # has just begun
    shutil.move(folder, tmp_path / 'elsewhere')
    rows = table(tmp_path / 'elsewhere')
    assert {name: (row['runs'], row['unfinished'], row['top1_mean']) for name, row in rows.items()} == {
        'none': ('2', '1', '51.5'),
        'hmix hmix_ratio=0.25': ('2', '0', '53.5'),
        'hmix hmix_ratio=0.5': ('1', '1', '54.0'),
    }
    assert 'none seed 3: 0 of 2 epochs, in ' in table.said and 'ratio=0.5 seed 2: 1 of 2 epochs, in ' in table.said


def test_runs_of_other_commands_are_named_by_their_own_mixing_and_paired(run, table, tmp_path):
    comparison(run, tmp_path, 'nets')
    both = {'mixup': 0.8, 'cutmix': 1.0, 'mix_mode': None, 'data_dir': None, 'data': '/moved/data'}
    run('timm/first', 10, 56, seed=1, **both)
    run('timm/second', 10, 57, seed=2, **both, cutmix_mode='gmix')
    run('timm/plain', 10, 49, seed=7)
    rows = table(tmp_path / 'nets', tmp_path / 'timm')
    assert rows['mixup 0.8 + cutmix 1']['difference_to_none'] == '5.0'
    assert rows['mixup 0.8 + gmix 1']['difference_to_none'] == '5.0'
    assert (rows['none']['runs'], rows['none']['top1_seed7']) == ('3', '49.0')


def test_two_folders_of_one_name_on_this_machine_are_other_data(run, table, tmp_path):
    for mode, path in {'none': 'A/data', 'hmix': 'B/data'}.items():
        (run(mode, 10, 50, mix_mode=mode, data_dir=path).parent / path).mkdir(parents=True)
    assert table(tmp_path)['hmix']['difference_to_none'] == ''
    assert f"data_dir is '{tmp_path}/B/data' and '{tmp_path}/A/data'" in table.said


def test_runs_that_mix_alike_are_named_by_what_else_they_differ_in(run, table, tmp_path):
    for number, lr in enumerate((0.1, 0.2)):
        run(f'sweep/{number}', 10, 60 + number, lr=lr, mix_mode='hmix', output=f'{number}', workers=number)
    run('sweep/none', 10, 50, lr=0.1, mix_mode='none')
    rows = table(tmp_path / 'sweep')
    assert rows['hmix lr=0.1']['difference_to_none'] == '10.0' and rows['hmix lr=0.2']['difference_to_none'] == ''
    assert 'Not compared:\n- hmix lr=0.2 with none: lr is 0.2 and 0.1' in table.said
    rows = table(tmp_path / 'sweep', '--baseline', 'hmix lr=0.1')
    assert rows['hmix lr=0.2']['difference_to_hmix lr=0.1'] == '1.0'


def test_a_run_is_finished_with_its_last_epoch_cool_down_and_stop_epoch_counted(run, table, tmp_path):
    run('cooled', 1, 2, mix_mode='none', cooldown_epochs=1)
    run('stopped', 1, 2, mix_mode='hmix', epochs=9, stop_epoch=2)
    run('prefixed', 1, 2, 3, mix_mode='gmix', warmup_epochs=1, warmup_prefix=True)
    assert {name: row['runs'] for name, row in table(tmp_path).items()} == {'none': '0', 'hmix': '1', 'gmix': '1'}
    assert 'none seed 42: 2 of 3 epochs' in table.said


def test_a_run_that_diverged_has_failed(run, table, tmp_path):
    (run('a', mix_mode='none') / 'summary.csv').write_text('epoch,train_loss,eval_top1\n0,1,5\n1,nan,5\n')
    for seed, top1 in ((1, [4]), (2, [4, 5])):  # the last one was trained to its end after all
        log = run(f'seed{seed}', *top1, mix_mode='none', seed=seed) / 'train.log'
        log.write_text('hmix-train: error: the loss: training has diverged\n')
    cells = table(tmp_path)['none']
    assert (cells['diverged'], cells['runs']) == ('2', '1')
    assert f'none seed 42: diverged: train_loss is nan in epoch 1, see {tmp_path / "a" / "train.log"}' in table.said


def test_a_row_holds_runs_of_one_training_alone(run, table, tmp_path):
    """Also of one version of the code of a family."""
    for seed, digest in enumerate(('12ab', '12ab', '34cd')):
        arguments = {'mix_mode': 'stripes', 'mix_families': f'/{seed}/masks.py', 'mix_digest': digest}
        run(f'nets/stripes/seed{seed}', 10, 50 + seed, seed=seed, **arguments)
    (tmp_path / 'nets' / 'comparison.yaml').write_text(RECORD)
    row = table(tmp_path / 'nets')['stripes']
    assert (row['runs'], row['failed'], row['top1_mean']) == ('2', '1', '50.5')
    assert "stripes seed 2: left out: mix_digest is '12ab' in seed 0, and '34cd' here, see" in table.said


def test_runs_with_another_metric_are_left_out(run, table, tmp_path):
    run('a', 10, 60, mix_mode='none', seed=1)
    (run('b', mix_mode='none', seed=2) / 'summary.csv').write_text('epoch,eval_map\n0,10\n1,20\n')
    assert table(tmp_path)['none']['runs'] == '1' and 'it has eval_map and not eval_top1' in table.said


def test_a_seed_that_is_there_twice_is_said_and_the_finished_run_counts(run, table, tmp_path):
    run('a', 10, mix_mode='none')
    run('b', 10, 60, mix_mode='none')
    assert table(tmp_path)['none']['top1_mean'] == '60.0'
    assert f'none seed 42: left out: {tmp_path / "b"} has the same seed, see {tmp_path / "a"}' in table.said


def test_several_comparisons_are_columns_and_runs_below_one_belong_to_it(run, tmp_path, capsys):
    comparison(run, tmp_path, 'all/small')
    comparison(run, tmp_path, 'all/large', model='resnet101')
    comparison(run, tmp_path, 'more/small', ())
    run('all/large/by_hand/first', 10, 90, mix_mode='gmix', seed=1, model='resnet101')
    run('elsewhere', 10, 20, mix_mode='cutmix', seed=1)
    assert main(['--table', *(str(tmp_path / folder) for folder in ('all', 'elsewhere', 'more'))]) == 0
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ['mode', 'large', 'all/small', 'more/small', 'runs']
    assert lines[2] == ['none', '51.50 ± 0.71', '51.50 ± 0.71', '51.50 ± 0.71', '–']
    gmix, cutmix = ['gmix', '90.00, +39.00', '–', '–', '–'], ['cutmix', '–', '–', '–', '20.00']
    assert [line for line in lines if line[0] in ('gmix', 'cutmix')] == [gmix, cutmix]


def test_any_column_of_the_runs_can_be_compared(run, table, tmp_path):
    comparison(run, tmp_path, 'nets')
    assert table(tmp_path, '--metric', 'eval_loss')['none']['loss_mean'] == '0.5'
    assert table(tmp_path, '--last', '2')['none']['top1_seed1'] == '30.5'


def test_with_an_output_the_table_is_written_too(run, tmp_path, capsys):
    comparison(run, tmp_path, 'nets')
    assert main(['--table', str(tmp_path / 'nets'), '--output', str(tmp_path / 'out')]) == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['results.csv', 'results.md', 'results.png']
    text = (tmp_path / 'out' / 'results.md').read_text()
    assert text.startswith('# nets: comparison of mix modes') and capsys.readouterr().out.splitlines()[0] in text


@pytest.mark.parametrize(
    ('more', 'says'),
    [
        (['--metric', 'eval_map'], '--metric eval_map: no run has this column; there are epoch, eval_loss, eval_top1'),
        (['--baseline', 'mixup'], '--baseline mixup: no such row; there are none'),
        (['--seeds', '1'], '--table reads runs and trains none; it cannot go with --seeds'),
        (['--lr', '1'], 'it cannot go with --lr'),
        (['nowhere'], '--table nowhere: there is no run in it'),
    ],
)
def test_wrong_words_beside_a_table_are_refused_by_name(run, tmp_path, refused, more, says):
    run('a', 10, 20, mix_mode='none')
    assert says in refused(['--table', tmp_path, *more])


def test_a_damaged_file_of_a_run_is_named_and_costs_no_other(run, table, tmp_path, refused):
    first, *_ = (run(name, 10, 20, mix_mode='none', seed=seed) / 'args.yaml' for seed, name in enumerate('abc'))
    first.write_text(first.read_text().replace('\nepochs: 2\n', '\n'))
    (tmp_path / 'b' / 'summary.csv').write_text('epoch,eval_loss,eval_top1\n0,1,nan\n1,1,20\n')
    assert table(tmp_path)['none']['runs'] == '1' and 'seed 1: eval_top1 is nan in epoch 0, see' in table.said
    assert f'{first}: epochs must be a whole number above 0, got None' in table.said
    first.write_text('a: [1')
    assert str(first) in refused(['--table', tmp_path], status=1)
