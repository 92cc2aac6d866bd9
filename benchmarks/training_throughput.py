"""How fast VIn-Loc trains: samples/s and GFLOP/s, beside plainer formulations.

Run as

    python benchmarks/training_throughput.py --presets compact paper --json FILE

Everything is measured in turns in one process, so that the ratios hold on a noisy
machine. Inputs are random numbers of the real shapes (a training step costs the same
whatever the values); the channels' cost is `benchmarks/streaming.py`'s question.

* `ours`: the library's model on ragged batches, the part behind the front compiled,
  trained by its own AdamW.
* `paper_parts`: the same without what goes beyond the paper (anchor, refinement).
* `plain`: these parts with the preset's widths, written plainly: batches padded to 12
  TRPs, taps not folded, Keras's own attention and AdamW, nothing compiled, every block
  computed for every token.
* `torch`: `plain` written in PyTorch, if it is installed.
* `matmul`: float32 matrix products, a large square one and one of the sizes of a
  transformer's layers; the faster of the two stands for the machine's peak.

GFLOP are those of `ours`: 2 per multiplication and addition of its matrix products and
convolutions, three times the forward pass for a training step.
"""

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch's threads would otherwise go on spinning into the next one's turn.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import itertools

import keras
import numpy as np
import tensorflow as tf

from sionna_loc.device import use_device
from sionna_loc.losses import EuclideanDistance
from sionna_loc.models.vinloc import VInLoc
from sionna_loc.optimizers import FusedAdamW

NUM_TRPS, NUM_TAPS = 12, 256
HEARD_SHARE = 0.93
"""Share of the TRPs of a sample that a UE of `paris_scn1` hears."""
PRODUCTS = ((4096, 4096, 4096), (3072, 512, 1024))
"""Rows, inner size and columns of `matmul`: some machines do badly on square ones."""
PRODUCT_FLOP = 2 * 4096**3
"""Operations of one turn of `matmul`."""


def main() -> None:
    """Measure, print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["compact", "paper"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    print(use_device().description)  # Memory is kept between steps as in trainings.
    results = []
    for preset in arguments.presets:
        results.append(measure(preset, arguments))
        print(json.dumps(results[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(preset: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the medians of all formulations of a preset."""
    size, steps = arguments.batch_size, arguments.steps
    model = make_model(preset)
    parts = make_model(preset, anchor_on_trps=False, refiner_spacings=())
    turns = {
        "ours": ours(model, size, steps),
        "paper_parts": ours(parts, size, steps),
        "plain": plain(preset, size, steps),
    }
    try:
        turns["torch"] = torch_plain(preset, size, steps)
    except ImportError:
        print("torch is not installed: no PyTorch column")
    for sizes in PRODUCTS:
        turns[sizes] = functools.partial(matrix_product, *sizes)
    for turn in turns.values():
        turn()  # Compile and warm up.
    seconds = {name: [] for name in turns}
    for _ in range(arguments.rounds):
        for name, turn in turns.items():
            begin = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peaks = {sizes: PRODUCT_FLOP / median.pop(sizes) / 1e9 for sizes in PRODUCTS}
    rates = {name: size * steps / value for name, value in median.items()}
    gflop = 3 * forward_flop(model, HEARD_SHARE * NUM_TRPS) / 1e9
    return {
        "preset": preset,
        "batch_size": size,
        "parameters": model.count_params(),
        "samples_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": {
            name: round(rates["paper_parts"] / rates[name], 2)
            for name in ("plain", "torch")
            if name in rates
        },
        "gflop_per_sample": round(gflop, 3),
        "gflop_per_s": round(gflop * rates["ours"], 1),
        "matmul_gflop_per_s": round(max(peaks.values()), 1),
        "matmul_by_size": {
            " x ".join(map(str, sizes)): round(x, 1) for sizes, x in peaks.items()
        },
    }


def make_model(preset: str, **options: object) -> VInLoc:
    """Return the library's model."""
    region = [[0, 0, 0], [280, 280, 3]]
    return VInLoc.from_preset(
        preset, region=region, num_taps=NUM_TAPS, sampling_rate=200e6, **options
    )


