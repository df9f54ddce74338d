import pytest
from stream_parts import Pieces


@pytest.fixture(scope="session")
def session_pieces(tmp_path_factory):
    return Pieces(tmp_path_factory.mktemp("pieces"))


@pytest.fixture
def pieces(session_pieces):
    session_pieces.given.clear()
    return session_pieces
