"""``python -m probes.cli``."""

from probes.cli.app import main

main()
