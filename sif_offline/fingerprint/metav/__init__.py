"""The artefact of MetaV (Pan et al., KDD 2022): queries, an exported verifier, and how to read a score.

No torch: what a probe host or a judge runs is numpy.
"""