def random_batch(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return CIRs, TRP positions, numbers of heard TRPs and UE positions."""
    rng = np.random.default_rng(0)
    cir = rng.normal(size=(size, NUM_TRPS, 1, NUM_TAPS, 2)).astype("float32")
    trp = rng.uniform(0, 280, (size, NUM_TRPS, 3)).astype("float32")
    num_heard = np.full(size, NUM_TRPS)
    num_heard[: round(size * NUM_TRPS * (1 - HEARD_SHARE))] -= 1
    return cir, trp, num_heard, rng.uniform(0, 280, (size, 3)).astype("float32")


def ours(model: VInLoc, size: int, steps: int) -> Callable[[], None]:
    """Return a turn of training steps of the library's model."""
    cir, trp, num_heard, target = random_batch(size)
    heard = np.arange(NUM_TRPS) < num_heard[:, None]
    inputs = {
        "cir": tf.RaggedTensor.from_row_lengths(cir[heard], num_heard),
        "trp_position": tf.RaggedTensor.from_row_lengths(trp[heard], num_heard),
    }
    model.adapt([(inputs, {"position": tf.constant(target)})])
    return _keras_turn(model, FusedAdamW, inputs, target, steps)


def plain(preset: str, size: int, steps: int) -> Callable[[], None]:
    """Return a turn of training steps of the plain formulation in Keras."""
    cir, trp, num_heard, target = random_batch(size)
    inputs = {
        "cir": tf.constant(cir[:, :, 0]),
        "trp_position": tf.constant(trp / 140 - 1),
        "trp_mask": tf.constant(np.arange(NUM_TRPS) < num_heard[:, None]),
    }
    model = plain_model(preset)
    return _keras_turn(model, keras.optimizers.AdamW, inputs, target, steps)


def _keras_turn(
    model: keras.Model,
    optimizer: type[keras.optimizers.AdamW],
    inputs: dict[str, object],
    target: np.ndarray,
    steps: int,
) -> Callable[[], None]:
    """Return a turn of `fit`."""
    updates = optimizer(learning_rate=1e-4, global_clipnorm=1.0)
    model.compile(updates, EuclideanDistance(), jit_compile=False)
    batch = (inputs, {"position": tf.constant(target)})
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread sleeps on when `fit` is done
    dataset = tf.data.Dataset.from_tensors(batch).repeat().with_options(options)

    def turn() -> None:
        model.fit(dataset, steps_per_epoch=steps, verbose=0)

    return turn


def plain_model(preset: str) -> keras.Model:
    """Return the paper's parts with a preset's sizes as a straightforward model."""
    sizes = VInLoc.PRESETS[preset]
    layers = keras.layers
    cir = keras.Input((NUM_TRPS, NUM_TAPS, 2), name="cir")
    trp = keras.Input((NUM_TRPS, 3), name="trp_position")
    mask = keras.Input((NUM_TRPS,), dtype="bool", name="trp_mask")
    magnitude = layers.Lambda(
        lambda x: keras.ops.norm(x, axis=-1, keepdims=True),
        output_shape=(NUM_TRPS, NUM_TAPS, 1),
    )(cir)
    x = layers.Concatenate()([cir, magnitude])
    x = layers.TimeDistributed(_plain_unet(sizes["unet_filters"]))(x)
    x = layers.Reshape((NUM_TRPS, -1))(x)
    for _ in range(2):
        x = layers.Dense(sizes["cir_units"], "relu")(x)
    p = layers.Dense(sizes["position_units"], "relu")(trp)
    p = layers.Dense(sizes["position_units"] - 3, "relu")(p)
    x = layers.Concatenate()([x, p, trp])
    width = sizes["cir_units"] + sizes["position_units"]
    loc = layers.Lambda(lambda a: a[:, :1] * 0, output_shape=(1, width))(x)
    x = layers.Concatenate(axis=1)([loc, x])
    keys = layers.Lambda(
        lambda m: keras.ops.pad(m, [[0, 0], [1, 0]], constant_values=True)[:, None],
        output_shape=(1, NUM_TRPS + 1),
    )(mask)
    heads = sizes["num_heads"]
    for _ in range(sizes["num_blocks"]):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, width // heads)(y, y, attention_mask=keys)
        x = layers.Add()([x, y])
        y = layers.Dense(sizes["mlp_units"], "relu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.Lambda(lambda a: a[:, 0], output_shape=(width,))(x)
    for _ in range(3):
        x = layers.Dense(sizes["head_units"], "relu")(x)
    outputs = {"position": layers.Dense(3)(x)}
    return keras.Model({"cir": cir, "trp_position": trp, "trp_mask": mask}, outputs)


def _plain_unet(filters: Sequence[int]) -> keras.Model:
    """Return a UNet over all taps of one CIR."""
    layers = keras.layers

    def double(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
        for _ in range(2):
            x = layers.Conv1D(width, 3, padding="same", activation="relu")(x)
        return x

    inputs = x = keras.Input((NUM_TAPS, 3))
    skips = []
    for width in filters[:-1]:
        x = double(x, width)
        skips.append(x)
        x = layers.MaxPooling1D(2)(x)
    x = double(x, filters[-1])
    for width, skip in zip(filters[-2::-1], reversed(skips), strict=True):
        x = layers.Concatenate()([skip, layers.UpSampling1D(2)(x)])
        x = double(x, width)
    return keras.Model(inputs, layers.Conv1D(6, 1)(x))


def torch_plain(preset: str, size: int, steps: int) -> Callable[[], None]:
    """Return a turn of training steps of the plain formulation in PyTorch."""
    import torch
    from torch import nn

    sizes = VInLoc.PRESETS[preset]
    width = sizes["cir_units"] + sizes["position_units"]

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            filters = sizes["unet_filters"]
            ins = (3, *filters[:-1])
            self.down = nn.ModuleList(map(self._double, ins, filters))
            self.up = nn.ModuleList(
                self._double(a + b, b)
                for a, b in zip(filters[:0:-1], filters[-2::-1], strict=True)
            )
            self.out = nn.Conv1d(filters[0], 6, 1)

        @staticmethod
        def _double(a: int, b: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv1d(a, b, 3, padding=1),
                nn.ReLU(),
                nn.Conv1d(b, b, 3, padding=1),
                nn.ReLU(),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips = []
            for level in self.down[:-1]:
                skips.append(level(x))
                x = nn.functional.max_pool1d(skips[-1], 2)
            x = self.down[-1](x)
            for level, skip in zip(self.up, reversed(skips), strict=True):
                x = nn.functional.interpolate(x, scale_factor=2)
                x = level(torch.cat([skip, x], 1))
            return self.out(x)

    def mlp(*units: int) -> nn.Module:
        pairs = itertools.pairwise(units)
        return nn.Sequential(
            *(m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU()))
        )[:-1]

    unet = UNet()
    cir_mlp = mlp(6 * NUM_TAPS, sizes["cir_units"], sizes["cir_units"])
    units = sizes["position_units"]
    position = mlp(3, units, units - 3)
    block = nn.TransformerEncoderLayer(
        width,
        sizes["num_heads"],
        sizes["mlp_units"],
        dropout=0.0,
        batch_first=True,
        norm_first=True,
    )
    encoder = nn.TransformerEncoder(
        block, sizes["num_blocks"], enable_nested_tensor=False
    )
    head = mlp(width, *[sizes["head_units"]] * 3, 3)
    modules = nn.ModuleList([unet, cir_mlp, position, encoder, head])
    optimizer = torch.optim.AdamW(modules.parameters(), 1e-4)
    cir, trp, num_heard, target = random_batch(size)
    cir = torch.tensor(cir[:, :, 0]).movedim(-1, -2).reshape(-1, 2, NUM_TAPS)
    trp, target = torch.tensor(trp / 140 - 1), torch.tensor(target)
    absent = torch.tensor(np.arange(-1, NUM_TRPS) >= num_heard[:, None])

    def turn() -> None:
        for _ in range(steps):
            x = torch.cat([cir, cir.norm(dim=1, keepdim=True)], 1)
            x = cir_mlp(unet(x).flatten(1)).reshape(size, NUM_TRPS, -1)
            x = torch.cat([x, position(trp), trp], -1)
            x = torch.cat([torch.zeros(size, 1, width), x], 1)
            x = head(encoder(x, src_key_padding_mask=absent)[:, 0])
            loss = (x - target).norm(dim=-1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            optimizer.step()

    return turn


def matrix_product(rows: int, inner: int, columns: int) -> None:
    """Multiply matrices of these sizes, as often as makes `PRODUCT_FLOP`."""
    a, b = tf.ones((rows, inner)), tf.ones((inner, columns))
    for _ in range(round(PRODUCT_FLOP / (2 * rows * inner * columns))):
        product = tf.matmul(a, b)
    float(product[0, 0])


def forward_flop(model: VInLoc, num_trps: float) -> float:
    """Return the floating-point operations of one sample's forward pass."""
    unet = 0.0
    levels = len(model.unet.filters)
    widths = [layer for level in model.unet._down for layer in level]
    positions = [size[0] for size in model.unet._sizes for _ in range(2)]
    widths += [layer for level in model.unet._up for layer in level]
    positions += [size[0] for size in model.unet._sizes[-2::-1] for _ in range(2)]
    if levels == 1:
        positions = positions[:2]
    for layer, size in zip(widths, positions, strict=True):
        unet += size * sum(_kernel_sizes(layer))
    tokens = unet + sum(_kernel_sizes(model.cir_mlp))
    tokens += sum(_kernel_sizes(model.position_embedding))
    total = num_trps * tokens + _encoder(model.encoder, num_trps)
    total += sum(_kernel_sizes(model.head))
    if model._anchor is not None:
        total += (num_trps + 1) * sum(_kernel_sizes(model._anchor)) / 2
    for refiner in model._refiners:
        links = (refiner._link_in, refiner._link_hidden, refiner._link_out)
        total += num_trps * sum(sum(_kernel_sizes(layer)) for layer in links)
        total += sum(_kernel_sizes(refiner._state_in) + _kernel_sizes(refiner._set_out))
        for block in refiner._blocks:
            total += _block(block, num_trps + 1, num_trps + 1)
    return 2 * total


def _kernel_sizes(layer: keras.layers.Layer) -> list[int]:
    """Return the sizes of a layer's matrices."""
    return [int(np.prod(w.shape)) for w in layer.trainable_weights if w.ndim > 1]


def _encoder(encoder: keras.layers.Layer, num_trps: float) -> float:
    """Return the multiplications of a [LOC] encoder; its last block gives one token."""
    count = num_trps + 1
    *blocks, last = encoder._blocks
    return sum(_block(block, count, count) for block in blocks) + _block(last, count, 1)


def _block(block: keras.layers.Layer, count: float, num_outputs: float) -> float:
    """Return the multiplications of an encoder block over `count` tokens."""
    width = block._projection.kernel.shape[0]
    matrices = sum(_kernel_sizes(block)) - 3 * width * width
    return count * 3 * width * width + num_outputs * (matrices + 2 * count * width)


if __name__ == "__main__":
    main()
