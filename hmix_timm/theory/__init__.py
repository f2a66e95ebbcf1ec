"""The paper's analysis, recomputed from the masks that the mixers train with.

Pure functions: nothing here reads files or data sets, or plots.

* `laws`: how masks and label weights are distributed, for the paper's examples and for any mixer;
* `coefficients`: the regularization coefficients a_jk of any mode, exact or with a standard error (Eq. 9, Figure 4);
* `approximation`: the approximate loss of Theorem 1;
* `construction`: masks for given coefficients (Theorem 2);
* `gradients`: products of a trained model's input gradients (Eq. 12, Figure 5).
"""
