"""The plots of `hmix-figures`, and the numbers behind them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from hmix_timm.families import FAMILIES, make_slot
from hmix_timm.masks import mixup_mask
from hmix_timm.modes import MixMode, mix_modes
from hmix_timm.theory.approximation import (
    Model,
    adversarial_loss,
    approximate_loss,
    original_loss,
    partner_moments,
)
from hmix_timm.theory.coefficients import CoefficientMap, coefficient_map, gmix_formula
from hmix_timm.theory.laws import MaskLaw, MaskSupport, bernoulli_law, mask_support, mixture, mixup_law, slot_law

from ..data.scikit_images import photographs
from ..mixing import Mixing
from .grid import grid_masks
from .pictures import blended, mix_grid, new_figure

Plotted = Iterator[Any]
"""The numbers behind a figure, and then, so that a plot that fails costs no numbers, the matplotlib `Figure`."""


def train_logistic_regression(
    loss: Callable[[Model], torch.Tensor], steps: int, lr: float = 0.5
) -> tuple[torch.Tensor, list[float]]:
    """Gradient descent of f(x) = wᵀx + b on two features, from w = 0, b = 0.

    Args:
        loss: model → scalar.
        steps: gradient steps.
        lr: learning rate.

    Returns:
        w₁, w₂ and b after the last step; and the loss before each step and after the last one.
    """
    parameters = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    curve = []

    def model(x: torch.Tensor) -> torch.Tensor:
        return x @ parameters[:2] + parameters[2]

    for step in range(steps + 1):
        current = loss(model)
        curve.append(current.item())
        if step < steps:
            (gradient,) = torch.autograd.grad(current, parameters)
            with torch.no_grad():
                parameters -= lr * gradient
    return parameters.detach(), curve


def moons() -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's two moons: 100 points (100, 2) with mean 0, and labels 0 and 1 (100,), float64."""
    from sklearn.datasets import make_moons

    points, labels = make_moons(100, noise=0.1, random_state=0)
    return torch.from_numpy(points - points.mean(axis=0)), torch.from_numpy(labels).double()


def moons_curves(law: MaskLaw, steps: int) -> dict[str, list[float]]:
    """Logistic regression on the two moons, λ ~ Beta(1, 1).

    Returns:
        'original' and 'approximate' → loss along the training that used it.
    """
    x, y = moons()
    support = mask_support(law, nodes=8)
    moments = partner_moments(support)
    return {
        'original': train_logistic_regression(lambda f: original_loss(f, x, y, support), steps)[1],
        'approximate': train_logistic_regression(lambda f: approximate_loss(f, x, y, moments), steps)[1],
    }


def figure1() -> Plotted:
    """Theorem 1 on two moons: logistic regression by the original and by the approximate loss, both without sampling.

    Each curve is the loss that its own training descends, as in the paper.
    """
    panels = {
        'mixup': (r'Mixup: $M = \lambda\vec{1}$', mixup_law),
        'cutmix': (r'CutMix variant: $M = (m_1, m_2)$, $m_i \sim$ Bernoulli($\lambda$)', bernoulli_law),
    }
    found = {name: moons_curves(law, steps=100) for name, (_, law) in panels.items()}
    yield {
        name: {kind: {str(step): curve[step] for step in (0, 10, 50, 100)} for kind, curve in curves.items()}
        for name, curves in found.items()
    }
    figure = new_figure((9, 3.6))
    for ax, (name, (title, _)) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        ax.plot(found[name]['original'], label='original loss (Eq. 4)', color='C0')
        label = r'approximate loss $L_m + R_1 + R_2 + R_3$'
        ax.plot(found[name]['approximate'], label=label, color='C1', linestyle='--')
        ax.set_title(title, fontsize=11)
        ax.set(xlabel='gradient step', ylim=(0.0, 0.75))
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel('training loss')
    figure.axes[0].legend(loc='lower left')
    figure.suptitle(r'Logistic regression on two moons, $\lambda \sim$ Beta(1, 1)', fontsize=12)
    yield figure


def figure2() -> Plotted:
    """Mixup with λ from −0.75 to 0.75, as the masks of Theorem 2 would mix: they leave [0, 1].

    The masks themselves are normally distributed noise (`construction`) and are not plotted, as in the paper.
    """
    lams = [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]
    yield {'lam': lams}
    flower, temple = photographs((192, 192))
    figure = new_figure((14, 2.6))
    for ax, lam in zip(figure.subplots(1, len(lams)), lams, strict=True):
        ax.imshow(blended(flower, temple, mixup_mask(lam)))
        ax.set_title(rf'$\lambda = {lam:g}$', fontsize=11)
        ax.set_axis_off()
    figure.suptitle(r'$\lambda\cdot$flower $+ (1-\lambda)\cdot$temple, values clipped to 0 to 255', fontsize=12)
    yield figure


