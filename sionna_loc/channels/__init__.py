"""How propagation paths come about.

Importing this package loads LLVM first, as Dr.Jit and TensorFlow need it.
"""

from sionna_loc._llvm import load_llvm

load_llvm()
