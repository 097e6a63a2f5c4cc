import pytest

from tests.videos import Videos


@pytest.fixture(scope="session")
def own_videos(tmp_path_factory):
    """Makes video files, once for all tests here."""
    return Videos(tmp_path_factory.mktemp("videos"))
