"""SCNN's S and what magnitude keeps, fitted to responses."""

import numpy as np
import pytest
from test_decompose_compress import BRANCHES, CHAIN, INPUT, layer, net_of
from test_obs import chain, distance, images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.calibrate.patches import weight_rows
from caffe_scnn.decompose import Goal, Magnitude, Recipe, Scnn, compress, scnn_responses
from caffe_scnn.decompose.evidence import surroundings
from caffe_scnn.decompose.kernel import compose
from caffe_scnn.engine import Executor


def candidate(name="group", method=None):
    net = net_of(INPUT, layer(name, "data", BRANCHES[name]))
    part = net.layer(name)
    found = Calibration(Images(images()), threads=1).of_layers(net, [part])[name]
    evidence = surroundings(net, [part])[name].given(found)
    return part, evidence, (method or Scnn()).prepare([part], 0, evidence)


@pytest.mark.parametrize("p", ["identity", "pca"])
def test_coefficients_are_least_squares_on_what_the_bases_answer(p, monkeypatch):
    monkeypatch.setattr(scnn_responses, "DAMPING", 1e-9)
    part, evidence, found = candidate(method=Scnn(p=p))
    keep = found.choose(300)
    assert found.size(keep) - found.fixed <= 300
    (edit,) = found.edits(keep)
    *mixing, q, s = (one.blobs[0].astype(np.float64) for one in edit.chain)
    group, inputs = 3, 2
    codes = s.reshape(group, 10, -1)
    bases = q.reshape(group, inputs, -1, 9)
    eye = np.broadcast_to(np.eye(inputs), (group, inputs, inputs))
    p_ = mixing[0].reshape(group, inputs, inputs) if mixing else eye
    for g in range(group):
        maps = np.einsum("ik,iqt->iqkt", p_[g], bases[g]).reshape(-1, inputs * 9)
        root = np.linalg.cholesky(evidence.statistics.inputs[g] + 1e-12 * np.eye(18))
        wanted = root.T @ weight_rows(part)[g].T
        given = root.T @ maps.T
        for code, target in zip(codes[g], wanted.T, strict=True):
            at = code != 0
            best = np.linalg.lstsq(given[:, at], target, rcond=None)[0]
            np.testing.assert_allclose(code[at], best, rtol=1e-4, atol=1e-5)


def test_the_error_is_that_of_the_composed_kernel():
    part, evidence, found = candidate()
    keep = found.choose(400)
    (edit,) = found.edits(keep)
    kernel = compose([one.blobs[0] for one in edit.chain], 6, 3)
    rows = kernel.reshape(3, 10, -1)
    wanted = evidence.response_error(weight_rows(part), rows)
    assert edit.response_error == pytest.approx(wanted, rel=1e-5)
    assert found.error(keep) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("method", "factor"), [(Scnn, 0.9), (Magnitude, 0.8)])
def test_a_fit_to_responses_answers_better_on_other_images(method, factor):
    x = images(seed=1, count=200)
    fitted = distance(*_net(method(refit=True)), x)
    assert fitted < factor * distance(*_net(method(refit=False)), x)


def _net(method):
    net, done = chain(method, 0.4)
    return net, done.net


def test_mean_responses_stay():
    net, done = chain(Scnn(), 0.3)
    x = images(count=60)
    first, second = (
        Executor(n, threads=1).run({"data": x}, ["conv3"])["conv3"].mean((0, 2, 3))
        for n in (net, done.net)
    )
    np.testing.assert_allclose(first, second, atol=1e-3 * np.abs(first).max())


def test_magnitude_keeps_the_same_weights_with_other_values():
    net = net_of(*CHAIN)
    calibration = Calibration(Images(images()), threads=1)
    kept = []
    for refit in (False, True):
        recipe = Recipe(Goal(Magnitude(refit=refit), 0.4), layers=("conv2",))
        done = compress(net, recipe, calibration=calibration)
        kept.append(done.net.layer("conv2").blobs[0])
        assert (done.reports[0].response_error is not None) == refit
    assert np.array_equal(kept[0] != 0, kept[1] != 0)
    assert not np.array_equal(kept[0], kept[1])


def test_an_error_limit_is_kept_for_responses():
    net = net_of(*CHAIN)
    calibration = Calibration(Images(images()), threads=1)
    recipe = Recipe(Goal(Scnn(), error=0.2), layers=("conv2", "conv3"))
    reports = compress(net, recipe, calibration=calibration).reports
    for report in reports:
        assert 0.1 < report.response_error <= 0.2
