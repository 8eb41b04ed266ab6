"""A watch over endpoints: sends the triggers of a fingerprint pack on a schedule and keeps the evidence."""
