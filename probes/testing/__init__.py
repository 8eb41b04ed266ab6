"""Scriptable stand-ins that ship with the probes, so that a watch can be tried without a real suspect."""
