"""Where things stand: scenes, regions, and how positions are drawn in them."""

from sionna_loc._llvm import load_llvm

load_llvm()
