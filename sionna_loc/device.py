"""Which processor ray tracing and training run on.

The choice is made once per process, before the first ray is traced. Training and
ray tracing share one card, so TensorFlow is told to take its memory on demand. On the
CPU, memory that is freed is kept for the next step.
"""

import os
from dataclasses import dataclass

from sionna_loc._llvm import has_cuda
from sionna_loc._memory import keep_freed_memory
from sionna_loc.checks import check, check_known

WISHES = ("auto", "cpu", "gpu")

_VARIANTS = {"cpu": "llvm_ad_mono_polarized", "gpu": "cuda_ad_mono_polarized"}
_chosen: list["Device"] = []


@dataclass(frozen=True)
class Device:
    """The processor in use.

    Args:
        kind: `"cpu"` or `"gpu"`, where rays are traced.
        description: one line for the user.
    """

    kind: str
    description: str

    @property
    def mitsuba_variant(self) -> str:
        """Name of the Mitsuba variant that traces on this device."""
        return _VARIANTS[self.kind]


def use_device(wish: str = "auto") -> Device:
    """Choose the device for the rest of the process and set TensorFlow up for it.

    Args:
        wish: `"auto"` takes a GPU where there is one; `"cpu"` and `"gpu"` insist.

    Returns: the device; its `description` is the line to show.
    Raises: UserError if the wish is unknown, if there is no GPU for `"gpu"`, or if
        another device was already chosen.
    """
    check_known("device", wish, WISHES)
    check(
        wish != "gpu" or has_cuda(),
        "No CUDA device was found: choose `cpu` or `auto`, or install the NVIDIA "
        "driver.",
        device=wish,
    )
    if _chosen:
        kept = _chosen[0]
        check(
            wish in ("auto", kept.kind),
            f"The device of this process is already {kept.kind!r}; choose it before "
            "anything else.",
            device=wish,
        )
        return kept
    kind = wish if wish != "auto" else ("gpu" if has_cuda() else "cpu")
    keep_freed_memory()
    try:
        device = Device(kind, _describe(kind, _set_up_tensorflow(kind)))
    except RuntimeError as error:  # TensorFlow has initialised its devices.
        check(
            wish == "auto",
            "The device must be chosen before TensorFlow runs its first operation: "
            f"{error}",
            device=wish,
        )
        device = Device(kind, f"Device: {kind}; TensorFlow was set up before.")
    _chosen.append(device)
    return device


def current_device() -> Device:
    """Return the device in use, choosing one as `"auto"` does if none is yet."""
    return _chosen[0] if _chosen else use_device("auto")


def _set_up_tensorflow(kind: str) -> list[str]:
    """Let TensorFlow see what `kind` allows; return the names of its GPUs."""
    import tensorflow as tf

    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return []
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [detail.get("device_name", "GPU") for detail in details]


def _describe(kind: str, gpu_names: list[str]) -> str:
    """Say in one line what was taken."""
    cores = len(os.sched_getaffinity(0))
    cpu = f"CPU ({cores} core{'s' if cores > 1 else ''})"
    if kind == "cpu":
        return f"Device: {cpu}, ray tracing with LLVM."
    if not gpu_names:
        return f"Device: GPU for ray tracing with CUDA; TensorFlow sees none: {cpu}."
    return f"Device: GPU {', '.join(gpu_names)}, shared with ray tracing (CUDA)."
