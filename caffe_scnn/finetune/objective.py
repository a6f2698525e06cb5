"""What training minimises: labels, the answers of a teacher, and its responses on the way.

Distillation follows Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: the
Kullback-Leibler divergence of answers softened by a temperature T, times T². Responses follow
Romero et al., "FitNets", ICLR 2015, without regressors, as blobs keep their shapes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffe_scnn.calibrate.agreement import answer
from caffe_scnn.decompose.base import require
from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Goals:
    """What is minimised, and how much each part counts.

    Attributes
    ----------
    labels : float, optional
        Weight of the cross entropy with labels; by default 1 where there are labels, else 0.
    teacher : float, optional
        Weight of the divergence from the teacher's answers; by default 0 where there are labels,
        else 1.
    temperature : float
        That softens both answers.
    responses : tuple of str
        Names or globs of blobs that are to be those of the teacher.
    response_weight : float
        Weight of ``Σ ‖s − t‖² / ‖t‖²`` over these blobs, over their number.
    blocks : bool
        Part the net at these blobs: every part is trained on its own, on what the part before it
        gives, to give what the teacher's gives. For few images.
    """

    labels: float | None = field(default=None, metadata={"help": "weight of the labels"})
    teacher: float | None = field(
        default=None, metadata={"help": "weight of the teacher's answers"}
    )
    temperature: float = field(default=2.0, metadata={"help": "that softens answers"})
    responses: tuple[str, ...] = field(default=(), metadata={"help": "blobs to be the teacher's"})
    response_weight: float = field(default=1.0, metadata={"help": "weight of these blobs"})
    blocks: bool = field(default=False, metadata={"help": "train part by part between these blobs"})

    def __post_init__(self) -> None:
        weights = self.labels, self.teacher, self.response_weight
        require(all(w is None or w >= 0 for w in weights), "weights must not be negative")
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        require(
            not self.blocks or bool(self.responses), "blocks needs responses to part the net at"
        )

    def resolve(self, labelled: bool) -> tuple[float, float]:
        """Return the weights of the labels and of the teacher.

        Raises
        ------
        CaffeScnnError
            Labels are asked for and there are none, or nothing is asked for.
        """
        labels = float(labelled) if self.labels is None else self.labels
        teacher = float(not labelled) if self.teacher is None else self.teacher
        require(labelled or not labels, "the data have no labels, and the goals count them")
        require(
            labels > 0 or teacher > 0 or (self.response_weight > 0 and bool(self.responses)),
            "nothing is minimised: labels, teacher and responses all have weight 0",
        )
        return labels, teacher


class Objective(nn.Module):
    """The student with its goals; calling it gives the loss of a batch.

    Parameters
    ----------
    student : NetModule
    net : Net
        The student's net, which says where its answer is.
    goals : Goals
    labelled : bool
        Are there labels?
    teacher : (NetModule, Net), optional
        Needed where its answers or responses count.

    Raises
    ------
    ModelError
        A response fits no blob, or one of another shape in the teacher.
    """

    def __init__(
        self,
        student: NetModule,
        net: Net,
        goals: Goals,
        labelled: bool,
        teacher: tuple[NetModule, Net] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.goals = goals
        self.weight_labels, self.weight_teacher = goals.resolve(labelled)
        self._answer = Answer.of(net)
        self._responses = _chosen(net, goals.responses)
        self._teacher: list[NetModule] = []  # in a list it is no submodule: it is not trained
        if self.weight_teacher or self._responses:
            if teacher is None:
                raise ModelError("the goals count a teacher, and there is none")
            module, original = teacher
            self._teacher_answer = Answer.of(original)
            _check_teacher(net, original, self._responses)
            self._teacher = [module.eval().requires_grad_(False)]

    def parameters_used(self) -> list[nn.Parameter]:
        """Return the parameters that the wanted blobs depend on and that gradients reach."""
        modules = self.student.needed([*self._responses, self._answer.blob])
        found = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
        return list(found.values())

    def forward(self, inputs: Mapping[str, Tensor], labels: Tensor | None) -> tuple[Tensor, Losses]:
        """Return the loss, and its parts without their weights."""
        return self._losses(self._run(inputs), self._teacher_blobs(inputs), labels)

    def judge(
        self, inputs: Mapping[str, Tensor], labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the loss, and the classes (N, 1, …) of the student and of the teacher, if any."""
        blobs, wanted = self._run(inputs), self._teacher_blobs(inputs)
        total, _ = self._losses(blobs, wanted, labels)
        found = self._answer.logits(blobs).argmax(1, True)
        if not self._teacher:
            return total, found, None
        return total, found, self._teacher_answer.logits(wanted).argmax(1, True)

    def _losses(
        self, blobs: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> tuple[Tensor, Losses]:
        losses: Losses = {}
        scores = self._answer.logits(blobs)
        total = torch.zeros((), device=scores.device)
        if self.weight_labels and labels is not None:
            losses["labels"] = F.cross_entropy(scores, labels)
            total = total + self.weight_labels * losses["labels"]
        if self.weight_teacher:
            losses["teacher"] = divergence(
                scores,
                self._teacher_answer.logits(wanted),
                self.goals.temperature if self._answer.softmax else 0.0,
            )
            total = total + self.weight_teacher * losses["teacher"]
        if self._responses:
            parts = [_relative(blobs[name], wanted[name]) for name in self._responses]
            losses["responses"] = torch.stack(parts).mean()
            total = total + self.goals.response_weight * losses["responses"]
        return total, losses

    def _run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.goals.blocks:
            found: dict[str, Tensor] = self.student(inputs, [*self._responses, self._answer.blob])
            return found
        # Each part sees what those before it give, but sends no gradient back to them.
        known, blobs = dict(inputs), {}
        for name in [*self._responses, self._answer.blob]:
            blobs[name] = self.student(known, [name])[name]
            known[name] = blobs[name].detach()
        return blobs

    @torch.no_grad()
    def _teacher_blobs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self._teacher:
            return {}
        wanted = [*self._responses, self._teacher_answer.blob]
        found: dict[str, Tensor] = self._teacher[0](inputs, wanted)
        return found


@dataclass(frozen=True)
class Answer:
    """Where a net's answer is.

    Attributes
    ----------
    blob : str
        Class scores before the Softmax, where they can be had.
    softmax : bool
        The net answers with probabilities.
    logarithm : bool
        ``blob`` holds the probabilities themselves: the Softmax works in place.
    """

    blob: str
    softmax: bool
    logarithm: bool

    @classmethod
    def of(cls, net: Net) -> Answer:
        """Find it; see :func:`caffe_scnn.calibrate.agreement.answer`."""
        blob, softmax = answer(net)
        if not softmax:
            return cls(blob, False, False)
        layer = next(n for n in reversed(net.layers) if blob in n.tops and n.type == "Softmax")
        in_place = layer.bottoms[0] == blob
        return cls(blob if in_place else layer.bottoms[0], True, in_place)

    def logits(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """Return scores (N, classes, …) whose softmax is the answer."""
        scores = blobs[self.blob].float()
        if self.logarithm:
            scores = scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
        return scores.squeeze((2, 3)) if scores.shape[2:] == (1, 1) else scores


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return how far answers are apart, per image.

    Parameters
    ----------
    student, teacher : Tensor of shape (N, classes, …)
    temperature : float
        T: ``T² Σ p log(p/q)`` of the softened answers. 0: answers are no probabilities, and
        ``‖s − t‖² / ‖t‖²`` is returned.
    """
    if not temperature:
        return _relative(student, teacher)
    log_p = F.log_softmax(teacher / temperature, 1)
    log_q = F.log_softmax(student / temperature, 1)
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return total * temperature**2 / len(student)


def _relative(student: Tensor, teacher: Tensor) -> Tensor:
    tiny = torch.finfo(torch.float32).tiny
    return (student - teacher).float().square().sum() / teacher.float().square().sum().clamp(tiny)


def _chosen(net: Net, globs: Sequence[str]) -> list[str]:
    """Return the blobs that match, in the order in which they get their last value."""
    last = {top: index for index, layer in enumerate(net.layers) for top in layer.tops}
    for glob in globs:
        if not any(name == glob or fnmatchcase(name, glob) for name in last):
            raise ModelError(f'no blob of the net matches the response "{glob}"')
    found = [name for name in last if any(name == g or fnmatchcase(name, g) for g in globs)]
    return sorted(found, key=last.__getitem__)


def _check_teacher(student: Net, teacher: Net, responses: Sequence[str]) -> None:
    """Refuse a teacher that takes other images, knows other classes, or has other responses."""
    ours, theirs = infer_shapes(student).blobs, infer_shapes(teacher).blobs
    for ends in (
        [Graph(net).inputs[0] for net in (student, teacher)],
        [answer(net)[0] for net in (student, teacher)],
    ):
        first, second = ours[ends[0]], theirs[ends[1]]
        if first[1:] != second[1:]:
            raise ModelError(
                f'the teacher does not fit: its "{ends[1]}" has the shape {second}, '
                f'the net\'s "{ends[0]}" {first}'
            )
    for name in responses:
        if name not in theirs:
            raise ModelError(f'the teacher has no blob "{name}" to be like')
        if ours[name][1:] != theirs[name][1:]:
            raise ModelError(
                f'blob "{name}" has the shape {ours[name]}, the teacher\'s {theirs[name]}; '
                "leave it out of the responses"
            )