def figure3(mixings: Mapping[str, Mixing], lam: float = 0.65, seed: int = 9) -> Plotted:
    """Mixes of two photographs and their masks, of each of the mix modes."""
    size = (224, 224)
    photos = photographs(size)
    masks = grid_masks(mixings, lam, photos, seed)
    means = {name: mask.mean(size) for name, mask in zip(mixings, masks.values(), strict=True)}
    options = {name: value for mixing in mixings.values() for name, value in mask_options(mixing).items()}
    yield {'lam': lam, 'options': options, 'mask_mean': means}
    yield mix_grid(*photos, masks, rf'$\lambda = {lam:g}$')


def mask_options(mixing: Mixing) -> dict[str, Any]:
    """The options of a mixing's mask, as `make_slot` takes them."""
    return {name: value for name, value in mixing.mask.items() if name != 'cutmix_mode'}


def _title(mode: MixMode, options: Mapping[str, Any]) -> str:
    details = FAMILIES[mode.family].describe(options) if mode.family and not mode.mixup else ''
    return f'{mode.title}\n({details})'.replace(', ', ',\n') if details else mode.title


class Panel(NamedTuple):
    """A map of Figure 4, its title, and the colour of its mix mode."""

    title: str
    map: CoefficientMap
    colour: str


def coefficient_maps(mixings: Mapping[str, Mixing], lam: float, size: tuple[int, int]) -> dict[str, Panel]:
    """The maps of mix modes, whose masks must not depend on the images.

    A family whose option is a choice of words has a map for each of them, under a name of both.
    """
    maps = {}
    for name, mixing in mixings.items():
        mode, values = mix_modes()[name], mask_options(mixing)
        variants = {name: values}
        for keyword, option in FAMILIES[mode.family].keywords.items() if mode.family else ():
            others = [choice for choice in option.choices if choice != values.get(keyword)]
            variants |= {f'{name}_{choice}': {**values, keyword: choice} for choice in others}
        for variant, options in variants.items():
            found = coefficient_map(name, lam, size, **options)
            maps[variant] = Panel(_title(mode, options), found, mode.colour)
    return maps


def figure4(mixings: Mapping[str, Mixing]) -> Plotted:
    """Regularization coefficients of mix modes, and Eq. 11, at λ = 0.5 on 64 × 64 pixels."""
    lam, size = 0.5, (64, 64)
    span = np.arange(1 - size[0], size[0])
    formula = gmix_formula(np.hypot(span[:, None], span), lam, size)
    maps = coefficient_maps(mixings, lam, size)
    eq11 = 'GMix, Eq. 11:\nformula without borders'
    maps['gmix_eq11'] = Panel(eq11, CoefficientMap(formula, None, 0), mix_modes()['none'].colour)
    yield {name: along_x(panel.map.values, (0, 16, 32)) for name, panel in maps.items()}
    columns = 5
    rows = math.ceil(len(maps) / columns)
    figure = new_figure((13, 2.9 * rows + 4.5))
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [1.5])
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(maps))]
    curves = figure.add_subplot(grid[rows, :-2])
    for ax, (name, panel) in zip(axes, maps.items(), strict=True):
        values = panel.map.values
        shown = ax.imshow(values, vmin=0.0, vmax=0.5, cmap='viridis', extent=_extent(values))
        ax.set_title(panel.title, fontsize=11)
        ax.set(xticks=[-48, 0, 48], yticks=[-48, 0, 48])
        style = '--' if '_' in name else '-'  # of two of one method the second is dashed
        along = values[size[0] - 1, size[1] - 1 :]
        curves.plot(along, style, color=panel.colour, label=panel.title.replace('\n', ' '))
    label = r'$E_i\,a_{i,i+(x,y)}$'
    figure.colorbar(shown, ax=axes, location='left', fraction=0.02, pad=0.01, ticks=[0, 0.25, 0.5], label=label)
    curves.set_title('Along the x axis', fontsize=11)
    curves.set(xlabel='horizontal displacement (pixels)', ylim=(0.0, 0.55), xlim=(0, size[1] - 1))
    curves.grid(alpha=0.3)
    # below the last columns of maps, whose place it must not take from them
    curves.legend(fontsize=10, loc='center left', bbox_to_anchor=(1.0, 0.5)).set_in_layout(False)
    others = ', '.join(mode.title for name, mode in mix_modes().items() if mode.mixes and name not in mixings)
    figure.suptitle(
        r'Regularization coefficients at $\lambda = 0.5$ on $64\times 64$ pixels, by displacement: '
        f'masks as the mixers draw them, and Eq. 11 beside them\n(without {others}: their masks depend on the images)',
        fontsize=12,
    )
    yield figure


