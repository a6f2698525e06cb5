"""Whole nets: what is selected, exact at full rank, counts from the written file, same bytes."""

import numpy as np
import pytest

from caffe_scnn.decompose import Goal, Magnitude, Recipe, Scnn, compress
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.layers.reference import run
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import load
from caffe_scnn.model.caffemodel import read_caffemodel, write_caffemodel
from caffe_scnn.model.net import Net

INPUT = """layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 6 dim: 9 dim: 8 } }
}"""


def layer(name, bottom, parameters, kind="Convolution", top=None, extra=""):
    field = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}.get(kind)
    body = f"{field} {{ {parameters} }}" if field else ""
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or name}" '
        f"{extra} {body} }}"
    )


# Every convolution reads the data, so that each output shows the error of one layer alone.
BRANCHES = {
    "first": "num_output: 3 kernel_size: 1",
    "plain": "num_output: 12 kernel_size: 3",
    "group": "num_output: 30 kernel_size: 3 pad: 1 group: 3",
    "rectangle": "num_output: 7 kernel_h: 2 kernel_w: 3 pad_h: 1 stride: [1, 2]",
    "dilated": "num_output: 10 kernel_size: 3 pad: 3 dilation: 2 stride: 2 bias_term: false",
    "pointwise": "num_output: 5 kernel_size: 1 stride: 2",
    "depthwise": "num_output: 12 kernel_size: 3 group: 6",
}
CHAIN = [
    INPUT,
    layer("conv1", "data", "num_output: 8 kernel_size: 3"),
    layer("relu1", "conv1", "", "ReLU", top="conv1"),
    layer("conv2", "conv1", "num_output: 24 kernel_size: 3 group: 2"),
    layer("relu2", "conv2", "", "ReLU", top="conv2"),
    layer("conv3", "conv2", "num_output: 32 kernel_size: 3"),
    layer("fc", "conv3", "num_output: 5", "InnerProduct"),
]


def net_of(*layers, seed=0):
    """A net with random weights."""
    net = Net.parse("\n".join(layers))
    give_weights(net, seed)
    return net


