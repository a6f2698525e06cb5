"""Training of a detector's heads: classifiers with hard negatives, box regression, rejection.

Every step leaves its arrays in a :class:`~caffe_scnn.detect.checkpoint.Checkpoint`; a training that
was killed goes on behind the last one and ends with the same bytes. What a step computes depends
only on the pictures, the settings and the steps before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.checkpoint import Arrays, Checkpoint
from caffe_scnn.detect.fc_net import reduction_net
from caffe_scnn.detect.features import FeatureSource, References
from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.mining import MiningSettings, first_samples, hard_samples
from caffe_scnn.detect.recall_target import best_first, found_shares
from caffe_scnn.detect.regression import BoxRegression, train_regression
from caffe_scnn.detect.rejector import Rejector, RejectorFit
from caffe_scnn.detect.samples import TrainingSet
from caffe_scnn.detect.softmax import probabilities, train_softmax
from caffe_scnn.detect.stages.fc import FC
from caffe_scnn.detect.stages.spp_pool import COARSE, POOLED
from caffe_scnn.detect.svm import ProductMatrix, SvmSettings, Targets, stretch, train_svms
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.model.net import Net

NORM = 20.0  # mean norm to which features are scaled while training; SPP-net's number
NORM_PICTURES, NORM_WINDOWS = 200, 200
SVM_FOUND, SOFTMAX_FOUND = -1.0, 0.05  # scores from which a window finds an object
HELD_OUT = 5  # every so-manieth picture shows how many windows the rejection must pass

Notify = Callable[[str, int], Callable[[], None]]
"""From a step's name and its number of pictures to what is called after each picture."""


