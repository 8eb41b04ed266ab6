"""The artefact and its mathematics: keys, green lists, scores, e-processes, packs. No torch, and quick to
import.

Everything here is a pure function or a frozen value; the modules are imported by name, so that a probe host
that only needs the e-process does not pay for the image decoder.
"""
