"""The only training path: scenario, model, training, evaluation, run folder."""

import contextlib
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from sionna_loc import saving
from sionna_loc.assembly import (
    Features,
    compile_model,
    default_run_dir,
    make_features,
    make_model,
    make_recipe,
    make_record,
    make_scenario,
    reading_options,
    serves,
    shows_one_place,
)
from sionna_loc.callbacks import Pace, StopOnDivergence, Throughput, Validation
from sionna_loc.checkpoints import (
    Checkpoints,
    TrainingDiverged,
    TrainingState,
    assign_arrays,
    list_checkpoints,
    restore,
    variables_to_arrays,
)
from sionna_loc.checks import check
from sionna_loc.data.steps import batches_of_steps
from sionna_loc.data.waiting import WaitMeter
from sionna_loc.device import use_device
from sionna_loc.evaluation import (
    BATCH_SIZE,
    Evaluation,
    evaluate,
    fields_with_links,
    with_links,
)
from sionna_loc.interrupts import Interrupts, TrainingInterrupted
from sionna_loc.models.base import Localizer
from sionna_loc.plotting import save_figure, save_figures
from sionna_loc.posterior_maps import posterior_maps
from sionna_loc.progress import ProgressLine
from sionna_loc.recipes import Recipe, RunConfig
from sionna_loc.registry import get_model_class
from sionna_loc.resuming import check_same_run, model_arguments

__all__ = ["RunConfig", "TrainingDiverged", "TrainingInterrupted", "fit"]

_NUM_ADAPT_BATCHES = 16
_MOST_READ = 8192
"""Samples, those of windows counted, that are read together for several steps."""
_BASELINE = "multilateration"
_WITHOUT_ARGUMENTS = (
    "The run began with a version of the library that did not keep the arguments of "
    "its model: it goes on with what its preset is now."
)


def fit(
    config: RunConfig,
    run_dir: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
    command: str | None = None,
) -> Path:
    """Train a model, evaluate it on the frozen test set and save the run.

    A model without weights is only evaluated. Ctrl-C and SIGTERM end the training
    with a checkpoint.

    Args:
        config: what to train on what, and how.
        run_dir: folder of the run; `default_run_dir(config)` if None.
        resume: bool. Continue the run in the folder. `config` must be the run's. A
            run limited by steps or epochs comes to the same result as if it had never
            stopped, on the same machine. The schedule of one limited by time follows
            the clock: it ends after the same time of training, but not in the same
            number of steps, stopped or not.
        overwrite: bool. Replace the run that the folder holds, if it does.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.
        command: the command line, for `config.json`.

    Returns: the folder of the run.
    Raises: UserError if something in the arguments is wrong; TrainingInterrupted
        after a signal; TrainingDiverged if the loss became infinite or not a number,
        with the last good weights saved as the model.
    """
    check(not (resume and overwrite), "Either resume or overwrite.", resume=resume)
    run_dir = Path(run_dir or default_run_dir(config))
    if resume:
        saving.read_run(run_dir)
    else:
        saving.check_run_dir(run_dir, overwrite)
    device_line = use_device(device).description
    if not quiet:
        print(device_line, flush=True)
    scenario = make_scenario(config)
    if scenario.holds_inputs:
        scenario.check_trainable()
    record = make_record(config, scenario) | {
        "versions": saving.versions(),
        "device": device_line,
        "command": command,
    }
    resolved = RunConfig.from_dict(record["resolved"])
    keras.utils.set_random_seed(config.seed)
    model = make_model(resolved, scenario)
    record["model"] = model_arguments(model)
    resumed = resume and list_checkpoints(run_dir / saving.CHECKPOINTS)
    if resolved.init_from is not None and not resumed:
        saving.set_initial_weights(model, resolved.init_from)
    with saving.locked(run_dir):
        if resume:
            began = saving.read_run(run_dir)
            check_same_run(began, record, run_dir)
            if "model" not in began and not quiet:
                print(_WITHOUT_ARGUMENTS, flush=True)
            saving.sweep(run_dir)
        else:
            saving.prepare_run_dir(run_dir, overwrite)
            saving.write_json(run_dir / saving.CONFIG, record)
        if not (run_dir / saving.METRICS).exists():
            _Run(resolved, scenario, model, run_dir, quiet).execute()
    return run_dir


