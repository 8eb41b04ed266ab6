"""Schema steps of the store; `probes.store.migrate` applies them."""