def figure5(maps: Mapping[str, np.ndarray], title: str) -> Any:
    """Maps of Eq. 12 side by side, on one colour scale.

    Args:
        maps: name → `gradients.gradient_map`.
        title: title of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    figure = new_figure((max(3.6 * len(maps) + 0.8, 9.0), 4.2))
    top = max(values.max() for values in maps.values())
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        shown = ax.imshow(values, vmin=0.0, vmax=top, cmap='viridis', extent=_extent(values))
        ax.set_title(name, fontsize=11)
        ax.set_xlabel('horizontal displacement (pixels)')
    axes[0].set_ylabel('vertical displacement (pixels)')
    figure.colorbar(shown, ax=axes, fraction=0.02, pad=0.01, label='PartialGradProd, normalized')
    figure.suptitle(title, fontsize=11)
    return figure


def two_feature_laws(ratio: float = 0.5) -> dict[str, MaskLaw]:
    """The paper's methods on two features: boxes cover each by itself, as in Figure 1; GMix is that of 1 × 2 pixels."""

    def stochastic(lam: float) -> MaskSupport:
        return mixture([(0.5, mixup_law(lam)), (0.5, bernoulli_law(lam))])

    def hmix(lam: float) -> MaskSupport:
        uncovered = 1.0 - (1.0 - lam) * ratio
        boxes = bernoulli_law(uncovered)
        return MaskSupport(torch.full_like(boxes.weight, lam), boxes.masks * (lam / uncovered), boxes.probability)

    gmix = slot_law(make_slot('gmix'), (1, 2))
    return {'mixup': mixup_law, 'cutmix': bernoulli_law, 'stochastic': stochastic, 'hmix': hmix, 'gmix': gmix}


def figure6(steps: int = 100) -> Plotted:
    """Theorem 3 on two moons: the adversarial loss of logistic regressions over the size of the attack.

    Each is trained with a method's approximate loss, which Theorem 3 says is the larger of the two: the left panel
    shows up to which ε. The right panel shows the adversarial loss less that of the model trained without mixing.
    """
    x, y = moons()
    epsilons = np.linspace(0.0, 0.6, 121)
    supports = {'none': mixup_law(1.0)} | {name: mask_support(law, nodes=8) for name, law in two_feature_laws().items()}
    numbers: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[float]] = {}
    for name, support in supports.items():
        moments = partner_moments(support)
        parameters, losses = train_logistic_regression(partial(approximate_loss, x=x, y=y, moments=moments), steps)
        adversarial = [adversarial_loss(parameters[:2], parameters[2], x, y, epsilon).item() for epsilon in epsilons]
        curves[name] = adversarial
        bounded = float(np.interp(losses[-1], adversarial, epsilons))
        at = {f'{epsilon:g}': float(np.interp(epsilon, epsilons, adversarial)) for epsilon in (0.0, 0.1, 0.3, 0.5)}
        numbers[name] = {'approximate_loss': losses[-1], 'bounded_epsilon': bounded, 'adversarial_loss': at}
    yield numbers
    figure = new_figure((11, 4.4))
    left, right = figure.subplots(1, 2)
    for name, adversarial in curves.items():
        colour, title = mix_modes()[name].colour, mix_modes()[name].title
        loss, bounded = numbers[name]['approximate_loss'], numbers[name]['bounded_epsilon']
        left.plot(epsilons, adversarial, color=colour, label=title)
        left.plot([0.0, bounded], [loss] * 2, '--', color=colour, marker='o', markevery=[1])
        right.plot(epsilons, np.subtract(adversarial, curves['none']), color=colour)
    dashed = 'dashed: approximate loss, up to the ε that it bounds'
    left.set(ylabel='adversarial loss', title=dashed, ylim=(0.2, 1.2))
    left.legend(loc='upper left')
    right.set(ylabel='difference', title='adversarial loss, less that without mixing')
    for ax in (left, right):
        ax.set(xlabel=r'size $\epsilon$ of the $\ell_2$ attack')
        ax.grid(alpha=0.3)
    figure.suptitle(r'Theorem 3: logistic regression on two moons, $\lambda \sim$ Beta(1, 1)', fontsize=12)
    yield figure


def along_x(values: np.ndarray, displacements: Sequence[int] = (0, 1, 2, 4, 8, 16, 32)) -> dict[str, float]:
    """Values of a map at horizontal displacements, those that it has."""
    height, width = (n // 2 for n in values.shape)
    return {str(d): float(values[height, width + d]) for d in displacements if d <= width}


def _extent(values: np.ndarray) -> tuple[float, float, float, float]:
    """imshow's extent for a map of displacements: (0, 0) in the middle of the middle pixel."""
    height, width = values.shape
    return -width / 2, width / 2, height / 2, -height / 2
