"""The plots of `hmix-figures`, and the numbers behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hmix_timm.draws import numpy_seed
from hmix_timm.families import FAMILIES, Family, make_slot
from hmix_timm.masks import Mask, mixup_mask
from hmix_timm.modes import mix_modes
from hmix_timm.theory import closed_forms
from hmix_timm.theory.approximation import two_moons_curves
from hmix_timm.theory.coefficients import CoefficientMap, coefficient_map
from hmix_timm.theory.laws import Estimate
from hmix_timm.theory.prediction import Prediction, rank_correlation

from ..data.scikit_images import photographs
from .pictures import blended, mix_grid, new_figure

DISPLACEMENTS = (0, 16, 32)
"""Horizontal displacements in pixels whose coefficients figures.json gives."""

Numbers = dict[str, Any]
Plotted = tuple[Any, Numbers]
"""A matplotlib `Figure` and the numbers behind it."""


def figure1() -> Plotted:
    """Theorem 1 on two moons: logistic regression by the original and by the approximate loss, both without sampling.

    Each curve is the loss that its own training descends, as in the paper.
    """
    steps = 100
    curves = two_moons_curves(steps=steps)
    figure = new_figure((9, 3.6))
    titles = {
        'mixup': r'Mixup: $M = \lambda\vec{1}$',
        'cutmix': r'CutMix variant: $M = (m_1, m_2)$, $m_i \sim$ Bernoulli($\lambda$)',
    }
    for ax, (name, pair) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
        ax.plot(pair['original'], label='original loss (Eq. 4)', color='C0')
        ax.plot(pair['approximate'], label=r'approximate loss $L_m + R_1 + R_2 + R_3$', color='C1', linestyle='--')
        ax.set_title(titles[name], fontsize=11)
        ax.set_xlabel('gradient step')
        ax.set_ylim(0.0, 0.75)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel('training loss')
    figure.axes[0].legend(loc='lower left')
    figure.suptitle(r'Logistic regression on two moons, $\lambda \sim$ Beta(1, 1)', fontsize=12)
    numbers = {
        name: {kind: {str(step): float(curve[step]) for step in (0, 10, 50, steps)} for kind, curve in pair.items()}
        for name, pair in curves.items()
    }
    return figure, numbers


def figure2() -> Plotted:
    """Mixup with λ from −0.75 to 0.75, what the masks of Theorem 2 lead to: they leave [0, 1].

    The masks themselves are normally distributed noise (`construction`) and are not plotted, as in the paper.
    """
    flower, temple = photographs((192, 192))
    lams = [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]
    figure = new_figure((14, 2.6))
    for ax, lam in zip(figure.subplots(1, len(lams)), lams, strict=True):
        ax.imshow(blended(flower, temple, mixup_mask(lam)))
        ax.set_title(rf'$\lambda = {lam:g}$', fontsize=11)
        ax.set_axis_off()
    figure.suptitle(
        r'$\lambda\cdot$flower $+ (1-\lambda)\cdot$temple, values clipped to what can be shown', fontsize=12
    )
    return figure, {'lam': lams}


def figure3(lam: float = 0.65, seed: int = 9) -> Plotted:
    """Mixes of two photographs and their masks: Mixup and every family, options as the paper's for CIFAR-100."""
    size = (224, 224)
    masks: dict[str, Mask] = {mix_modes()['mixup'].title: mixup_mask(lam)}
    means = {'mixup': lam}
    options: Numbers = {}
    for family in FAMILIES.values():
        values = family.preset_options('cifar100')
        with numpy_seed(seed):  # the same seed: the same centre
            mask, _ = make_slot(family.name, **values).draw_mask(size, lam)
        masks[_titled(family, values)] = mask
        means[family.mix_mode] = mask.mean
        options |= values
    figure = mix_grid(*photographs(size), masks, rf'$\lambda = {lam:g}$')
    return figure, {'lam': lam, 'options': options, 'mask_mean': means}


def _titled(family: Family, values: Mapping[str, Any]) -> str:
    details = family.describe(family.resolve(values))
    return f'{family.title}\n({details})' if details else family.title


def coefficient_maps(lam: float, size: tuple[int, int]) -> tuple[dict[str, CoefficientMap], dict[str, str]]:
    """Maps of all that mixes, options as the paper's for ImageNet, and titles for them.

    A family whose option is a choice of words has a map for each of them, under a name of both.
    """
    maps, titles = {}, {}
    for name, mode in mix_modes().items():
        if mode.draws_masks:
            values = FAMILIES[mode.family].preset_options('imagenet') if mode.family else {}
            maps[name] = coefficient_map(name, lam, size, **values)
            alone = mode.family and not mode.mixup
            titles[name] = _titled(FAMILIES[mode.family], values) if alone else mode.title
            for keyword, option in FAMILIES[mode.family].keywords.items() if alone else ():
                for choice in option.choices:
                    if choice != option.default:
                        other = {**values, keyword: choice}
                        maps[f'{name}_{choice}'] = coefficient_map(name, lam, size, **other)
                        titles[f'{name}_{choice}'] = _titled(FAMILIES[mode.family], other)
    return maps, titles