def give_weights(net, seed):
    rng = np.random.default_rng(seed)
    shared = {}
    for part, bottoms in infer_shapes(net).bottoms.items():
        parameters = part.proto.convolution_param
        if part.type == "InnerProduct":
            shapes = [(part.proto.inner_product_param.num_output, int(np.prod(bottoms[0][1:])))]
        elif part.type == "Convolution":
            kernel = parameters.kernel_size or [parameters.kernel_h, parameters.kernel_w]
            kernel = [*kernel, *kernel][:2]
            shapes = [(parameters.num_output, bottoms[0][1] // parameters.group, *kernel)]
        else:
            continue
        if part.type == "InnerProduct" or parameters.bias_term:
            shapes.append(shapes[0][:1])
        part.blobs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        for i, spec in enumerate(part.proto.param):
            if spec.name:
                part.blobs[i] = shared.setdefault(spec.name, part.blobs[i])


def branches():
    return net_of(INPUT, *(layer(name, "data", text) for name, text in BRANCHES.items()))


def chain():
    return net_of(*CHAIN)


def data(seed=1):
    shape = (2, 6, 9, 8)
    return {"data": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def recipe(method=None, density=None, **settings):
    return Recipe(Goal(method or Scnn(), density), **settings)


def names(net):
    return [part.name for part in net]


@pytest.mark.parametrize(
    "method", [Scnn(), Scnn(p="pca"), Scnn(bases="dictionary"), Magnitude()], ids=str
)
def test_full_rank_leaves_every_output_within_the_forward_bound(method):
    net, x = branches(), data()
    small = compress(net, recipe(method)).net
    before, after = run(net, x), run(small, x)
    magnitudes = net.copy()
    for part in magnitudes:
        part.blobs = [np.abs(blob) for blob in part.blobs]
    sums = run(magnitudes, {"data": np.abs(x["data"])})
    assert before.keys() == after.keys() == set(BRANCHES)
    for name in BRANCHES:
        terms = net.layer(name).blobs[0][0].size
        bound = (terms + 2) * 2.0**-24 * sums[name]
        assert (np.abs(after[name] - before[name]) <= bound).all(), name


def test_by_default_the_first_and_the_depthwise_convolution_stay():
    assert names(compress(branches(), recipe(Scnn(p="pca"))).net) == [
        *("data", "first", "plain/P", "plain/Q", "plain/S", "group/P", "group/Q", "group/S"),
        *("rectangle/P", "rectangle/Q", "rectangle/S", "dilated/P", "dilated/Q", "dilated/S"),
        *("pointwise", "depthwise"),
    ]


def test_the_net_that_was_given_is_unchanged():
    net = chain()
    text, blobs = net.text(), [blob.copy() for part in net for blob in part.blobs]
    compress(net, recipe(density=0.3))
    compress(net, recipe(Magnitude(), 0.3))
    assert net.text() == text
    for blob, copy in zip((b for part in net for b in part.blobs), blobs, strict=True):
        assert np.array_equal(blob, copy)


def test_layers_are_selected_by_name_and_glob():
    everything = recipe(Magnitude(), 0.5, layers=("conv1", "f*"))
    assert [r.layer for r in compress(chain(), everything).reports] == ["conv1", "fc"]
    depthwise = compress(branches(), recipe(Magnitude(), 0.5, layers=("dep*",)))
    assert [report.layer for report in depthwise.reports] == ["depthwise"]


def test_a_layer_has_its_own_method_and_size():
    own = {"fc": Goal(Magnitude(), density=0.1), "conv3": Goal(Scnn(q=2), density=1.0)}
    compression = compress(chain(), recipe(density=0.4, overrides=own))
    by_name = {report.layer: report for report in compression.reports}
    assert list(by_name) == ["conv2", "conv3", "fc"]
    assert by_name["conv2"].density == pytest.approx(0.4, abs=1 / 432)
    assert compression.net.layer("conv3/Q").blobs[0].shape == (24 * 2, 1, 3, 3)
    assert by_name["fc"].method == "magnitude"
    assert by_name["fc"].density == pytest.approx(0.1, abs=1 / by_name["fc"].before.parameters)


def test_a_layer_may_be_named_by_its_own_table_alone():
    own = {"conv1": Goal(Magnitude(), 0.5)}
    reports = compress(net_of(*CHAIN[:3]), recipe(overrides=own)).reports
    assert [report.layer for report in reports] == ["conv1"]


def written(compression, folder):
    folder.mkdir()
    compression.net.write(folder / "net.prototxt")
    write_caffemodel(compression.net, folder / "net.caffemodel")
    compression.recipe.write(folder / "recipe.toml")
    return folder


@pytest.mark.parametrize("across_layers", [False, True])
@pytest.mark.parametrize("method", [Scnn(), Scnn(p="pca"), Magnitude()], ids=str)
def test_reports_equal_a_recount_from_the_written_file(method, across_layers, tmp_path):
    net = chain()
    density = 0.6
    compression = compress(net, recipe(method, density, across_layers=across_layers))
    stored = read_caffemodel(written(compression, tmp_path / "out") / "net.caffemodel")
    weights = {part.name: part.blobs[0].array for part in stored.layers if part.blobs}
    total = 0
    for report in compression.reports:
        blobs = [weights[name] for name in report.written]
        assert report.after.nonzeros == sum(np.count_nonzero(blob) for blob in blobs)
        assert report.after.parameters == sum(blob.size for blob in blobs)
        assert report.before.parameters == net.layer(report.layer).blobs[0].size
        if not across_layers:
            assert report.after.nonzeros == round(density * report.before.parameters)
        total += report.after.nonzeros
    assert total == pytest.approx(density * (24 * 4 * 9 + 32 * 24 * 9), abs=2)


def test_macs_count_p_and_the_non_zero_bases_at_their_own_sizes():
    """conv2 reads 7×6 pixels and writes 5×4, for two pictures."""
    compression = compress(chain(), recipe(Scnn(p="pca"), 0.7, layers=("conv2",)))
    (report,) = compression.reports
    p, q, s = (compression.net.layer(name).blobs[0] for name in report.written)
    pixels_in, pixels_out = 2 * 7 * 6, 2 * 5 * 4
    assert report.before.macs == report.before.dense_macs == 24 * 4 * 9 * pixels_out
    nonzeros = [int(np.count_nonzero(blob)) for blob in (p, q, s)]
    assert report.after.macs == nonzeros[0] * pixels_in + sum(nonzeros[1:]) * pixels_out
    assert report.after.dense_macs == p.size * pixels_in + (q.size + s.size) * pixels_out


def test_a_written_net_loads_and_runs_as_the_one_in_memory(tmp_path):
    compression = compress(chain(), recipe(Scnn(p="pca"), 0.7))
    folder = written(compression, tmp_path / "out")
    again = load(folder / "net.prototxt", folder / "net.caffemodel")
    assert names(again) == names(compression.net)
    wanted, found = run(compression.net, data()), run(again, data())
    assert np.array_equal(wanted["fc"], found["fc"])


@pytest.mark.parametrize("across_layers", [False, True])
def test_the_resolved_recipe_gives_the_same_bytes(across_layers, tmp_path):
    own = {"conv3": Goal(Scnn(bases="dictionary", iterations=2), density=0.5)}
    asked = recipe(density=0.5, across_layers=across_layers, overrides=own, seed=3)
    first = written(compress(chain(), asked), tmp_path / "a")
    resolved = Recipe.read(first / "recipe.toml")
    assert resolved.layers == ("conv2", "conv3")
    second = written(compress(chain(), resolved), tmp_path / "b")
    for name in ("net.prototxt", "net.caffemodel", "recipe.toml"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_global_budget_goes_where_it_keeps_the_largest_fraction_of_a_layer():
    """conv3 is made of little but one input channel: a few weights hold nearly all of it."""
    net = chain()
    net.layer("conv3").blobs[0][:, 1:] *= np.float32(1e-3)
    asked = recipe(Magnitude(), 0.2, across_layers=True)
    conv2, conv3 = (report.density for report in compress(net, asked).reports)
    assert conv2 > 2 * conv3


@pytest.mark.parametrize("method", [Scnn(scaled=False), Magnitude(scaled=False)], ids=str)
def test_a_global_budget_does_not_see_the_scale_of_a_layer(method):
    asked = recipe(method, 0.3, across_layers=True)
    loud = chain()
    loud.layer("conv3").blobs[0] *= np.float32(1024)
    before, after = (compress(net, asked).reports for net in (chain(), loud))
    assert [r.after.nonzeros for r in before] == [r.after.nonzeros for r in after]


def test_progress_names_every_layer():
    seen = []
    compress(chain(), recipe(Magnitude(), 0.5), on_layer=lambda *told: seen.append(told))
    assert seen == [(0, 2, "conv2"), (1, 2, "conv3")]


SHARERS = [
    INPUT,
    layer("conv1", "data", "num_output: 4 kernel_size: 1"),
    layer(
        "a",
        "data",
        "num_output: 12 kernel_size: 3",
        extra='param { name: "w" } param { name: "b" }',
    ),
    layer(
        "b",
        "data",
        "num_output: 12 kernel_size: 3 pad: 1",
        extra='param { name: "w" } param { name: "c" }',
    ),
]


def test_sharers_are_decomposed_alike(tmp_path):
    net = net_of(*SHARERS)
    compression = compress(net, recipe(Scnn(), 0.6))
    small = compression.net
    assert [report.written for report in compression.reports] == [("a/Q", "a/S"), ("b/Q", "b/S")]
    assert small.layer("a/S").blobs[0] is small.layer("b/S").blobs[0]
    assert [spec.name for spec in small.layer("b/S").proto.param] == ["w/S", "c"]
    assert [spec.name for spec in small.layer("a/Q").proto.param] == ["w/Q"]
    folder = written(compression, tmp_path / "out")
    again = load(folder / "net.prototxt", folder / "net.caffemodel")
    for top, values in run(small, data()).items():
        assert np.array_equal(run(again, data())[top], values)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (recipe(density=0.5, layers=("a",)), "only some of them are selected"),
        (recipe(density=0.5, overrides={"a": Goal(Scnn(), 0.1)}), "their goals differ"),
    ],
)
def test_sharers_that_cannot_be_treated_alike_are_refused_by_name(asked, reason):
    with pytest.raises(ModelError, match=f'layers "a", "b" share the weights "w".*{reason}'):
        compress(net_of(*SHARERS), asked)


def test_sharers_of_different_types_are_refused():
    spec = 'param { name: "w" share_mode: PERMISSIVE }'
    conv = layer("a", "data", "num_output: 8 kernel_size: 3", extra=spec)
    fc = layer("fc", "data", "num_output: 1", "InnerProduct", extra=spec)
    with pytest.raises(ModelError, match=r'layers "a", "fc".*types differ'):
        compress(net_of(*SHARERS[:2], conv, fc), recipe(Magnitude(), 0.5, layers=("a", "fc")))


def damaged(value):
    net = chain()
    net.layer("conv2").blobs[0][0, 0, 0, 0] = value
    return net


@pytest.mark.parametrize(
    ("net", "asked", "phrase"),
    [
        (lambda: damaged(np.nan), recipe(), '"conv2": 1 of 864 values of blob 0 are NaN'),
        (lambda: damaged(np.inf), recipe(Magnitude(), layers=("fc",)), '"conv2".*NaN or infinite'),
        (lambda: net_of(*CHAIN[:2]), recipe(), "nothing to compress"),
        (chain, recipe(layers=("cnv*",)), '"cnv\\*" matches no layer; scnn works on Convolution'),
        (chain, recipe(layers=("fc",)), r'"fc" matches fc \(InnerProduct\); scnn works on Conv'),
        (chain, recipe(overrides={"convX": Goal()}), '"convX" matches no layer'),
        (chain, recipe(Scnn(p="pca"), 0.01), 'P alone has 32 non-zeros.*0.01 allows 9'),
        (
            lambda: net_of(*CHAIN[:4], layer("conv2/Q", "conv2", "", "ReLU", top="x")),
            recipe(layers=("conv2",)),
            'the name "conv2/Q" .* is already in use',
        ),
        (
            lambda: net_of(*CHAIN[:4], layer("x", "conv2", "", "ReLU", top="conv2/Q")),
            recipe(layers=("conv2",)),
            'the name "conv2/Q" .* is already in use',
        ),
        (
            lambda: net_of(*CHAIN[:4], CHAIN[3].replace('top: "conv2"', 'top: "z"')),
            recipe(),
            "layer names must be unique to be compressed; repeated: conv2",
        ),
        (
            chain,
            Recipe(Goal(Scnn(q=1), error=0.01)),
            '"conv2": a relative error of 0.01 is out of reach',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_cause(net, asked, phrase):
    with pytest.raises(ModelError, match=phrase):
        compress(net(), asked)


def test_a_layer_without_weights_is_refused():
    with pytest.raises(ModelError, match=r'"conv2".*has no weights'):
        compress(Net.parse("\n".join(CHAIN)), recipe(layers=("conv2",)))


def test_a_layer_with_unknown_fields_is_refused_by_line():
    text = [*CHAIN[:3], CHAIN[3].replace("kernel_size", "binarize: true kernel_size")]
    net = Net.parse("\n".join(text))
    for part in net:
        part.blobs = [np.ones((24, 4, 3, 3), np.float32)] if part.type == "Convolution" else []
    with pytest.raises(FormatError, match=r'^7:108: .*"binarize"'):
        compress(net, recipe())


def test_comments_inside_a_decomposed_layer_are_kept():
    text = CHAIN[3].replace("convolution_param", "# the widest layer\n convolution_param")
    small = compress(net_of(*CHAIN[:3], text), recipe()).net
    assert "# the widest layer" in small.text()
    assert Net.parse(small.text()).layer("conv2/S").proto == small.layer("conv2/S").proto
