"""pycaffe's Net: right values in every blob at every time, and no work that nobody asked for."""

from __future__ import annotations

import numpy as np
import pytest
from cli_support import TINY, make_model

from caffe_scnn import pycaffe as caffe
from caffe_scnn.engine import Executor, plan
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import reference
from caffe_scnn.loading import load

RNG = np.random.default_rng(1)


@pytest.fixture
def files(tmp_path):
    model = make_model(tmp_path)
    return str(model.prototxt), str(model.caffemodel)


@pytest.fixture
def net(files):
    return caffe.Net(*files, caffe.TEST)


def agrees(got, want):
    return got.shape == want.shape and np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


def expected(net, data, *blobs):
    """What the slow twin says, of the weights as they are now."""
    return reference.run(net._net, {"data": data}, blobs or None)


def picture(n=1):
    return RNG.standard_normal((n, 3, 8, 8)).astype(np.float32)


def runs_of(monkeypatch):
    """Count plan runs and builds from here on."""
    counts = {"run": 0, "fed": 0}
    run = plan.Plan.run

    def counted(self):
        counts["run"] += 1
        run(self)

    monkeypatch.setattr(plan.Plan, "run", counted)
    return counts


@pytest.mark.parametrize(
    "make",
    [
        lambda p, w: caffe.Net(p, w, caffe.TEST),
        lambda p, w: caffe.Net(p, caffe.TEST, weights=w),
        lambda p, w: caffe.Net(p, phase=caffe.TEST, weights=w),
        lambda p, w: caffe.Net(p, caffe.TEST, 0, None, w),
        lambda p, w: caffe.Net(network_file=p, phase=caffe.TEST, weights=w),
    ],
)
def test_every_way_to_open_a_net(files, make):
    net = make(*files)
    data = picture()
    assert agrees(net.forward(data=data)["prob"], expected(net, data)["prob"])


def test_names_and_shapes(net):
    assert (net.name, net.inputs, net.outputs) == ("tiny", ["data"], ["prob"])
    assert net._layer_names == ["input", "conv1", "relu1", "conv2", "fc", "prob"]
    assert list(net.blobs) == ["data", "conv1", "conv2", "fc", "prob"]
    assert list(net.params) == ["conv1", "conv2", "fc"]
    assert net.bottom_names["relu1"] == net.top_names["relu1"] == ["conv1"]
    assert net.layer_dict["conv2"].type == "Convolution"
    assert net.layer_dict["conv2"].blobs is net.params["conv2"]
    blob = net.blobs["conv1"]
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 4, 6, 6)
    assert tuple(blob.shape) == blob.data.shape == (1, 4, 6, 6) and blob.count == 144
    assert (net.blobs["fc"].height, net.blobs["fc"].width) == (1, 1)
    assert "Convolution" in caffe.layer_type_list()


def test_every_blob_holds_its_last_value(net):
    data = picture()
    net.blobs["data"].data[...] = data
    net.forward()
    want = expected(net, data, *list(net.blobs)[1:])
    assert want["conv1"].min() == 0  # after the ReLU in place
    for name, values in want.items():
        assert agrees(net.blobs[name].data, values), name


def test_blobs_are_of_the_inputs_of_the_last_run(net):
    data = picture()
    net.forward(data=data)
    net.blobs["data"].data[...] = 7
    assert agrees(net.blobs["conv2"].data, expected(net, data, "conv2")["conv2"])


def test_a_plain_forward_runs_one_plan_once(net, monkeypatch):
    net.forward()
    counts = runs_of(monkeypatch)
    monkeypatch.setattr("caffe_scnn.engine.executor.build_plan", None)  # nothing is compiled
    for _ in range(3):
        net.forward()
    assert counts["run"] == 3


def test_blobs_that_are_looked_at_each_time_cost_no_second_run(net, monkeypatch):
    for _ in range(2):
        net.forward()
        _ = net.blobs["fc"].data.max()
    counts = runs_of(monkeypatch)
    for _ in range(3):
        net.forward(data=picture())
        _ = net.blobs["fc"].data.max()
    assert counts["run"] == 3


def test_who_keeps_an_array_sees_what_later_runs_write(net):
    kept = net.blobs["conv2"].data[0]
    output = net.forward(data=picture())["prob"]
    data = picture()
    net.forward(data=data)
    want = expected(net, data, "conv2", "prob")
    assert agrees(kept, want["conv2"][0])
    assert agrees(output, want["prob"])


def test_the_engine_sees_changed_weights(net):
    data = picture()
    before = net.forward(data=data)["prob"].copy()
    net.params["conv1"][0].data[1] *= 3
    net.params["fc"][1].data[...] = 0
    after = net.forward()["prob"].copy()
    assert not np.allclose(before, after)
    assert agrees(after, expected(net, data)["prob"])


