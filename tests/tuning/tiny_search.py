"""A search over the tiny model, as a program: what several processes share.

python tests/tuning/tiny_search.py --directory D --max-trials 4 --steps 6
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tuning")]

import sionna_loc.channels  # noqa: E402, F401 (loads LLVM)

# isort: split
import localizer_search  # noqa: E402
import tiny_training  # noqa: E402

from sionna_loc import training  # noqa: E402


def space(hp, scenario):
    return {
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        "batch_size": 8,
        "model_options": {"units": hp.Int("units", 4, 40)},
    }


# The process of a trial imports this file, but does not run what is below.
training.save_figures = lambda *arguments: None
tiny_training.register()

if __name__ == "__main__":
    sys.exit(localizer_search.main("tiny", space, __doc__, scenario="free_space"))
