"""What the watch knows: every send, answer and score, in SQLite or any database that SQLAlchemy reaches."""

from probes.store.engine import LeaseLostError, StoreError
from probes.store.store import LastSend, Store, Unscored, open_store

__all__ = ["LastSend", "LeaseLostError", "Store", "StoreError", "Unscored", "open_store"]
