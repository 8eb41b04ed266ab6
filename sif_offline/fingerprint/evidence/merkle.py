"""Merkle trees as in Certificate Transparency (RFC 6962, section 2.1; the same tree as RFC 9162).

A leaf is hashed as ``sha256(0x00 | leaf)`` and a node as ``sha256(0x01 | left | right)``, so that no node can
pass for a leaf. **The root does not fix the number of leaves**: a path can be valid for several sizes (leaf 0
of 3 has the same path as leaf 0 of 4). Whoever publishes a root signs the size beside it.
"""

import hashlib
import hmac
from collections.abc import Sequence


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root over ``leaves`` in their order; sha256 of nothing where there are none."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [_leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes that lead from ``leaves[index]`` to the root, lowest first: at most ceil(log2(size)) of
    them, 32 bytes each.

    Raises:
        IndexError: ``index`` is not in 0..size-1.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of a tree of {len(leaves)}")
    level, path = [_leaf_hash(leaf) for leaf in leaves], []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):  # the last node of an odd level goes up alone
            path.append(level[sibling])
        level, index = _level_above(level), index >> 1
    return tuple(path)


def verify_inclusion(*, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``leaf`` is leaf ``index`` of the tree of ``size`` leaves with this ``root`` (RFC 9162, section
    2.1.3.2).

    Never raises on a hostile index, size or length: they are False. ``size`` must come from where ``root``
    does (see the module).
    """
    if not 0 <= index < size:
        return False
    here, last, node = index, size - 1, _leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False  # the path is longer than the tree is high
        if here & 1 or here == last:
            node = _node_hash(sibling, node)
            while here and not here & 1:  # levels at which this node went up alone
                here, last = here >> 1, last >> 1
        else:
            node = _node_hash(node, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and hmac.compare_digest(node, root)


def _level_above(level: list[bytes]) -> list[bytes]:
    """Nodes over the pairs of ``level``. Pairing from the left and carrying an odd one up is the RFC's split
    at the largest power of two.
    """
    above = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return above + level[-1:] if len(level) % 2 else above


def _leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
