"""Packaging: the one place that names the dependencies."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """Return the package's version without importing it."""
    text = (HERE / "sionna_loc" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError("sionna_loc/__init__.py states no __version__.")
    return match.group(1)


def read_readme() -> str:
    """Return the README, or nothing while there is none."""
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="sionna-loc",
    version=read_version(),
    description="Wireless positioning networks trained natively on Sionna channels",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["sionna_loc", "sionna_loc.*"]),
    package_data={"sionna_loc.channels": ["*.json"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        "h5py>=3.11",
        # Dr.Jit's CPU back end needs the LLVM shared library; this wheel brings it.
        'karellen-llvm-core; platform_system=="Linux" and platform_machine=="x86_64"',
        "keras>=3.10",
        "matplotlib>=3.10",
        "numpy>=1.26",
        "scipy>=1.14.1",
        # The last line of releases whose PHY is TensorFlow.
        "sionna>=1.2.2,<2",
        "tensorflow>=2.20",
        "tqdm>=4.66",
    ],
    extras_require={
        "beam": ["apache-beam>=2.77", "tensorflow-datasets>=4.9.9"],
        "cuda": ["tensorflow[and-cuda]>=2.20"],
        "datasets": ["tensorflow-datasets>=4.9.9"],
        "dev": [
            # A second Keras back end: the tests train the models on it.
            "jax>=0.4.34",
            # The stored sets, and the test case that TFDS has for recipes.
            "dill>=0.3.8",
            "keras-tuner[bayesian]>=1.4.7",
            "pre-commit>=3.7",
            "psutil>=5.9",
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            "tensorboard>=2.20",
            "tensorflow-datasets>=4.9.9",
        ],
        "tensorboard": ["tensorboard>=2.20"],
        # KerasTuner imports TensorBoard in every trial, without asking for it.
        "tuning": ["keras-tuner[bayesian]>=1.4.7", "tensorboard>=2.20"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering",
    ],
)