def test_the_engine_sees_weights_changed_through_a_view_kept_for_long(net):
    data = picture()
    row = net.params["conv2"][0].data[0, 0]
    for factor in (2, 5):
        net.forward(data=data)
        row *= factor
        assert agrees(net.forward()["prob"], expected(net, data)["prob"])


def test_blobs_belong_to_the_weights_they_were_computed_with(net):
    data = picture()
    want = expected(net, data, "conv2")["conv2"]
    net.forward(data=data)
    net.params["conv1"][0].data[...] = 0
    assert agrees(net.blobs["conv2"].data, want)
    kept = net.params["fc"][0].data
    for _ in range(2):  # after the second one nobody has looked at any blob
        net.forward()
    want = expected(net, data, "fc")["fc"]
    kept[...] = 1
    assert agrees(net.blobs["fc"].data, want)


def test_only_a_part_runs(net):
    data = picture()
    net.blobs["data"].data[...] = data
    out = net.forward(end="conv1")
    assert list(out) == ["conv1"]
    assert out["conv1"].min() < 0  # before the ReLU
    net.forward(start="relu1", end="relu1")
    assert net.blobs["conv1"].data.min() == 0
    out = net.forward(start="conv2")
    assert agrees(out["prob"], expected(net, data)["prob"])
    net.blobs["fc"].data[...] = [[9, 0, 0, 0, 0]]
    assert net.forward(start="prob")["prob"][0, 0] > 0.99


def test_parts_see_changed_weights(net):
    net.forward(end="conv1")
    net.params["conv1"][0].data[...] = 0
    net.params["conv1"][1].data[...] = 4
    assert (net.forward(end="conv1")["conv1"] == 4).all()


def test_layer_by_layer_is_the_whole(net):
    data = picture()
    net.blobs["data"].data[...] = data
    for name in net._layer_names:
        net.forward(start=name, end=name)
    assert agrees(net.blobs["prob"].data, expected(net, data)["prob"])


def test_more_blobs_are_returned_on_request(net):
    assert set(net.forward(blobs=["conv2"], data=picture())) == {"prob", "conv2"}
    with pytest.raises(ModelError, match="no blob"):
        net.forward(blobs=["nothing"])


def test_inputs_change_shape(net):
    net.blobs["data"].reshape(4, 3, 8, 8)
    assert net.blobs["prob"].shape[0] == 1
    net.reshape()
    assert net.blobs["prob"].shape == (4, 5)
    data = picture(4)
    assert agrees(net.forward(data=data)["prob"], expected(net, data)["prob"])
    net.blobs["data"].reshape(2, 3, 8, 8)
    assert net.forward()["prob"].shape == (2, 5)


def test_forward_all_takes_any_number_of_items(net):
    net.blobs["data"].reshape(3, 3, 8, 8)
    data = picture(7)
    out = net.forward_all(blobs=["fc"], data=data)
    want = expected(net, data, "prob", "fc")
    assert agrees(out["prob"], want["prob"]) and agrees(out["fc"], want["fc"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": np.zeros((1, 3, 8, 8))}, "inputs are data"),
        ({"data": np.zeros((2, 3, 8, 8))}, "reshape"),
        ({"data": np.zeros((1, 3, 9, 8))}, "reshape"),
    ],
)
def test_wrong_inputs_are_refused(net, inputs, message):
    with pytest.raises(ModelError, match=message):
        net.forward(**inputs)


def test_weights_are_saved_copied_and_shared(net, files, tmp_path):
    other = caffe.Net(files[0], caffe.TEST)
    net.params["fc"][1].data[...] = [1, 2, 3, 4, 5]
    net.save(str(tmp_path / "new.caffemodel"))
    data = picture()
    want = net.forward(data=data)["prob"]
    assert not agrees(other.forward(data=data)["prob"], want)
    other.copy_from(str(tmp_path / "new.caffemodel"))
    assert agrees(other.forward(data=data)["prob"], want)
    third = caffe.Net(files[0], caffe.TEST)
    third.forward(data=data)
    third.share_with(net)
    net.params["fc"][0].data[...] *= 0.5
    assert agrees(third.forward()["prob"], expected(net, data)["prob"])
    third.params["fc"][0].data[...] *= 0.5
    assert agrees(net.forward()["prob"], expected(third, data)["prob"])


@pytest.mark.parametrize("save", ["save", "save_hdf5"])
def test_hdf5_weights(net, files, tmp_path, save):
    pytest.importorskip("h5py")
    getattr(net, save)(str(tmp_path / "new.h5"))
    other = caffe.Net(files[0], caffe.TEST)
    other.load_hdf5(str(tmp_path / "new.h5"))
    data = picture()
    assert agrees(other.forward(data=data)["prob"], net.forward(data=data)["prob"])


