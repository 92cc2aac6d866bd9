"""Lets the tests of this folder import the helper modules beside them."""

import sys
from pathlib import Path

import pytest
import tensorflow as tf

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def eager():
    """Without compilation, where many models are called a few times each."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
