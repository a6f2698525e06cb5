"""The training of a net: steps, evaluations, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_scnn.calibrate.agreement import answer
from caffe_scnn.engine import FlushToZero
from caffe_scnn.errors import CaffeScnnError, FormatError, ModelError
from caffe_scnn.evaluate.labels import check_labels
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.bridge.neurons import Dropout
from caffe_scnn.finetune.bridge.normalization import BatchNorm
from caffe_scnn.finetune.checkpoint import read_checkpoint, write_checkpoint
from caffe_scnn.finetune.data import Loader, Source
from caffe_scnn.finetune.diagnose import explain
from caffe_scnn.finetune.evaluation import evaluate
from caffe_scnn.finetune.log import Log, Row
from caffe_scnn.finetune.methods import Step
from caffe_scnn.finetune.objective import Objective
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.schedule import multipliers
from caffe_scnn.finetune.team import Team, default_device
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Transformer

OnStep = Callable[[int, int, Row], None]


@dataclass(frozen=True, eq=False)
class Data:
    """Images to train on, and images held back.

    Attributes
    ----------
    training : Source
    held_back : Source, optional
    transformer : Transformer
        Makes input of their pixels.
    workers : int
        Threads that prepare images.
    """

    training: Source
    transformer: Transformer
    held_back: Source | None = None
    workers: int = 0


class Trainer:
    """Trains a net by a recipe.

    Parameters
    ----------
    net : Net
        Of one phase, weights bound, with one input.
    recipe : FinetuneRecipe
    data : Data
    teacher : Net, optional
        Whose answers count; the net as it is given by default.
    team : Team, optional
        This process's place among those that train together.

    Raises
    ------
    ModelError
        The net cannot be trained this way.
    CaffeScnnError
        The goals do not fit the data.

    Notes
    -----
    While it runs denormal numbers count as zero, in the calling thread and in those that PyTorch
    starts meanwhile, which keep to it: they made Intel's processors up to twelve times as slow.

    On a CPU, the same net, recipe, data and number of threads give the same weights to the bit,
    interrupted or not, in processes that did not use PyTorch before (its threads have their mode
    already, which denormal numbers can tell); the number of workers does not matter.
    """

    def __init__(
        self,
        net: Net,
        recipe: FinetuneRecipe,
        data: Data,
        *,
        teacher: Net | None = None,
        team: Team | None = None,
    ) -> None:
        self.recipe = recipe
        self.team = team or Team(default_device())
        torch.manual_seed(recipe.seed)
        self._fingerprint = _fingerprint(net, recipe, data)
        student = recipe.method.prepare(net, recipe.layers)
        self.module = NetModule(student).to(self.team.device)
        if len(self.module.inputs) != 1:
            raise ModelError(
                f"training feeds nets of one input; this one has {', '.join(self.module.inputs)}: "
                "use its deploy prototxt"
            )
        self._freeze()
        self.images = len(data.training)
        self.labelled = data.training.labels is not None
        by_labels, by_teacher = recipe.goals.resolve(self.labelled)
        _check_data(data, student, by_labels > 0)
        dropout = recipe.train.dropout
        for own in self.module.modules():
            if isinstance(own, BatchNorm):
                own.batch_statistics = recipe.train.batch_norm == "batch"
            if isinstance(own, Dropout):
                own.drops = by_labels > 0 if dropout is None else dropout
        guide = None
        if by_teacher or recipe.goals.responses:
            original = teacher or net
            guide = (NetModule(original).to(self.team.device), original)
        self.objective = Objective(self.module, student, recipe.goals, self.labelled, guide)
        self.constraint = recipe.method.attach(self.module, recipe.layers)
        self._trained = self.objective.parameters_used()
        used = {id(parameter) for parameter in self._trained}
        for parameter in self.module.parameters():
            parameter.requires_grad_(id(parameter) in used)
        self.optimizer = recipe.train.make_optimizer(self.module, self._trained)
        self._shared = self.team.share(self.objective)
        self._loader = self._make_loader(data, data.training, train=True)
        self._judge = None
        if data.held_back is not None:
            self._judge = self._make_loader(data, data.held_back, train=False)
        self.total = recipe.train.total(self._loader.batches)
        self._interval = max(1, round(recipe.train.evaluate * self._loader.batches))
        kind = _precision(recipe.train.precision, self.team.device)
        self._kind = kind
        self._scaler = torch.amp.GradScaler(
            self.team.device.type, enabled=kind == torch.float16 and self.team.device.type == "cuda"
        )
        self.step = 0
        self.log = Log()
        self._best: dict[str, Any] = {"loss": float("inf"), "weights": None, "since": 0}

    def run(
        self,
        checkpoint: Path | None = None,
        on_step: OnStep | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end.

        Parameters
        ----------
        checkpoint : Path, optional
            File that is written at every evaluation, and when the training is interrupted.
        on_step : callable, optional
            Told ``(step, total, numbers)`` after each step.
        interrupted : callable
            Asked after each step whether to stop.

        Returns
        -------
        bool
            Whether the end was reached; if not, the checkpoint holds what is needed to go on.

        Raises
        ------
        CaffeScnnError
            The loss is not a number any more; the message says where it comes from.
        """
        with FlushToZero(1):
            return self._run(checkpoint, on_step, interrupted)

    def _run(
        self, checkpoint: Path | None, on_step: OnStep | None, interrupted: Callable[[], bool]
    ) -> bool:
        if not self.log.rows:
            self._evaluate()
        while self.step < self.total and not self._given_up():
            for inputs, labels in self._batches():
                row = self._train(inputs, labels)
                at_end = self.step in (self.total, 0)
                if self.step % self._interval == 0 or at_end:
                    self._evaluate()
                    self._save(checkpoint)
                if on_step is not None:
                    on_step(self.step, self.total, {**row, **self._last_evaluation()})
                if self.team.any(interrupted()) and not at_end:
                    self._save(checkpoint)
                    return False
                if at_end or self._given_up():
                    break
        return True

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        FormatError
            It cannot be read, or belongs to another net, recipe or data.
        """
        state = read_checkpoint(checkpoint)
        if state["fingerprint"] != self._fingerprint:
            raise FormatError(
                "the checkpoint belongs to another net, recipe or set of images; give what it was "
                "made with, or begin anew",
                str(checkpoint),
            )
        self.module.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.constraint.restore(state["constraint"])
        self.log.restore(state["log"])
        self._best = state["best"]
        self.step = state["step"]
        torch.set_rng_state(state["random"])

    def result(self) -> Net:
        """Return the trained net: the last one, or with patience the best."""
        if self.recipe.train.patience and self._best["weights"] is not None:
            self.module.load_state_dict(self._best["weights"])
        return self.constraint.finish(self.module.to_net())

    def _make_loader(self, data: Data, source: Source, train: bool) -> Loader:
        recipe, team = self.recipe, self.team
        if train and len(source) < team.world:
            raise CaffeScnnError(f"{len(source)} images for {team.world} processes are too few")
        batch = min(recipe.train.batch, len(source)) if train else recipe.train.batch
        return Loader(
            source,
            data.transformer,
            batch,
            recipe.augment if train else None,
            recipe.seed,
            data.workers,
            team.rank if train else 0,
            team.world if train else 1,
        )

    def _freeze(self) -> None:
        """Leave alone what ``lr_mult: 0`` says is not learnt."""
        for parameter, rate, _ in multipliers(self.module):
            if rate == 0:
                parameter.requires_grad_(False)

    def _batches(self) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
        epoch, skip = divmod(self.step, self._loader.batches)
        for values, labels in self._loader.epoch(epoch, skip):
            yield self._on_device(values, labels)

    def _on_device(
        self, values: NDArray[np.float32], labels: NDArray[np.int64] | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        device = self.team.device
        inputs = {self.module.inputs[0]: torch.from_numpy(values).to(device)}
        return inputs, None if labels is None else torch.from_numpy(labels).to(device)

    def _train(self, inputs: dict[str, Tensor], labels: Tensor | None) -> Row:
        """Make one step."""
        train = self.recipe.train
        self.module.train()
        rate = train.set_rate(self.optimizer, self.step, self.total)
        with self._autocast():
            total, losses = self._shared(inputs, labels)
        penalty = self.constraint.penalty()
        whole = total if penalty is None else total + penalty
        self._refuse_not_finite(whole, inputs)
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(whole).backward()
        self._scaler.unscale_(self.optimizer)
        step = Step(self.step + 1, self.total, self.optimizer)
        with torch.no_grad():
            self.constraint.before_step(step)
            if train.clip:
                torch.nn.utils.clip_grad_norm_(self._trained, train.clip)
            self._scaler.step(self.optimizer)
            self._scaler.update()
            self.constraint.after_step(step)
            self._average_statistics()
        self.step += 1
        row = {"loss": total, **{f"loss_{name}": value for name, value in losses.items()}}
        if penalty is not None:
            row["penalty"] = penalty
        numbers = {name: float(self.team.mean(value.detach())) for name, value in row.items()}
        self.log.add(numbers)
        return {"rate": rate, **numbers}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._kind == torch.float32:
            return nullcontext()
        return torch.autocast(self.team.device.type, self._kind)

    def _average_statistics(self) -> None:
        """Give all processes the same statistics of batches."""
        if self.team.world > 1 and self.recipe.train.batch_norm == "batch":
            for own in self.module.modules():
                if isinstance(own, BatchNorm):
                    for blob in own.blobs:
                        self.team.mean(blob.data)

    def _refuse_not_finite(self, loss: Tensor, inputs: dict[str, Tensor]) -> None:
        if self.team.any(not bool(torch.isfinite(loss))):
            reason = explain(self.module, inputs, self.module.outputs)
            raise CaffeScnnError(
                f"step {self.step + 1}: the loss is {float(loss.detach())}: {reason}. Lower "
                f"learning_rate (it is {self.recipe.train.learning_rate:g}), or limit the "
                "gradients, say clip = 1"
            )

    def _evaluate(self) -> None:
        """Judge the net on the images held back, and end a row of the log."""
        found: Row = {}
        if self._judge is not None:
            batches = (self._on_device(*batch) for batch in self._judge.epoch(0))
            found = evaluate(self.objective, batches)
        self.log.close_row({"step": float(self.step), **self.constraint.describe(), **found})
        if self.recipe.train.patience and self._judge is not None and self.constraint.settled:
            self._compare(found["held_back_loss"])

    def _compare(self, loss: float) -> None:
        if loss < self._best["loss"]:
            weights = {name: value.clone() for name, value in self.module.state_dict().items()}
            self._best = {"loss": loss, "weights": weights, "since": 0}
        else:
            self._best["since"] += 1

    def _given_up(self) -> bool:
        patience = self.recipe.train.patience
        return bool(patience) and self._best["since"] >= patience

    def _last_evaluation(self) -> Row:
        return {
            name: value
            for name, value in self.log.rows[-1].items()
            if name.startswith("held_back") or name == "density"
        }

    def _save(self, path: Path | None) -> None:
        if path is not None and self.team.leads:
            state = {
                "fingerprint": self._fingerprint,
                "weights": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
                "constraint": self.constraint.state(),
                "log": self.log.state(),
                "best": self._best,
                "step": self.step,
                "random": torch.get_rng_state(),
            }
            write_checkpoint(path, state)


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        kind: torch.dtype = getattr(torch, name)
        return kind
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_data(data: Data, net: Net, by_labels: bool) -> None:
    """Refuse labels that are no classes of the net, and to judge by labels that are not there."""
    classes = prod(infer_shapes(net).blobs[answer(net)[0]][1:2])
    for source in (data.training, data.held_back):
        if source is not None and source.labels is not None:
            check_labels(source.labels, classes)
    if by_labels and data.held_back is not None and data.held_back.labels is None:
        raise ModelError(
            "the goals count labels, and the images held back have none: give labelled ones, or "
            "set labels = 0 in the recipe's goals"
        )


def _fingerprint(net: Net, recipe: FinetuneRecipe, data: Data) -> str:
    """Tell a training from others: by its net, recipe and number of images."""
    digest = hashlib.sha256(net.text().encode("utf-8", "surrogateescape"))
    for layer in net:
        for blob in layer.blobs:
            digest.update(blob.tobytes())
    digest.update(f"{recipe.text()}{len(data.training)}".encode())
    return digest.hexdigest()
