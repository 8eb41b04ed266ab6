"""The whole idea in one run: forge, calibrate, probe three endpoints, screen a gateway, write a report."""
