"""Offline half of sifwatch: forge, calibrate, verify and evaluate fingerprints."""
