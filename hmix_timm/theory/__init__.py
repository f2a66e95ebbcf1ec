"""The paper's analysis, recomputed from the masks that the mixers train with.

* `coefficients`: the regularization coefficients a_jk of any mode, exact or with a standard error (Eq. 9, Figure 4);
* `closed_forms`: the paper's formulas for them, when each holds, and where the printed paper slips;
* `approximation`: the approximate loss of Theorem 1 and the two-moons experiment (Figure 1);
* `construction`: masks for given coefficients (Theorem 2);
* `gradients`: products of a trained model's input gradients (Eq. 12, Figure 5);
* `figures`: `hmix-figures`, the paper's Figures 1 to 5.
"""
