"""The paper's numbers, for runs that were trained as the paper's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..recipes.published import PUBLISHED, Published
from ..recipes.reader import RECIPE_FOLDER, read_recipe
from .reading import differences
from .training_arguments import resolve

# Arguments that may differ from a recipe of the paper: where it runs, and how fast.
_NOT_THE_RECIPE = {
    *('data', 'data_dir', 'class_map', 'dataset_download', 'output', 'experiment', 'workers', 'pin_mem', 'device'),
    *('amp', 'amp_dtype', 'channels_last', 'torchcompile', 'torchcompile_mode', 'checkpoint_hist', 'seed', 'resume'),
    *('validation_batch_size', 'val_interval', 'recovery_interval', 'no_prefetcher', 'log_wandb', 'wandb_project'),
    *('wandb_tags', 'wandb_resume_id', 'log_interval', 'batch_size'),
}


def papers_numbers(rows: Mapping[str, Mapping[str, Any]], images: int | None, processes: int) -> Published:
    """The paper's numbers for the rows whose training is the paper's: recipe, mixing, data and epochs.

    Args:
        rows: name → arguments.
        images: number of validation images; None if it is unknown.
        processes: number of processes of each run.
    """
    for stem, paper in PUBLISHED.items():
        path = RECIPE_FOLDER / f'{stem}.yaml'
        model = read_recipe(path)['model']  # only what may be the paper's is parsed
        modes = [mode for mode in paper.top1 if mode in rows and rows[mode].get('model') == model]
        asked = resolve(None, [['-c', str(path), '--mix-mode', mode] for mode in modes])
        top1 = {
            mode: paper.top1[mode]
            for mode, papers in zip(modes, asked, strict=True)
            if not differences(rows[mode], papers, _NOT_THE_RECIPE)
            and rows[mode]['batch_size'] * processes == papers['batch_size'] * paper.processes
        }
        if top1 and images in (paper.validation_images, None):
            return replace(paper, top1=top1)
    return Published()
