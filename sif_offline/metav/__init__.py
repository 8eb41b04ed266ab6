"""MetaV (Pan et al., KDD 2022, arXiv 2201.07391): queries and a meta-verifier trained together on a zoo of
models, stolen and not. What it makes is a pack of kind ``metav``; see :mod:`sif_offline.fingerprint.metav`.
"""
