"""The suites that ship: ``sif evaluate NAME`` finds them here."""