@dataclass(frozen=True)
class TrainSettings:
    """Constants of the training.

    Parameters
    ----------
    svm : SvmSettings
    mining : MiningSettings
    ridge : float
        Of the box regression.
    regression_overlap : float
        Windows that overlap an object by at least so much learn to become it.
    regression_windows : int
        Of each class, at most.
    reduction : int
        Outputs of a linear layer learnt from the samples; 0: none.
    softmax : bool
        Learn one softmax classifier from the samples of the SVMs, in their place.
    rejection : bool
        Learn the rejection classifier.
    seed : int
    """

    svm: SvmSettings = field(default_factory=SvmSettings)
    mining: MiningSettings = field(default_factory=MiningSettings)
    ridge: float = 4000.0
    regression_overlap: float = 0.6
    regression_windows: int = 1200
    reduction: int = 0
    softmax: bool = False
    rejection: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes
    ----------
    heads : Heads
    fc : Net, optional
        The learnt reduction.
    samples : int
        Windows the classifiers were learnt from.
    shares : ndarray of float, optional
        Of objects that the full model finds in pictures the rejection has not seen: which share of
        the windows of their picture must pass to keep each.
    """

    heads: Heads
    fc: Net | None
    samples: int
    shares: NDArray[np.float64] | None


@dataclass(frozen=True)
class Rejection:
    """A rejection classifier, and the shares of :class:`Trained`."""

    rejector: Rejector
    shares: NDArray[np.float64]


@dataclass
class Training:
    """A training in progress.

    Parameters
    ----------
    data : TrainingSet
    classes : int
    pooled, coarse : FeatureSource
        ``pooled`` also computes the features ``fc`` where there are fully connected layers.
    has_fc : bool
    settings : TrainSettings
    checkpoint : Checkpoint
    notify : callable
    different : float
        See :class:`~caffe_scnn.detect.stages.Reject`.
    """

    data: TrainingSet
    classes: int
    pooled: FeatureSource
    coarse: FeatureSource
    has_fc: bool
    settings: TrainSettings
    checkpoint: Checkpoint
    notify: Notify
    different: float

    def run(self) -> Trained:
        """Train, or go on where a training was interrupted."""
        source = FC if self.has_fc else POOLED
        scale = float(self.checkpoint.step("norm", lambda: self._norms(source))[source])
        machines = self._classifiers(source, scale)
        reduction = self._reduction(machines["references"], scale) if self._reduces else None
        if reduction is not None:
            machines = {**machines, **reduction}
        if self.settings.softmax:
            machines = {**machines, **self._softmax(machines["references"], scale, reduction)}
        weights = machines["weights"]
        if reduction is None:  # the reduction's layer has the scale inside
            weights = weights * np.float32(scale)
        rejection = self._rejection(partial(self._scores, weights, machines["bias"], reduction))
        rejector = None if rejection is None else rejection.rejector
        heads = Heads(weights, machines["bias"], self._regression(), rejector)
        fc = None if reduction is None else reduction_net(reduction["layer"])
        shares = None if rejection is None else rejection.shares
        return Trained(heads, fc, len(machines["references"]), shares)

    @property
    def _reduces(self) -> bool:
        return self.settings.reduction > 0 and not self.has_fc

    def _norms(self, source: str) -> Arrays:
        """Scales that bring features to the mean norm."""
        random = np.random.default_rng(self.settings.seed)
        pictures = self.data.pictures
        chosen = np.sort(random.permutation(len(pictures))[:NORM_PICTURES])
        advance = self.notify("norms of features", len(chosen))
        norms: dict[str, list[float]] = {POOLED: [], source: []}
        for index in chosen:
            windows = random.permutation(len(pictures[index].windows))[:NORM_WINDOWS]
            frame = self.pooled.frame(int(index), np.sort(windows))
            for name, found in norms.items():
                found += np.linalg.norm(frame.features[name], axis=1).tolist()
            advance()
        return {name: np.array(NORM / np.mean(found)) for name, found in norms.items()}

    def _classifiers(self, source: str, scale: float) -> Arrays:
        """SVMs on objects and chance negatives, then again after each search for hard ones."""
        settings = self.settings.mining
        pictures = self.data.pictures
        matrix: ProductMatrix | None = None
        batches: list[References] = []

        def train(batch: References) -> Arrays:
            nonlocal matrix
            # After an interruption all batches are added again one by one: products of other
            # shapes would round differently.
            for added in (*batches[0 if matrix is None else len(batches) :], batch):
                if not len(added):  # no negative was hard
                    continue
                features = self.pooled.gather(added, source) * np.float32(scale)
                matrix = matrix or ProductMatrix(features.shape[1])
                matrix.add(features)
            assert matrix is not None
            used = np.concatenate([*batches, batch])
            weights, bias = self._svms(matrix, self.targets(used))
            return {"weights": weights, "bias": bias, "batch": batch}

        found = self.checkpoint.step(
            "svm-0", lambda: train(first_samples(pictures, settings, self.settings.seed))
        )
        batches.append(found["batch"])
        for number in range(1, settings.passes + 1):

            def search(found: Arrays = found, number: int = number) -> Arrays:
                known = np.concatenate(batches)
                advance = self.notify(f"hard negatives, pass {number}", len(pictures))

                def score(index: int) -> Float32:
                    features = self.pooled.frame(index).features[source]
                    advance()
                    weights: Float32 = found["weights"] * np.float32(scale)
                    scores: Float32 = features @ weights.T + found["bias"]
                    return scores

                return train(hard_samples(pictures, known, score, settings))

            found = self.checkpoint.step(f"svm-{number}", search)
            batches.append(found["batch"])
        return {**found, "references": np.concatenate(batches)}

    def _svms(self, matrix: ProductMatrix, targets: Targets) -> tuple[Float32, Float32]:
        return stretch(matrix, targets, *train_svms(matrix, targets, self.settings.svm))

    def targets(self, references: References) -> Targets:
        """Say which windows are objects of which class."""
        negative = self.settings.mining.negative
        return np.concatenate(
            [
                self.data.pictures[index].targets(np.array([window], np.intp), negative)
                for index, window in references.tolist()
            ]
        )

    def _reduction(self, references: References, scale: float) -> Arrays:
        """Principal directions of the samples, and SVMs on what they leave."""

        def compute() -> Arrays:
            features = self.pooled.gather(references, POOLED) * np.float32(scale)
            products = (features @ features.T).astype(np.float64)
            values, vectors = np.linalg.eigh(products)
            most = np.argsort(-values)[: self.settings.reduction]
            basis = (vectors[:, most] / np.sqrt(np.maximum(values[most], 1e-9))).T
            layer = (basis.astype(np.float32) @ features).astype(np.float32)
            matrix = ProductMatrix(len(layer))
            matrix.add(features @ layer.T)
            weights, bias = self._svms(matrix, self.targets(references))
            return {"layer": layer * np.float32(scale), "weights": weights, "bias": bias}

        return self.checkpoint.step("reduction", compute)

    def _softmax(self, references: References, scale: float, reduction: Arrays | None) -> Arrays:
        """Train the softmax classifier on the samples that the SVMs were learnt from."""

        def compute() -> Arrays:
            source = FC if self.has_fc else POOLED
            features = self.pooled.gather(references, source)
            if reduction is None:
                features = features * np.float32(scale)
            else:
                features = features @ reduction["layer"].T
            matrix = ProductMatrix(features.shape[1])
            matrix.add(features)
            targets = self.targets(references)
            weights, bias = train_softmax(matrix, targets, self.settings.svm)
            return {"weights": weights, "bias": bias}

        return self.checkpoint.step("softmax", compute)

    def _regression(self) -> BoxRegression:
        """Box regression on pooled features, class by class."""
        scale = np.float32(self.checkpoint.step("norm", dict)[POOLED])
        advance = self.notify("box regression, classes", self.classes)
        weights, bias = [], []
        for label in range(self.classes):
            compute = partial(self._regress, label, scale)
            found = self.checkpoint.step(f"regression-{label}", compute)
            weights.append(found["weights"])
            bias.append(found["bias"])
            advance()
        return BoxRegression(np.stack(weights) * scale, np.stack(bias))

    def _regress(self, label: int, scale: np.float32) -> Arrays:
        pairs = []
        for index, picture in enumerate(self.data.pictures):
            near = picture.nearest[:, label]
            fits = picture.overlaps[:, label] >= self.settings.regression_overlap
            fits[fits] = ~picture.difficult[near[fits]]
            pairs += [(index, int(window)) for window in np.flatnonzero(fits)]
        most = self.settings.regression_windows
        if len(pairs) > most:  # evenly from all pictures
            pairs = [pairs[at * len(pairs) // most] for at in range(most)]
        if not pairs:
            width = self.pooled.frame(0, np.array([], np.intp)).features[POOLED].shape[1]
            return {"weights": np.zeros((4, width), np.float32), "bias": np.zeros(4, np.float32)}
        references = np.array(pairs, np.int64)
        pictures = self.data.pictures
        boxes = np.array([pictures[i].windows[w] for i, w in pairs])
        objects = np.array([pictures[i].windows[pictures[i].nearest[w, label]] for i, w in pairs])
        features = self.pooled.gather(references, POOLED) * scale
        weights, bias = train_regression(features, boxes, objects, self.settings.ridge)
        return {"weights": weights, "bias": bias}

    def _rejection(self, scores: Callable[[Frame], Float32]) -> Rejection | None:
        """Fit the rejection classifier; see on pictures left out how many windows it must pass."""
        if not self.settings.rejection:
            return None
        found = self.checkpoint.step("rejection", lambda: self._reject(scores))
        return Rejection(Rejector(found["weights"], found["bias"]), found["shares"])

    def _reject(self, scores: Callable[[Frame], Float32]) -> Arrays:
        pictures = self.data.pictures
        held = range(0, len(pictures), HELD_OUT)
        above = SOFTMAX_FOUND if self.settings.softmax else SVM_FOUND
        advance = self.notify("rejection", len(pictures) + len(held))
        fits: list[RejectorFit] = []
        for index, picture in enumerate(pictures):
            frame = self.coarse.frame(index)
            coarse = frame.features[COARSE]
            fits = fits or [RejectorFit(coarse.shape[1], self.classes) for _ in range(2)]
            fit = fits[index in held]
            fit.add(coarse, picture.windows, frame.picture.shape, picture.overlaps)
            advance()
        part = fits[0].solve() if len(pictures) > 1 else fits[1].solve()
        shares = [np.empty(0, np.float64)]
        for index in held:
            picture = pictures[index]
            frame = self.coarse.frame(index)
            proposals = np.arange(len(picture.labels), len(picture.windows))
            boxes = picture.windows[proposals]
            order = part.score(frame.features[COARSE][proposals], boxes, frame.picture.shape)
            best = proposals[best_first(boxes, order, self.different)]
            shares.append(found_shares(picture, scores(self.pooled.frame(index)), best, above))
            advance()
        fits[0].include(fits[1])
        whole = fits[0].solve()
        return {"weights": whole.weights, "bias": whole.bias, "shares": np.concatenate(shares)}

    def _scores(
        self, weights: Float32, bias: Float32, reduction: Arrays | None, frame: Frame
    ) -> Float32:
        """Score the windows of a frame with the classifiers."""
        features = frame.features[FC if self.has_fc else POOLED]
        if reduction is not None:
            features = features @ reduction["layer"].T
        scores: Float32 = features @ weights.T + bias
        return probabilities(scores)[:, 1:] if self.settings.softmax else scores