@dataclass
class _Run:
    """One run: the steps of `fit` once everything is checked."""

    config: RunConfig
    scenario: Any
    model: Localizer
    run_dir: Path
    quiet: bool

    def execute(self) -> None:
        """Train, evaluate, save."""
        self._say(f"Run folder: {self.run_dir}")
        # Both sets are drawn first: what is wrong with them shows before training.
        test = self._frozen("test", self.config.num_test)
        state = None
        if self.model.is_trainable:
            validation = self._frozen("validation", self.config.num_val)
            state = self._train(validation)
            self.model.set_weights(state.best_weights)
        elif self.model.calibrates:
            self._say(f"Calibrating on {self.config.num_val} validation samples.")
            self.model.calibrate(self._frozen("validation", self.config.num_val))
        else:
            self._adapt(self.model)
        saving.save_model(self.model, self.run_dir / saving.MODEL)
        self._evaluate(test, state)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def _frozen(
        self, split: str, num_samples: int, model: Localizer | None = None
    ) -> tf.data.Dataset:
        """Return a frozen set as batches of (inputs, targets) of a model.

        The test set says besides what is in line of sight, if the scenario knows.
        """
        features = make_features(self.scenario, model or self.model)
        options = reading_options(features)
        if split == "test":
            options["fields"] = fields_with_links(features, self.scenario)
            features = with_links(features)
        samples = self.scenario.frozen(
            split,
            num_samples,
            num_trps=self.config.num_trps,
            batch_size=BATCH_SIZE,
            **options,
        )
        return _mapped(samples, features)

    def _samples(
        self, features: Features, start: int = 0, num_steps: int = 1, **options: Any
    ) -> tf.data.Dataset:
        """Return the training stream from a sample on, as `features` take it.

        Each batch has the samples of so many steps.
        """
        return self.scenario.batches(
            num_steps * self.config.batch_size,
            seed=self.config.seed,
            num_trps=self.config.num_trps,
            start=start,
            **reading_options(features),
            **options,
        )

    @functools.cached_property
    def _first_samples(self) -> tf.data.Dataset:
        """The first batches of the training stream, for scales and the like.

        They are kept as paths, before there are taps: model and baseline read the same,
        and nothing is traced again for the second.
        """
        stream = self._samples(make_features(self.scenario, self.model))
        batches = list(stream.take(_NUM_ADAPT_BATCHES))
        return tf.data.Dataset.from_generator(
            lambda: iter(batches), output_signature=stream.element_spec
        )

    def _adapt(self, model: Localizer, is_known: bool = False) -> None:
        """Let a model adapt to as much of the training stream as it asks for.

        Args:
            model: its scales are learned, samples remembered, and walls found.
            is_known: bool. Whether it has its scales, and only remembers.
        """
        learn = model.remember if is_known else model.adapt
        features = make_features(self.scenario, model)
        if model.num_adapt_samples is not None:
            if not is_known:
                count = model.num_adapt_samples
                self._say(f"Reading up to {count} samples to adapt to.")
            num_batches = -(-model.num_adapt_samples // self.config.batch_size)
            samples = self._samples(features).take(num_batches)
        elif model.features == self.model.features:
            samples = self._first_samples
        else:
            samples = self._samples(features).take(_NUM_ADAPT_BATCHES)
        learn(_mapped(samples, features))

    def _train(self, validation: tf.data.Dataset) -> TrainingState:
        """Train from the newest checkpoint or from the beginning; return the end."""
        model = self.model
        recipe = make_recipe(self.config, self.scenario)
        compile_model(model, recipe)
        model.optimizer.build(model.trainable_variables)
        state = self._restore()
        if state is None:
            is_known = self.config.init_from is not None
            is_one_place = shows_one_place(self.config, self.scenario)
            if is_known and not is_one_place:
                model.forget()
            elif not is_known or _learns_place(model):
                self._adapt(model, is_known)
            state = TrainingState(model.get_weights())
        pace = Pace(state, recipe, self.config, self._steps_of_call(recipe))
        model.steps_per_execution = pace.steps_per_execution
        if pace.progress < 1:
            try:
                self._fit(state, pace, validation, recipe.emphasis)
            except TrainingDiverged as error:
                raise self._keep_best(state, error) from error
        return state

    def _fit(
        self,
        state: TrainingState,
        pace: Pace,
        validation: tf.data.Dataset,
        emphasis: float,
    ) -> None:
        """Run Keras's `fit` until the pace says that the run is over."""
        waiting = WaitMeter()
        throughput = Throughput(state, self.config.batch_size, waiting)
        checkpoints = Checkpoints(state, self.run_dir / saving.CHECKPOINTS)
        # Keras resets the running loss; a resumed run goes on with the restored one.
        metrics = variables_to_arrays({"metrics": self.model.metrics_variables})
        callbacks = [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: assign_arrays(
                    {"metrics": self.model.metrics_variables}, metrics
                )
            ),
            pace,
            StopOnDivergence(state),
            throughput,
            Validation(state, pace, throughput, validation, self.run_dir),
            checkpoints,
        ]
        with contextlib.ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts(checkpoints))
            callbacks.append(interrupts)
            if not self.quiet:
                progress = ProgressLine(state, pace, throughput)
                callbacks.append(stack.enter_context(progress))
            stream = self._training_stream(state.step, pace, emphasis)
            self.model.fit(
                waiting.attach(stream), callbacks=callbacks, shuffle=False, verbose=0
            )
        if interrupts.received is not None and pace.progress < 1:
            raise TrainingInterrupted(interrupts.received, state.step)

    def _steps_of_call(self, recipe: Recipe) -> int:
        """Return the most steps of one call of Keras.

        It is one where samples have yet to be drawn or traced: that takes longer than
        training, and a call that waits for it can neither be stopped nor watched.
        """
        if not getattr(self.scenario, "num_train", 0):
            return 1
        return recipe.steps_of_call(self.model, self.config.steps)

    def _training_stream(
        self, step: int, pace: Pace, emphasis: float
    ) -> tf.data.Dataset:
        """Return what is trained on from a step on, as (inputs, targets)."""
        features = make_features(self.scenario, self.model)
        most = max(1, _MOST_READ // (self.config.batch_size * features.window))
        num_steps = min(pace.steps_per_execution, most)
        samples = self._samples(
            features,
            step * self.config.batch_size,
            num_steps,
            emphasis=emphasis,
            augment=self.config.augment,
        )
        if pace.steps_per_execution == 1:
            return _mapped(samples, features)
        stream = batches_of_steps(samples, features, self.model.pad, num_steps)
        return stream if pace.steps_left is None else stream.take(pace.steps_left)

    def _restore(self) -> TrainingState | None:
        """Set model and optimizer to the newest checkpoint and return its state."""
        found = list_checkpoints(self.run_dir / saving.CHECKPOINTS)
        if not found:
            return None
        state = restore(self.model, found[-1])
        self._say(f"Resuming at step {state.step}.")
        return state

    def _keep_best(
        self, state: TrainingState, error: TrainingDiverged
    ) -> TrainingDiverged:
        """Save the last good weights; return the error to end with."""
        self.model.set_weights(state.best_weights)
        saving.save_model(self.model, self.run_dir / saving.MODEL)
        return TrainingDiverged(
            f"{error} The best weights so far, of step {state.best_step}, are kept in "
            f"{self.run_dir / saving.MODEL}. A smaller --learning-rate may help."
        )

    def _evaluate(self, test: tf.data.Dataset, state: TrainingState | None) -> None:
        """Evaluate on the test set and save metrics and figures."""
        evaluation = evaluate(self.model, test, keep_maps=True)
        baselines = {}
        if self._has_baseline():
            baselines[_BASELINE] = self._evaluate_baseline(test)
        history = state.history if state is not None else []
        top_view = self.scenario.place.top_view()
        save_figures(self.run_dir, evaluation, history, top_view, baselines)
        if evaluation.maps is not None:
            figure = posterior_maps(evaluation, top_view)
            save_figure(figure, self.run_dir / saving.FIGURES / "posterior_maps")
        metrics = dict(evaluation.metrics)
        metrics["baselines"] = {name: e.metrics for name, e in baselines.items()}
        if state is not None:
            metrics["training"] = {
                "steps": state.step,
                "samples": state.step * self.config.batch_size,
                "seconds": round(state.seconds, 1),
                "best_step": state.best_step,
            }
        saving.write_json(self.run_dir / saving.METRICS, metrics)

    def _has_baseline(self) -> bool:
        """Return whether the classical baseline is asked for and has its inputs."""
        wanted = self.config.baseline and self.config.model != _BASELINE
        return wanted and serves(self.scenario, get_model_class(_BASELINE))

    def _evaluate_baseline(self, test: tf.data.Dataset) -> Evaluation:
        """Return what the classical baseline does on the test set."""
        self._say(f"Evaluating {_BASELINE} on the same test set.")
        config = dataclasses.replace(
            self.config, model=_BASELINE, preset=None, model_options={}
        )
        baseline = make_model(config, self.scenario)
        self._adapt(baseline)
        if baseline.features != self.model.features:
            test = self._frozen("test", self.config.num_test, baseline)
        saving.save_model(baseline, self.run_dir / saving.BASELINE)
        return evaluate(baseline, test)


def _mapped(samples: tf.data.Dataset, features: Any) -> tf.data.Dataset:
    """Return batches as (inputs, targets), in their order, some ahead of the reader."""
    return samples.map(features, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _learns_place(model: Localizer) -> bool:
    """Return whether a model remembers samples, or has images in walls."""
    has_images = any(getattr(model, name) for name in model.wall_options)
    return has_images or model.num_adapt_samples is not None