def test_weights_of_other_layers_are_left_out_and_wrong_ones_refused(tmp_path, files):
    renamed = tmp_path / "renamed.prototxt"
    renamed.write_text(TINY.replace('name: "fc"', 'name: "fc-new"'))
    with pytest.warns(UserWarning, match="fc-new"):
        net = caffe.Net(str(renamed), files[1], caffe.TEST)
    assert net.params["conv1"][0].data.any()
    wrong = tmp_path / "wrong.prototxt"
    wrong.write_text(TINY.replace("num_output: 5", "num_output: 6"))
    with pytest.raises(ModelError, match="another name"):
        caffe.Net(str(wrong), files[1], caffe.TEST)


@pytest.mark.parametrize(
    ("filler", "check"),
    [
        ('type: "gaussian" std: 0.1', lambda w: 0.08 < w.std() < 0.12),
        ('type: "uniform" min: 2 max: 3', lambda w: w.min() >= 2 and w.max() <= 3 < 1 + w.max()),
        ('type: "xavier"', lambda w: 0.9 < np.abs(w).max() / np.sqrt(3 / 75) <= 1),
        ('type: "msra"', lambda w: 0.9 < w.std() / np.sqrt(2 / 75) < 1.1),
        ('type: "positive_unitball"', lambda w: np.allclose(w.sum(axis=(1, 2, 3)), 1)),
        ('type: "constant" value: 4', lambda w: (w == 4).all()),
    ],
)
def test_blobs_without_weights_are_filled_as_the_prototxt_says(tmp_path, filler, check):
    text = TINY.replace("num_output: 4 kernel_size: 3", "num_output: 40 kernel_size: 5 %s")
    path = tmp_path / "net.prototxt"
    path.write_text(text % f"weight_filler {{ {filler} }}")
    caffe.set_random_seed(3)
    first = caffe.Net(str(path), caffe.TEST).params["conv1"][0].data
    assert check(first)
    caffe.set_random_seed(3)
    assert np.array_equal(first, caffe.Net(str(path), caffe.TEST).params["conv1"][0].data)


def test_a_bilinear_filler_interpolates(tmp_path):
    path = tmp_path / "net.prototxt"
    conv = 'Deconvolution" bottom: "data" top: "conv1" convolution_param { num_output: 3 group: 3 '
    text = TINY[: TINY.index('layer { name: "conv1"')]
    path.write_text(
        text + f'layer {{ name: "conv1" type: "{conv} kernel_size: 4 stride: 2 pad: 1 '
        'bias_term: false weight_filler { type: "bilinear" } } }'
    )
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = np.arange(8)
    row = net.forward()["conv1"][0, 0, 5, 1:-1]
    assert np.allclose(row, np.linspace(0.25, 6.75, 14))


@pytest.mark.parametrize(
    "case", ["lenet", "resnet", "googlenet", "mobilenet", "scnn", "multi_io", "alexnet"]
)
def test_golden_nets_in_all_their_blobs(golden_dir, case):
    files = golden_dir / "nets" / case
    paths = [str(files.with_suffix(s)) for s in (".prototxt", ".caffemodel")]
    arrays = np.load(files.with_suffix(".npz"))
    inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in/")}
    net = caffe.Net(*paths, caffe.TEST)
    for name, values in inputs.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.forward()
    compared = [key[4:] for key in arrays.files if key.startswith("out/")]
    assert compared
    for name in compared:
        want = arrays[f"out/{name}"]
        assert np.abs(net.blobs[name].data - want).max() <= 2e-5 * np.abs(want).max(), name
    same = Executor(load(*paths)).run(inputs)
    assert all(agrees(net.blobs[name].data, values) for name, values in same.items())


def test_recurrent_nets_step_once_a_forward(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 2 } } }'
        'layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 1 } } }'
        'layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "c" top: "h" recurrent_param { '
        'num_output: 3 weight_filler { type: "constant" value: 0.5 } } }'
        'layer { name: "out" type: "TanH" bottom: "h" top: "out" }'
    )
    net, plain = (caffe.Net(str(path), caffe.TEST) for _ in range(2))
    for step in range(3):
        inputs = {"x": np.ones((1, 1, 2)), "c": np.array([[step > 0]])}
        out = net.forward(**inputs)["out"].copy()
        if step == 1:
            assert agrees(np.tanh(net.blobs["h"].data), out)
        assert agrees(out, plain.forward(**inputs)["out"])


@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.backward(),
        lambda net: net.forward_backward_all(),
        lambda net: net.blobs["data"].diff,
        lambda net: caffe.SGDSolver("solver.prototxt"),
        lambda net: caffe.get_solver("solver.prototxt"),
    ],
)
def test_training_is_refused_with_what_to_use(net, call):
    with pytest.raises(NotImplementedError, match="caffe train"):
        call(net)
