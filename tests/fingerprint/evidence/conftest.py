"""A timestamp authority of our own, real but for its reputation."""

from collections.abc import Iterator

import pytest

from tests.fingerprint.evidence.authority import OPENSSL, Authority, serve


@pytest.fixture(scope="session")
def timestamp_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """``.url`` answers timestamp requests, ``.root_pem`` is the CA to trust."""
    if OPENSSL is None:
        pytest.skip("needs the openssl command, which plays the timestamp authority")
    with serve(Authority(tmp_path_factory.mktemp("authority"))) as authority:
        yield authority
