"""Merkle trees against the vectors of Certificate Transparency, and against every change of a proof."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sif_offline.fingerprint.evidence.merkle import inclusion_path, merkle_root, verify_inclusion

# inputs and roots of the certificate-transparency reference implementation (merkle_tree_test)
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

trees = st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def leaves_of(size: int) -> list[bytes]:
    return [b"leaf %d" % index for index in range(size)]


def rfc_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962, section 2.1 defines it: by recursion."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH as RFC 6962, section 2.1.1 defines it."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*rfc_path(leaves[:split], index), rfc_root(leaves[split:])]
    return [*rfc_path(leaves[split:], index - split), rfc_root(leaves[:split])]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_certificate_transparency(size: int) -> None:
    assert merkle_root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_paths_of_certificate_transparency(index: int, size: int) -> None:
    assert [node.hex() for node in inclusion_path(LEAVES[:size], index)] == PATHS[index, size]


@given(trees)
def test_the_definition_by_recursion(tree: tuple[int, int]) -> None:
    size, index = tree
    assert merkle_root(leaves_of(size)) == rfc_root(leaves_of(size))
    assert list(inclusion_path(leaves_of(size), index)) == rfc_path(leaves_of(size), index)


@pytest.mark.parametrize("size", [*range(1, 35), 1000])
def test_every_leaf_is_included(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle_root(leaves)
    for index in range(0, size, 1 + size // 50):
        path = inclusion_path(leaves, index)
        assert verify_inclusion(leaf=leaves[index], index=index, size=size, path=path, root=root)


@given(trees, st.data())
def test_any_change_is_noticed(tree: tuple[int, int], data: st.DataObject) -> None:
    size, index = tree
    leaves = leaves_of(size)
    leaf, root, path = leaves[index], merkle_root(leaves), list(inclusion_path(leaves, index))

    def holds(**changed: object) -> bool:
        proof = {"leaf": leaf, "index": index, "size": size, "path": path, "root": root} | changed
        return verify_inclusion(**proof)  # type: ignore[arg-type]

    def flipped(found: bytes) -> bytes:
        bit = data.draw(st.integers(0, 8 * len(found) - 1))
        return (int.from_bytes(found, "big") ^ 1 << bit).to_bytes(len(found), "big")

    assert holds()
    assert not holds(leaf=flipped(leaf))
    assert not holds(root=flipped(root))
    assert not any(holds(index=other) for other in range(-3, size + 3) if other != index)
    assert not holds(path=[*path, bytes(32)])
    for at, node in enumerate(path):
        assert not holds(path=path[:at] + path[at + 1 :])
        assert not holds(path=[*path[:at], flipped(node), *path[at + 1 :]])
        assert not holds(path=[*path[:at], node[:-1], *path[at + 1 :]])


@given(trees)
def test_a_size_holds_where_the_path_has_the_same_shape_and_nowhere_else(tree: tuple[int, int]) -> None:
    """The root does not fix the size: leaf 0 of 3 is also leaf 0 of 4. This is why the size is signed."""
    size, index = tree
    leaves = leaves_of(size)
    root, path = merkle_root(leaves), inclusion_path(leaves, index)
    for other in range(size + 10):
        found = verify_inclusion(leaf=leaves[index], index=index, size=other, path=path, root=root)
        assert found == (index < other and _shape(index, other) == _shape(index, size))


def _shape(index: int, size: int) -> list[bool]:
    """Which siblings of a path stand on the left, from the definition by recursion."""
    if size == 1:
        return []
    split = 1 << (size - 1).bit_length() - 1
    return [*_shape(index, split), False] if index < split else [*_shape(index - split, size - split), True]


def test_a_node_is_no_leaf() -> None:
    """No second preimage: the two children of a node, given as one leaf, do not prove a smaller tree."""
    leaves = leaves_of(4)
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    root, right = merkle_root(leaves), inclusion_path(leaves, 0)[1]
    assert not verify_inclusion(leaf=hashes[0] + hashes[1], index=0, size=2, path=[right], root=root)
    assert merkle_root([hashes[0] + hashes[1], hashes[2] + hashes[3]]) != root


def test_a_path_is_not_longer_than_the_tree_is_high() -> None:
    """Leaf 1 of 2 is not the only leaf of a tree of one."""
    leaves = leaves_of(2)
    proof = {"path": inclusion_path(leaves, 1), "root": merkle_root(leaves)}
    assert verify_inclusion(leaf=leaves[1], index=1, size=2, **proof)  # type: ignore[arg-type]
    assert not verify_inclusion(leaf=leaves[1], index=0, size=1, **proof)  # type: ignore[arg-type]


def test_hostile_numbers_and_lengths_are_false() -> None:
    leaves = leaves_of(3)
    root, path = merkle_root(leaves), inclusion_path(leaves, 0)
    proof = {"leaf": leaves[0], "index": 0, "size": 3, "path": path, "root": root}
    hostile: list[dict[str, object]] = [
        {"index": 10**30, "size": 10**31},
        {"index": -1},
        {"size": 0},
        {"size": -3},
        {"size": 2**64},
        {"root": b""},
        {"root": root + b"\x00"},
        {"path": []},
        {"path": [b""] * 2},
        {"path": [bytes(32)] * 10_000},
        {"path": [bytes(32)] * 10_000, "size": 2**9_999},
    ]
    for changed in hostile:
        assert verify_inclusion(**(proof | changed)) is False  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "index"), [(0, 0), (3, 3), (3, -1)])
def test_a_path_needs_a_leaf(size: int, index: int) -> None:
    with pytest.raises(IndexError):
        inclusion_path(leaves_of(size), index)
