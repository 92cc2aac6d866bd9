"""`compiled`: XLA, or the function itself."""

import keras
import numpy as np
import pytest

from sionna_loc.layers.compiled import compiled


def double(x):
    return 2 * x


def test_functions_are_compiled_by_default():
    function = compiled(double)
    assert function is not double
    assert "HloModule" in function.experimental_get_compiler_ir(np.ones(3))("hlo")


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_variable_switches_it_off(monkeypatch, value):
    monkeypatch.setenv("SIONNA_LOC_COMPILE", value)
    assert (compiled(double) is double) == (value == "0")


def test_other_back_ends_compile_by_themselves(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert compiled(double) is double
