import pytest

pytest.register_assert_rewrite("harness")

from harness.fixtures import *  # noqa: E402, F403