def figure4() -> Plotted:
    """Regularization coefficients of everything that mixes, and Eq. 11, at λ = 0.5 on 64 × 64 pixels."""
    lam, size = 0.5, (64, 64)
    maps, titles = coefficient_maps(lam, size)
    span = np.arange(1 - size[0], size[0])
    distance = np.hypot(span[:, None], span[None, :])
    maps['gmix_eq11'] = CoefficientMap(closed_forms.gmix_coefficient(distance, lam, size, 'paper'), None, 0)
    titles['gmix_eq11'] = 'GMix, Eq. 11:\nformula without borders'
    columns = 4
    rows = -(-(len(maps) + 1) // columns)
    figure = new_figure((12, 3.2 * rows))
    axes = list(figure.subplots(rows, columns).flat)
    shown = None
    for ax, (name, result) in zip(axes, maps.items(), strict=False):
        shown = ax.imshow(result.values, vmin=0.0, vmax=0.5, cmap='viridis', extent=_extent(size[0], size[1]))
        ax.set_title(titles[name], fontsize=11)
        ax.set_xticks([-48, 0, 48])
        ax.set_yticks([-48, 0, 48])
    bar = figure.colorbar(shown, ax=axes, location='left', fraction=0.02, pad=0.01, ticks=[0, 0.25, 0.5])
    bar.set_label(r'$E_i\,a_{i,i+(x,y)}$')
    ax = axes[len(maps)]
    for name, result in maps.items():
        style = '--' if name == 'gmix_eq11' else '-'
        along = result.values[size[0] - 1, size[1] - 1 :]
        ax.plot(np.arange(size[1]), along, style, label=titles[name].replace('\n', ' '))
    ax.set_title('Along the x axis', fontsize=11)
    ax.set_xlabel('horizontal displacement (pixels)')
    ax.set_ylim(0.0, 0.6 + 0.05 * len(maps))  # room for the legend above the curves
    ax.set_yticks(np.arange(0.0, 0.6, 0.1))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc='upper right')
    for ax in axes[len(maps) + 1 :]:
        ax.set_axis_off()
    figure.suptitle(
        r'Regularization coefficients at $\lambda = 0.5$ on $64\times 64$ pixels, by displacement: '
        'masks as the mixers draw them, and Eq. 11 beside them',
        fontsize=12,
    )
    return figure, {name: {str(d): result.at(0, d) for d in DISPLACEMENTS} for name, result in maps.items()}


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
    shown = None
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (name, values), letter in zip(axes, maps.items(), 'abcdefghijklmnopqrstuvwxyz', strict=False):
        height, width = (n // 2 + 1 for n in values.shape)
        shown = ax.imshow(values, vmin=0.0, vmax=top, cmap='viridis', extent=_extent(height, width))
        ax.set_title(f'({letter}) {name}', fontsize=11)
        ax.set_xlabel('horizontal displacement (pixels)')
    axes[0].set_ylabel('vertical displacement (pixels)')
    figure.colorbar(shown, ax=axes, fraction=0.02, pad=0.01, label='PartialGradProd, normalized')
    figure.suptitle(title, fontsize=11)
    return figure


def along_x(values: np.ndarray, displacements: Sequence[int] = (0, 1, 2, 4, 8, 16, 32)) -> Numbers:
    """Values of a map at horizontal displacements, those that it has."""
    height, width = (n // 2 for n in values.shape)
    return {str(d): float(values[height, width + d]) for d in displacements if d <= width}


def _extent(height: int, width: int) -> tuple[float, float, float, float]:
    """imshow's extent for a map of displacements: (0, 0) in the middle of the middle pixel."""
    return 0.5 - width, width - 0.5, height - 0.5, 0.5 - height


def figure6(predictions: Mapping[str, Prediction], gains: Mapping[str, Estimate], title: str) -> Any:
    """What is predicted of mix modes against what they gained, a point for each.

    Args:
        predictions: mix mode → prediction.
        gains: mix mode → top-1 less that without mixing, in percentage points.
        title: title of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    panels = {
        'coefficient': 'coefficient met by gradient products (Eq. 12)',
        'regularization': r"Theorem 1's $R_1 + R_2 + R_3$ (nats)",
        'mixing': 'mixing loss (Eq. 4) less plain loss (nats)',
    }
    figure = new_figure((12, 4.2))
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, (quantity, label) in zip(axes, panels.items(), strict=True):
        for name, prediction in predictions.items():
            predicted: Estimate = getattr(prediction, quantity)
            ax.errorbar(
                predicted.value,
                gains[name].value,
                xerr=predicted.standard_error,
                yerr=gains[name].standard_error,
                fmt='o',
                color=mix_modes()[name].colour,
                label=mix_modes()[name].title,
                capsize=2,
            )
        correlation = correlation_with_gain(predictions, gains, quantity)
        text = '' if correlation is None else f"Spearman's ρ = {correlation:+.2f} of {len(predictions)} mix modes"
        ax.set_title(text, fontsize=10)
        ax.set_xlabel(label)
        ax.axhline(0.0, color='black', linewidth=0.8)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel('measured gain in top-1 (points)\n± standard error')
    axes[-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def correlation_with_gain(
    predictions: Mapping[str, Prediction], gains: Mapping[str, Estimate], quantity: str
) -> float | None:
    """Spearman's ρ over mix modes of a predicted quantity and the gain; None for fewer than three modes."""
    predicted = [getattr(prediction, quantity).value for prediction in predictions.values()]
    return rank_correlation(predicted, [gains[name].value for name in predictions])
