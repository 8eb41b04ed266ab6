"""Evidence that holds before a stranger: commitments made before the first probe, transcripts that cannot be
rewritten, signatures, timestamps of a third party, and the bundle that carries all of them.

Nothing is imported here; the modules are imported by name, as everywhere in ``fingerprint``.
"""
