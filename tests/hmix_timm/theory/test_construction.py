"""Theorem 2: drawn masks have the coefficients that were asked for."""

import numpy as np
import pytest

from hmix_timm.theory.closed_forms import cutmix_matrix, mixup_coefficient
from hmix_timm.theory.construction import mask_root, sample_masks


def positive(n, seed=0):
    """A nonnegative definite matrix of rank n − 1."""
    root = np.random.default_rng(seed).normal(size=(n, n - 1)) / n
    return root @ root.T


@pytest.mark.parametrize('lam', [0.0, 0.3, 0.5, 0.9])
def test_drawn_masks_have_mean_lambda_and_the_coefficients(lam):
    coefficients = positive(5) + (1 - lam) ** 2
    count = 200_000
    masks = sample_masks(coefficients, lam, count, np.random.default_rng(1))
    assert masks.shape == (count, 5)
    rest = 1 - masks
    np.testing.assert_allclose(masks.mean(axis=0), lam, atol=0.01)
    np.testing.assert_allclose(rest.T @ rest / count, coefficients, atol=0.012)


def test_root_squares_to_the_covariance():
    covariance = positive(6)
    root = mask_root(covariance + 0.49, 0.3)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)


def test_mixups_coefficients_give_mixups_mask():
    masks = sample_masks(np.full((4, 4), mixup_coefficient(0.3)), 0.3, 100, np.random.default_rng(0))
    np.testing.assert_allclose(masks, 0.3, atol=1e-6)


def test_impossible_coefficients_are_refused_with_the_smallest_eigenvalue():
    # at λ = 0.2 no pixel can have a_jj < (1 − λ)²: the eigenvalues here are 0.5 and 0.5 − 2 · 0.64
    with pytest.raises(ValueError, match=r'nonnegative definite .* smallest eigenvalue -0\.78 '):
        mask_root(np.eye(2) * 0.5, 0.2)
    # the printed Eq. 10 never covers the last pixel, whose a_jj is 0
    with pytest.raises(ValueError, match='smallest eigenvalue'):
        mask_root(cutmix_matrix(0.5, (6, 6)).reshape(36, 36), 0.5)


@pytest.mark.parametrize('matrix', [np.ones((2, 3)), np.array([[1.0, 0.2], [0.6, 1.0]]), np.ones(3)])
def test_asymmetric_coefficients_are_refused(matrix):
    with pytest.raises(ValueError, match='symmetric matrix'):
        mask_root(matrix, 0.5)


def test_lambda_is_checked():
    with pytest.raises(ValueError, match='lam must be'):
        mask_root(np.eye(2), 1.2)


@pytest.mark.parametrize('lam', [-0.01, 1.01, float('nan')])
def test_lambda_lies_between_0_and_1(lam):
    with pytest.raises(ValueError, match=r'^lam must be a finite number between 0 and 1'):
        mask_root(np.eye(2), lam)


def test_lambda_may_be_either_end():
    np.testing.assert_allclose(mask_root(np.eye(2) + 1.0, 0.0), np.eye(2), atol=1e-12)
    np.testing.assert_allclose(mask_root(np.eye(2), 1.0), np.eye(2), atol=1e-12)


@pytest.mark.parametrize('matrix', [np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 2, 2)), [[1.0, 0.2], [0.6, 1.0]]])
def test_what_is_no_symmetric_matrix_is_shown_by_its_shape(matrix):
    with pytest.raises(ValueError) as error:
        mask_root(matrix, 0.5)
    assert str(error.value) == f'coefficients must be a symmetric matrix, got shape {np.shape(matrix)}'


def test_a_slightly_negative_eigenvalue_is_refused_and_rounding_is_not():
    directions = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, np.sqrt(2)]]) / np.sqrt(2)
    for smallest in (-1e-3, -1e-8):
        covariance = directions.T @ np.diag([2.0, 1.0, smallest]) @ directions
        with pytest.raises(
            ValueError, match=rf'got smallest eigenvalue {smallest:g}\d* at lam=0\.5$'.replace('+', '.')
        ):
            mask_root(np.round(covariance, 12) + 0.25, 0.5)
    covariance = directions.T @ np.diag([2.0, 1.0, -1e-12]) @ directions
    root = mask_root(covariance + 0.25, 0.5)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-11)
