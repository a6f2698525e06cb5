"""Each method by itself: exact at full rank, exact counts, falling error, plain layers."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_scnn.decompose import METHODS, Auto, ChannelSelection, Edit, Magnitude, Scnn
from caffe_scnn.decompose.kernel import compose
from caffe_scnn.decompose.sparsify import for_budget, for_error
from caffe_scnn.errors import PassError
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

# These look at whole nets and take no layer apart by itself.
OF_NETS = (Auto, ChannelSelection)


def convolution(weights, group=1, bias=None, **parameters):
    proto = pb.LayerParameter(name="c", type="Convolution", bottom=["x"], top=["y"])
    proto.convolution_param.num_output = len(weights)
    proto.convolution_param.kernel_size.extend(weights.shape[2:])
    proto.convolution_param.bias_term = bias is not None
    proto.convolution_param.group = group
    for name, value in parameters.items():
        setattr(proto.convolution_param, name, value)
    return Layer(proto, [weights] if bias is None else [weights, bias])


def random_weights(seed, n=8, m=6, group=1, kernel=(3, 3)):
    values = np.random.default_rng(seed).standard_normal((n, m // group, *kernel))
    return values.astype(np.float32)


def decompose(method, layer, density=None):
    candidate = method.prepare([layer], 0)
    if density is None:
        return candidate.edits(None)[0]
    budget = round(density * layer.blobs[0].size) - candidate.fixed
    return candidate.edits(for_budget([candidate.offer], budget)[0])[0]


def blobs(edit):
    return [part.blobs[0] for part in edit.chain]


def nonzeros(edit):
    return sum(np.count_nonzero(blob) for blob in blobs(edit))


def filters(kernel):
    return kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


FULL = [
    Scnn(p=p, bases=b, scaled=s)
    for p in ("identity", "pca")
    for b in ("pca", "dictionary")
    for s in (True, False)
]


@pytest.mark.parametrize("method", FULL, ids=str)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    group=st.integers(1, 3),
    n=st.integers(1, 12),
    m=st.integers(1, 3),
    kernel=st.sampled_from([(3, 3), (1, 3), (3, 1), (2, 5), (3,), (2, 2, 2)]),
)
def test_full_rank_is_exact_to_rounding(method, seed, group, n, m, kernel):
    weights = random_weights(seed, n * group, m * group, group, kernel)
    edit = decompose(method, convolution(weights, group))
    product = compose(blobs(edit), m * group, group)
    # Each filter suffers the rounding of Q and of S to float32, 2^-24 each; P is solved against.
    bound = compose([np.abs(blob) for blob in blobs(edit)], m * group, group)
    off, allowed = (np.linalg.norm(filters(x), axis=1) for x in (product - weights, bound))
    assert (off <= 2.01 * 2.0**-24 * allowed).all()
    assert edit.weight_error == pytest.approx(distance(weights, product), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("method", [Scnn(), Scnn(p="pca"), Scnn(bases="dictionary")], ids=str)
@pytest.mark.parametrize("group", [1, 2])
def test_the_budget_counts_everything_that_is_written(method, group):
    weights = random_weights(1, n=64, m=8, group=group)
    for density in (0.2, 0.35, 0.5, 0.8):
        edit = decompose(method, convolution(weights, group), density)
        assert nonzeros(edit) == round(density * weights.size)
        product = compose(blobs(edit), 8, group)
        assert edit.weight_error == pytest.approx(distance(weights, product), rel=1e-5)


@pytest.mark.parametrize("method", [Scnn(), Scnn(bases="dictionary"), Magnitude()], ids=str)
def test_error_falls_as_density_rises(method):
    layer = convolution(random_weights(2, n=32))
    errors = [decompose(method, layer, d).weight_error for d in (0.05, 0.1, 0.2, 0.4, 0.8)]
    assert all(a > b for a, b in pairwise(errors))


def test_error_falls_as_q_rises():
    layer = convolution(random_weights(3, n=32))
    errors = [decompose(Scnn(q=q), layer).weight_error for q in range(1, 10)]
    assert all(a > b for a, b in pairwise(errors))


def test_a_given_q_is_the_best_rank_q_approximation():
    weights = random_weights(4, n=32, m=1)
    tail = np.linalg.svd(weights.reshape(32, 9), compute_uv=False)[4:]
    edit = decompose(Scnn(q=4, scaled=False), convolution(weights))
    assert edit.weight_error == pytest.approx(
        np.linalg.norm(tail) / np.linalg.norm(weights), rel=1e-6
    )


@pytest.mark.parametrize("method", [Scnn(), Scnn(scaled=False), Magnitude()], ids=str)
@pytest.mark.parametrize("limit", [0.0, 0.1, 0.5, 0.9])
def test_an_error_limit_is_kept(method, limit):
    candidate = method.prepare([convolution(random_weights(5, n=24))], 0)
    keep = for_error(candidate.offer, candidate.error, limit or 1e-6)
    assert candidate.edits(keep)[0].weight_error <= (limit or 2e-6)


def test_sparse_dictionary_coefficients_are_solved_again():
    """Coefficients left after others went differ from those with all kept."""
    weights = random_weights(6, n=40, m=2)
    method = Scnn(bases="dictionary", scaled=False)
    edit = decompose(method, convolution(weights), 0.6)
    q_blob, s_blob = (blob.astype(np.float64) for blob in blobs(edit))
    q = len(q_blob) // 2
    for i in range(2):
        atoms, codes = (
            q_blob[i * q : (i + 1) * q].reshape(q, 9),
            s_blob[:, i * q : (i + 1) * q, 0, 0],
        )
        for code, target in zip(codes, weights[:, i].reshape(-1, 9), strict=True):
            support = code != 0
            wanted = np.linalg.lstsq(atoms[support].T, target, rcond=None)[0]
            np.testing.assert_allclose(code[support], wanted, rtol=1e-4, atol=1e-6)


def test_columns_of_p_and_q_have_unit_norm():
    edit = decompose(Scnn(p="pca", bases="dictionary"), convolution(random_weights(7)))
    p, q, _ = blobs(edit)
    np.testing.assert_allclose(np.linalg.norm(p[:, :, 0, 0], axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(q.reshape(len(q), -1), axis=1), 1, rtol=1e-6)


def test_q_is_padded_to_the_largest_channel_with_zero_bases():
    weights = random_weights(8, n=20, m=3)
    weights[:, 1] = 0
    weights[:, 2] = np.outer(np.arange(20), np.ones(9)).reshape(20, 3, 3)
    q, s = blobs(decompose(Scnn(), convolution(weights)))
    used = q.reshape(3, 9, 9).any(axis=2)
    assert used.sum(axis=1).tolist() == [9, 0, 1]
    assert not s.reshape(20, 3, 9)[:, ~used].any()


def test_a_layer_of_zeros_stays_a_layer_of_zeros():
    for method in (Scnn(), Scnn(p="pca"), Scnn(bases="dictionary"), Magnitude()):
        edit = decompose(method, convolution(np.zeros((4, 2, 3, 3), np.float32)), 0.5)
        assert edit.weight_error == 0
        assert len(edit.chain[-1].blobs[0]) == 4


def test_a_convolution_is_written_as_p_q_s():
    bias = np.arange(8, dtype=np.float32)
    weights = random_weights(9, n=8, m=6, group=2)
    layer = convolution(weights, 2, bias, stride_h=2, stride_w=1)
    layer.proto.convolution_param.pad.append(1)
    layer.proto.convolution_param.dilation.append(2)
    layer.proto.convolution_param.bias_filler.type = "constant"
    p, q, s = decompose(Scnn(p="pca"), layer).chain
    assert [part.name for part in (p, q, s)] == ["c/P", "c/Q", "c/S"]
    assert [part.bottoms + part.tops for part in (p, q, s)] == [
        ["x", "c/P"],
        ["c/P", "c/Q"],
        ["c/Q", "y"],
    ]
    assert [part.proto.convolution_param.group for part in (p, q, s)] == [2, 6, 2]
    assert [part.proto.convolution_param.bias_term for part in (p, q, s)] == [False, False, True]
    assert [list(part.proto.convolution_param.pad) for part in (p, q, s)] == [[], [1], []]
    assert [list(part.proto.convolution_param.dilation) for part in (p, q, s)] == [[], [2], []]
    assert [part.proto.convolution_param.stride_h for part in (p, q, s)] == [0, 2, 0]
    assert [list(part.proto.convolution_param.kernel_size) for part in (p, q, s)] == [
        [1],
        [3, 3],
        [1],
    ]
    assert p.blobs[0].shape == (6, 3, 1, 1)
    assert q.blobs[0].shape == (24, 1, 3, 3)  # rank 4: four outputs a group
    assert s.blobs[0].shape == (8, 12, 1, 1)
    assert s.blobs[1] is bias
    assert layer.name == "c" and layer.proto.convolution_param.stride_h == 2


def test_several_bottoms_keep_several_tops():
    layer = convolution(random_weights(10))
    layer.proto.bottom.append("x2")
    layer.proto.top.append("y2")
    q, s = decompose(Scnn(), layer).chain
    assert q.tops == s.bottoms == ["c/Q/0", "c/Q/1"]
    assert s.tops == ["y", "y2"]


def test_a_pointwise_convolution_keeps_its_name_and_form():
    weights = random_weights(11, kernel=(1, 1))
    edit = decompose(Scnn(p="pca"), convolution(weights), 0.5)
    (only,) = edit.chain
    assert only.name == "c"
    assert np.count_nonzero(only.blobs[0]) == round(0.5 * weights.size)
    assert np.isin(only.blobs[0], [0, *weights.ravel()]).all()


@given(st.integers(0, 50), st.floats(0, 1), st.booleans())
def test_magnitude_keeps_the_exact_number_of_largest_weights(seed, density, scaled):
    weights = np.random.default_rng(seed).integers(-3, 4, (4, 2, 3, 3)).astype(np.float32)
    edit = decompose(Magnitude(scaled=scaled), convolution(weights), density)
    (pruned,) = blobs(edit)
    kept = pruned != 0
    count = min(round(density * weights.size), np.count_nonzero(weights))
    assert np.count_nonzero(kept) == count
    assert np.array_equal(pruned[kept], weights[kept])
    if scaled:
        norms = np.linalg.norm(weights.reshape(4, -1).astype(np.float64), axis=1)
        weights = weights / np.maximum(norms, 1e-9).reshape(4, 1, 1, 1)
    if 0 < count < np.count_nonzero(weights):
        assert np.abs(weights[kept]).min() >= np.abs(weights[~kept]).max() * (1 - 1e-12)


def test_scaled_magnitude_does_not_see_the_scale_of_a_channel():
    weights = random_weights(12)
    blown = weights * np.float32(2.0) ** np.arange(8).reshape(8, 1, 1, 1)
    masks = [blobs(decompose(Magnitude(), convolution(w), 0.3))[0] != 0 for w in (weights, blown)]
    assert np.array_equal(*masks)
    assert not np.array_equal(
        blobs(decompose(Magnitude(False), convolution(blown), 0.3))[0] != 0, masks[0]
    )


@pytest.mark.parametrize("transpose", [False, True])
def test_magnitude_scales_the_outputs_of_an_inner_product(transpose):
    weights = random_weights(13, n=5, m=7, kernel=())
    weights[2] *= 100
    proto = pb.LayerParameter(name="fc", type="InnerProduct", bottom=["x"], top=["y"])
    proto.inner_product_param.num_output = 5
    proto.inner_product_param.transpose = transpose
    stored = np.ascontiguousarray(weights.T) if transpose else weights
    (pruned,) = blobs(decompose(Magnitude(), Layer(proto, [stored]), 0.4))
    assert pruned.shape == stored.shape
    rows = pruned.T if transpose else pruned
    assert np.count_nonzero(rows) == 14
    assert np.count_nonzero(rows[2]) < 7


@pytest.mark.parametrize("kind", [kind for kind in METHODS if kind not in OF_NETS])
def test_sharers_get_the_same_arrays(kind):
    first, second = convolution(random_weights(14)), convolution(random_weights(14))
    second.proto.name = "d"
    edits = kind().prepare([first, second], 0).edits(None)
    assert [edit.layer for edit in edits] == [first, second]
    for a, b in zip(edits[0].chain, edits[1].chain, strict=True):
        assert a.blobs[0] is b.blobs[0]
        assert b.name.startswith("d")


@pytest.mark.parametrize("kind", METHODS)
def test_parameters_are_documented_for_the_command_line(kind):
    assert all(field.metadata["help"] for field in fields(kind))


def test_an_edit_that_does_not_hang_together_is_refused():
    layer = convolution(random_weights(15))
    other = convolution(random_weights(15))
    other.proto.bottom[0] = "z"
    with pytest.raises(PassError, match=r"reads \['z'\], not \['x'\]"):
        Edit(layer, (other,), 0.0)
    other.proto.bottom[0], other.proto.top[0] = "x", "w"
    with pytest.raises(PassError, match=r"writes \['w'\], not \['y'\]"):
        Edit(layer, (other,), 0.0)
    other.proto.top[0] = "y"
    other.blobs[0][0] = np.inf
    with pytest.raises(PassError, match="beyond the range"):
        Edit(layer, (other,), 0.0)
