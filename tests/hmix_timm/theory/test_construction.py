"""Theorem 2: drawn masks have the coefficients that were asked for."""

import numpy as np
import pytest

from hmix_timm.theory.construction import mask_root, sample_masks

from .oracles import cutmix_matrix


def positive(n):
    """A nonnegative definite matrix of rank n − 1."""
    root = np.random.default_rng(0).normal(size=(n, n - 1)) / n
    return root @ root.T


@pytest.mark.parametrize('lam', [0.0, 0.3, 0.9, 1.0])
def test_drawn_masks_have_mean_lambda_and_the_coefficients(lam):
    coefficients = positive(5) + (1 - lam) ** 2
    masks = sample_masks(coefficients, lam, 200_000, np.random.default_rng(1))
    assert masks.shape == (200_000, 5)
    np.testing.assert_allclose(masks.mean(axis=0), lam, atol=0.01)
    np.testing.assert_allclose((1 - masks).T @ (1 - masks) / len(masks), coefficients, atol=0.012)


def test_mixups_coefficients_give_mixups_mask():
    masks = sample_masks(np.full((4, 4), 0.7**2), 0.3, 100, np.random.default_rng(0))
    np.testing.assert_allclose(masks, 0.3, atol=1e-6)


def test_impossible_coefficients_are_refused_with_the_smallest_eigenvalue():
    # at λ = 0.2 no pixel can have a_jj < (1 − λ)²: the eigenvalues here are 0.5 and 0.5 − 2 · 0.64
    with pytest.raises(ValueError, match=r'nonnegative definite .* smallest eigenvalue -0\.78 at lam=0\.2'):
        mask_root(np.eye(2) * 0.5, 0.2)
    # the printed Eq. 10 never covers the last pixel, whose a_jj is 0
    with pytest.raises(ValueError, match='smallest eigenvalue'):
        mask_root(cutmix_matrix(0.5, (6, 6)).reshape(36, 36), 0.5)


@pytest.mark.parametrize(('smallest', 'refused'), [(-1e-8, True), (-1e-12, False)])
def test_a_negative_eigenvalue_is_refused_and_rounding_is_not(smallest, refused):
    directions = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, np.sqrt(2)]]) / np.sqrt(2)
    covariance = directions.T @ np.diag([2.0, 1.0, smallest]) @ directions
    if refused:
        with pytest.raises(ValueError, match='smallest eigenvalue -1e-08 '):
            mask_root(covariance + 0.25, 0.5)
    else:
        root = mask_root(covariance + 0.25, 0.5)
        np.testing.assert_allclose(root @ root.T, covariance, atol=1e-11)


@pytest.mark.parametrize('matrix', [np.ones((2, 3)), np.ones((2, 2, 2)), [[1.0, 0.2], [0.6, 1.0]]])
def test_a_matrix_that_is_not_symmetric_is_refused_with_its_shape(matrix):
    with pytest.raises(ValueError) as error:
        mask_root(matrix, 0.5)
    assert str(error.value) == f'coefficients must be a symmetric matrix, got shape {np.shape(matrix)}'


@pytest.mark.parametrize('lam', [-0.01, 1.01, float('nan')])
def test_lambda_lies_between_0_and_1(lam):
    with pytest.raises(ValueError, match=r'^lam must be a finite number between 0 and 1'):
        mask_root(np.eye(2), lam)
