"""info, convert, compress, run and compare on small models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_support import TINY, answer, call, make_model, refusal

from caffe_scnn.batch import ModelFiles
from caffe_scnn.loading import load
from caffe_scnn.model.caffemodel import read_caffemodel, write_caffemodel
from caffe_scnn.model.net import Net


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return make_model(tmp_path / "model")


# --- info -----------------------------------------------------------------------------------------


def test_info_counts_layers_and_totals(model: ModelFiles) -> None:
    net = load(model.prototxt, model.caffemodel)
    net.layer("conv2").blobs[0][:3] = 0
    write_caffemodel(net, model.caffemodel)
    data = answer("info", model.prototxt, model.caffemodel)
    conv2 = next(layer for layer in data["layers"] if layer["name"] == "conv2")
    assert conv2["type"] == "Convolution"
    assert conv2["bottoms"] == ["conv1"]
    assert conv2["tops"] == ["conv2"]
    assert conv2["shape"] == [1, 6, 4, 4]
    assert conv2["macs"] == 4 * 4 * 6 * 36
    assert conv2["params"] == 6 * 36 + 6
    assert conv2["nonzeros"] == 3 * 36 + 6
    assert conv2["density"] == pytest.approx((3 * 36 + 6) / (6 * 36 + 6))
    for key in ("macs", "params", "nonzeros"):
        assert data["total"][key] == sum(layer[key] for layer in data["layers"])


def test_info_without_weights_has_no_density(model: ModelFiles) -> None:
    data = answer("info", model.prototxt)
    assert data["total"]["params"] == 4 * 27 + 4 + 6 * 36 + 6 + 5 * 96 + 5
    assert data["total"]["density"] is None
    assert all(layer["nonzeros"] is None for layer in data["layers"])


def test_info_shows_the_plan(model: ModelFiles) -> None:
    data = answer("info", model.prototxt, model.caffemodel, "--plan", "--threads", 1)
    conv = next(step for step in data["steps"] if step["name"].startswith("conv2"))
    assert conv["kernel"].startswith("f32_")
    assert conv["why"]
    assert conv["nonzero_macs"] == 4 * 4 * 6 * 36
    assert data["weight_bytes"] == sum(step["weight_bytes"] for step in data["steps"])
    assert conv["kernel"] in call("info", model.prototxt, "--plan").stdout


def test_info_of_a_caffemodel_alone(model: ModelFiles, tmp_path: Path) -> None:
    nameless = tmp_path / "snapshot_iter_1000"
    nameless.write_bytes(model.caffemodel.read_bytes())
    for path in (model.caffemodel, nameless):
        data = answer("info", path)
        fc = next(layer for layer in data["layers"] if layer["name"] == "fc")
        assert fc["blobs"] == [[5, 96], [5]]
        assert data["total"] == {"params": 819, "nonzeros": 819, "density": 1.0}
    assert "5x96 5" in call("info", model.caffemodel).stdout


# --- convert --------------------------------------------------------------------------------------


def test_convert_upgrades_only_what_is_old(model: ModelFiles, tmp_path: Path) -> None:
    data = answer("convert", model.prototxt, model.caffemodel, "-o", tmp_path / "new")
    text = (tmp_path / "new" / "deploy.prototxt").read_text()
    assert "# a comment that stays" in text
    assert "input_dim" not in text
    assert 'type: "Input"' in text
    assert any("upgraded" in note for note in data["notes"])
    assert (
        call(
            "compare",
            model.prototxt,
            model.caffemodel,
            tmp_path / "new" / "deploy.prototxt",
            tmp_path / "new" / "weights.caffemodel",
            "--tolerance",
            "0",
        ).exit_code
        == 0
    )


def test_a_current_model_is_written_back_byte_for_byte(golden_dir: Path, tmp_path: Path) -> None:
    source = golden_dir / "nets" / "resnet.prototxt"
    weights = source.with_suffix(".caffemodel")
    data = answer("convert", source, weights, "-o", tmp_path / "new")
    assert (tmp_path / "new" / "deploy.prototxt").read_bytes() == source.read_bytes()
    assert data["notes"][0] == "prototxt: is current"
    old, new = read_caffemodel(weights), read_caffemodel(tmp_path / "new" / "weights.caffemodel")
    blobs = {layer.name: layer.blobs for layer in new.layers}
    for layer in old.layers:
        for a, b in zip(layer.blobs, blobs.get(layer.name, []), strict=bool(layer.blobs)):
            np.testing.assert_array_equal(a.array, b.array)


def test_convert_without_weights_writes_the_prototxt_only(
    model: ModelFiles, tmp_path: Path
) -> None:
    call("convert", model.prototxt, "-o", tmp_path / "new")
    assert os.listdir(tmp_path / "new") == ["deploy.prototxt"]


def test_convert_keeps_layers_and_fields_it_does_not_know(
    model: ModelFiles, tmp_path: Path
) -> None:
    strange = (
        '\nlayer { name: "odd" type: "Flip" bottom: "prob" top: "odd"\n'
        "  flip_param { flip_width: true } }\n"
    )
    model.prototxt.write_text(model.prototxt.read_text() + strange)
    data = answer("convert", model.prototxt, model.caffemodel, "-o", tmp_path / "new")
    assert strange in (tmp_path / "new" / "deploy.prototxt").read_text()
    assert any("not checked" in note for note in data["notes"])
    stored = read_caffemodel(tmp_path / "new" / "weights.caffemodel")
    assert sum(len(layer.blobs) for layer in stored.layers) == 6
    line = refusal("run", model.prototxt, model.caffemodel, "--random-input")
    assert 'deploy.prototxt:15:27: layer "odd": ' in line
    assert 'unknown layer type "Flip"' in line


def test_convert_refuses_weights_of_another_net(golden_dir: Path, tmp_path: Path) -> None:
    line = refusal(
        "convert",
        golden_dir / "nets" / "lenet.prototxt",
        golden_dir / "nets" / "alexnet.caffemodel",
        "-o",
        tmp_path / "new",
    )
    assert "alexnet.caffemodel" in line
    assert not (tmp_path / "new").exists()


def test_convert_selects_a_phase(golden_dir: Path, tmp_path: Path) -> None:
    source = golden_dir / "nets" / "filter_default.prototxt"
    data = answer("convert", source, "-o", tmp_path / "new", "--phase", "TRAIN", "--level", "1")
    kept = {layer.name for layer in Net.read(tmp_path / "new" / "deploy.prototxt")}
    everything = {layer.name for layer in Net.read(source)}
    assert kept < everything
    assert any("phase TRAIN, level 1" in note for note in data["notes"])


# --- compress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scnn", "magnitude"])
def test_compress_writes_a_caffe_model_and_reports_it(
    model: ModelFiles, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    data = answer(
        "compress",
        model.prototxt,
        model.caffemodel,
        "-o",
        out,
        "--method",
        method,
        "--density",
        "0.3",
        "--repeat",
        "1",
    )
    assert sorted(os.listdir(out)) == ["deploy.prototxt", "recipe.toml", "weights.caffemodel"]
    report = data["layers"][0]
    assert (report["layer"], report["method"]) == ("conv2", method)
    assert report["density"] <= round(0.3 * 216) / 216
    assert 0 < report["weight_error"] < 1
    assert report["after"]["nonzeros"] <= round(0.3 * 216)
    total = answer("info", out / "deploy.prototxt", out / "weights.caffemodel")["total"]
    assert data["total"]["nonzeros_after"] == total["nonzeros"]
    assert data["total"]["macs_after"] == total["nonzero_macs"]
    assert data["time"]["before_ms"] > 0
    assert data["time"]["ratio"] == pytest.approx(
        data["time"]["before_ms"] / data["time"]["after_ms"]
    )
    assert data["caffemodel_bytes"]["after"] == (out / "weights.caffemodel").stat().st_size


def test_the_resolved_recipe_repeats_the_result(model: ModelFiles, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    files = (model.prototxt, model.caffemodel)
    asked = ("--density", "0.4", "--bases", "dictionary", "--q", "4", "--seed", "5")
    assert call("compress", *files, "-o", first, *asked, "--repeat", "0").exit_code == 0
    recipe = ("--recipe", first / "recipe.toml", "--repeat", "0")
    assert call("compress", *files, "-o", again, *recipe).exit_code == 0
    for name in ("deploy.prototxt", "weights.caffemodel", "recipe.toml"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    text = (first / "recipe.toml").read_text()
    assert 'bases = "dictionary"' in text
    assert "q = 4" in text
    assert "seed = 5" in text


def test_options_go_before_the_recipe(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('method = "magnitude"\nscaled = false\ndensity = 0.5\n')
    out = tmp_path / "out"
    answer(
        "compress",
        model.prototxt,
        model.caffemodel,
        "-o",
        out,
        "--recipe",
        tmp_path / "r.toml",
        "--density",
        "0.25",
        "--layers",
        "fc",
        "--repeat",
        "0",
    )
    text = (out / "recipe.toml").read_text()
    for line in ('method = "magnitude"', "scaled = false", "density = 0.25", 'layers = ["fc"]'):
        assert line in text


def test_compress_tells_before_and_after_and_that_files_stay_large(
    model: ModelFiles, tmp_path: Path
) -> None:
    stdout = call(
        "compress",
        model.prototxt,
        model.caffemodel,
        "-o",
        tmp_path / "out",
        "--method",
        "magnitude",
        "--density",
        "0.1",
        "--repeat",
        "1",
    ).stdout
    assert "conv2" in stdout
    assert "3,456" in stdout  # MACs of conv2 before
    assert "Caffe stores zeros like any number" in stdout
    assert "x as fast" in stdout


def test_compress_warns_when_it_makes_nothing_sparse(model: ModelFiles, tmp_path: Path) -> None:
    result = call(
        "compress", model.prototxt, model.caffemodel, "-o", tmp_path / "out", "--repeat", "0"
    )
    assert result.exit_code == 0
    assert "nothing is made sparse" in result.stderr
    out = tmp_path / "out"
    same = (
        "compare",
        out / "deploy.prototxt",
        out / "weights.caffemodel",
        model.prototxt,
        model.caffemodel,
    )
    assert call(*same).exit_code == 0


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("--density", "0"), "density must be in"),
        (("--density", "0.5", "--error", "0.1"), "density or error"),
        (("--layers", "conv9"), "conv9"),
        (("--global",), "density"),
        (("--recipe", "none.toml"), "none.toml"),
    ],
)
def test_compress_refuses_what_cannot_be(
    model: ModelFiles, tmp_path: Path, options: tuple[str, ...], phrase: str
) -> None:
    out = tmp_path / "out"
    assert phrase in refusal("compress", model.prototxt, model.caffemodel, "-o", out, *options)
    assert not out.exists()


def test_an_option_of_another_method_is_refused(model: ModelFiles, tmp_path: Path) -> None:
    result = call(
        "compress",
        model.prototxt,
        model.caffemodel,
        "-o",
        tmp_path / "out",
        "--method",
        "magnitude",
        "--q",
        "3",
    )
    assert result.exit_code == 2
    assert "--q is no parameter of the method magnitude" in result.stderr
    for wrong in (("--q", "many"), ("--bases", "fourier"), ("--method", "none")):
        result = call("compress", model.prototxt, model.caffemodel, "-o", tmp_path / "o", *wrong)
        assert result.exit_code == 2


def test_the_preprocessing_goes_along(model: ModelFiles, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros(3))
    (model.folder / "preprocess.toml").write_text('mean = "../mean.npy"\nscale = 0.5\n')
    call("convert", model.prototxt, "-o", tmp_path / "deep" / "er" / "new")
    text = (tmp_path / "deep" / "er" / "new" / "preprocess.toml").read_text()
    assert 'mean = "../../../mean.npy"' in text
    assert "scale = 0.5" in text


# --- output folders -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["convert", "compress"])
def test_an_existing_folder_is_kept_unless_it_may_be_replaced(
    model: ModelFiles, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "recipe.toml").write_text("before")
    arguments = (command, model.prototxt, model.caffemodel, "-o", out)
    assert "--overwrite" in refusal(*arguments)
    assert os.listdir(out) == ["recipe.toml"]
    assert call(*arguments, "--overwrite").exit_code == 0
    assert {"deploy.prototxt", "weights.caffemodel"} <= {*os.listdir(out)}
    assert command == "compress" or "recipe.toml" not in os.listdir(out)
    (out / "precious").write_text("mine")
    assert "precious" in refusal(*arguments, "--overwrite")
    assert (out / "precious").read_text() == "mine"


@pytest.mark.parametrize("command", ["convert", "compress"])
@pytest.mark.parametrize("above", [False, True])
def test_the_model_that_is_read_is_never_replaced(
    model: ModelFiles, command: str, above: bool
) -> None:
    folder = model.folder.parent if above else model.folder
    before = sorted(model.folder.iterdir())
    assert "is read" in refusal(
        command, model.prototxt, model.caffemodel, "-o", folder, "--overwrite"
    )
    assert sorted(model.folder.iterdir()) == before


@pytest.mark.parametrize("command", ["convert", "compress"])
def test_a_place_that_cannot_be_written_leaves_nothing(
    model: ModelFiles, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    line = refusal(command, model.prototxt, model.caffemodel, "-o", tmp_path / "file" / "out")
    assert "file" in line
    assert sorted(os.listdir(tmp_path)) == ["file", "model"]


# --- run ------------------------------------------------------------------------------------------


def test_run_writes_blobs_by_name(model: ModelFiles, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "in.npz", data=x)
    np.savez(tmp_path / "prefixed.npz", **{"in/data": x, "out/prob": x})
    np.save(tmp_path / "in.npy", x)
    results = []
    for name in ("in.npz", "prefixed.npz", "in.npy"):
        out = tmp_path / f"{name}.out.npz"
        result = call(
            "run",
            model.prototxt,
            model.caffemodel,
            "--input",
            tmp_path / name,
            "-o",
            out,
            "--blobs",
            "conv1,prob",
        )
        assert result.exit_code == 0, result.stderr
        with np.load(out) as blobs:
            assert blobs.files == ["conv1", "prob"]
            results.append(dict(blobs))
    for blobs in results:
        np.testing.assert_array_equal(blobs["conv1"], results[0]["conv1"])
        assert blobs["conv1"].min() == 0  # the value after the ReLU in place
        np.testing.assert_allclose(blobs["prob"].sum(axis=1), 1, rtol=1e-5)


def test_random_inputs_are_made_from_the_seed(model: ModelFiles, tmp_path: Path) -> None:
    def run(seed: int) -> np.ndarray:
        out = tmp_path / "out.npz"
        call(
            "run",
            model.prototxt,
            model.caffemodel,
            "--random-input",
            "--batch",
            "2",
            "--seed",
            seed,
            "-o",
            out,
            "--threads",
            "1",
        )
        return np.load(out)["prob"]

    assert run(1).shape == (2, 5)
    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_run_without_weights_says_that_they_are_constants(model: ModelFiles) -> None:
    result = call("run", model.prototxt, "--random-input")
    assert result.exit_code == 0
    assert "constant fillers" in result.stderr


@pytest.mark.parametrize(
    ("arrays", "phrase"),
    [
        ({"dada": np.ones((1, 3, 8, 8))}, "dada"),
        ({"data": np.ones((3, 8, 8))}, "batch axis is missing"),
        ({"data": np.ones((1, 4, 8, 8))}, "conv1"),
        ({"data": np.ones((1, 3, 9, 9))}, "fc"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    model: ModelFiles, tmp_path: Path, arrays: dict[str, np.ndarray], phrase: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    line = refusal("run", model.prototxt, model.caffemodel, "--input", tmp_path / "x.npz")
    assert phrase in line


def test_an_unknown_blob_is_refused_by_name(model: ModelFiles, tmp_path: Path) -> None:
    line = refusal(
        "run",
        model.prototxt,
        model.caffemodel,
        "--random-input",
        "--blobs",
        "conv7",
        "-o",
        tmp_path / "o.npz",
    )
    assert "conv7" in line
    assert not (tmp_path / "o.npz").exists()


def test_an_output_file_that_cannot_be_written_is_named(model: ModelFiles, tmp_path: Path) -> None:
    line = refusal(
        "run", model.prototxt, model.caffemodel, "--random-input", "-o", tmp_path / "none" / "o.npz"
    )
    assert "o.npz" in line


# --- bad models -----------------------------------------------------------------------------------


def test_swapped_arguments_are_refused(model: ModelFiles) -> None:
    line = refusal("run", model.caffemodel, model.prototxt, "--random-input")
    assert "weights.caffemodel" in line


def test_a_truncated_caffemodel_is_refused(model: ModelFiles) -> None:
    content = model.caffemodel.read_bytes()
    model.caffemodel.write_bytes(content[: len(content) // 2])
    assert "weights.caffemodel" in refusal("info", model.prototxt, model.caffemodel)


@pytest.mark.parametrize("command", ["run", "compress", "convert", "bench", "info"])
def test_weights_that_are_nan_are_refused_with_the_layer(
    model: ModelFiles, tmp_path: Path, command: str
) -> None:
    net = load(model.prototxt, model.caffemodel)
    net.layer("conv2").blobs[0][0, 0, 0, 0] = np.nan
    write_caffemodel(net, model.caffemodel)
    options = {
        "run": ["--random-input"],
        "compress": ["-o", tmp_path / "out"],
        "convert": ["-o", tmp_path / "out"],
    }
    line = refusal(command, model.prototxt, model.caffemodel, *options.get(command, []))
    assert '"conv2"' in line
    assert not (tmp_path / "out").exists()


def test_a_misspelt_field_is_named_with_its_line_and_neighbour(
    model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "typo.prototxt"
    path.write_text(TINY.replace("num_output: 4", "num_outputs: 4"))
    line = refusal("info", path)
    assert "typo.prototxt:7:" in line
    assert "did you mean num_output?" in line


def test_info_shows_what_does_not_depend_on_an_unknown_type(
    model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "own.prototxt"
    own = 'layer { name: "own" type: "MyOwn" bottom: "conv1" top: "own" }\n'
    after = 'layer { name: "after" type: "ReLU" bottom: "own" top: "after" }\n'
    path.write_text(TINY + own + after)
    text = call("info", path, model.caffemodel).output
    assert 'unknown layer type "MyOwn"' in text
    found = answer("info", path, model.caffemodel)
    whole = answer("info", model.prototxt, model.caffemodel)
    assert found["total"] == whole["total"] and found["layers"][:-2] == whole["layers"]
    assert [row["macs"] for row in found["layers"][-2:]] == [None, None]
    assert list(found["not_understood"]) == ["own"]
    shapes = answer("info", path)
    assert shapes["total"]["params"] == whole["total"]["params"]


def test_what_follows_an_unknown_layer_in_place_has_no_shape(tmp_path: Path) -> None:
    path = tmp_path / "own.prototxt"
    own = 'layer { name: "own" type: "MyOwn" bottom: "conv1" top: "conv1" }\n'
    at = TINY.index("layer {", TINY.index('name: "conv1"'))
    path.write_text(TINY[:at] + own + TINY[at:])
    rows = {row["name"]: row["shape"] for row in answer("info", path)["layers"]}
    assert rows.pop("input") and rows.pop("conv1")
    assert set(rows.values()) == {None}


def test_a_field_that_may_change_what_a_fork_computes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "fork.prototxt"
    field = 'name: "conv1" quantization_param { bw_params: 8 }'
    path.write_text(TINY.replace('name: "conv1"', field, 1))
    found = answer("info", path)
    assert list(found["not_understood"]) == ["conv1"]
    assert "intel/caffe" in found["not_understood"]["conv1"]
    assert "quantization_param" in refusal("bench", path)


def test_fields_that_say_how_a_fork_computes_are_let_through(
    model: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "intel.prototxt"
    layer = TINY.replace('name: "conv1"', 'name: "conv1" engine: "MKLDNN"', 1)
    path.write_text('engine: "MKL2017"\n' + layer)
    assert "not_understood" not in answer("info", path, model.caffemodel)
    assert call("compress", path, model.caffemodel, "-o", tmp_path / "c").exit_code == 0
    assert 'engine: "MKLDNN"' in (tmp_path / "c" / "deploy.prototxt").read_text()


def test_weights_that_the_net_does_not_take_are_named(model: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / "short.prototxt"
    path.write_text(TINY[: TINY.index("layer {", TINY.index('name: "conv2"'))])
    result = call("info", path, model.caffemodel)
    assert result.exit_code == 0
    assert "weights of 1 layers that are not in the net are left out (fc)" in result.stderr


def test_pictures_fit_an_input_of_another_size(model: ModelFiles, tmp_path: Path) -> None:
    (model.folder / "preprocess.toml").write_text('resize = "keep:10"\ncrop = 8\n')
    out = tmp_path / "large"
    files = (model.prototxt, model.caffemodel)
    assert (
        call("convert", *files, "-o", out, "--outputs", "conv2", "--input-size", "16x16").exit_code
        == 0
    )
    assert "crop = 16" in (out / "preprocess.toml").read_text()
    assert 'resize = "keep:20"' in (out / "preprocess.toml").read_text()
    wide = tmp_path / "wide"
    result = call("convert", *files, "-o", wide, "--outputs", "conv2", "--input-size", "16x24")
    assert "preprocess.toml is left out" in result.stderr
    assert "preprocess.toml" not in os.listdir(wide)


def test_a_file_of_another_kind_is_named_and_nothing_unsafe_recommended(model: ModelFiles) -> None:
    line = refusal("run", model.prototxt, model.caffemodel, "--input", model.prototxt)
    assert "deploy.prototxt: not a readable .npz or .npy" in line and "pickle" not in line


def test_a_net_comes_through_a_pipe(model: ModelFiles) -> None:
    command = [sys.executable, "-m", "caffe_scnn", "info", "/dev/stdin", "--json"]
    given = model.prototxt.read_bytes()
    ran = subprocess.run(command, input=given, capture_output=True, check=True)
    assert json.loads(ran.stdout)["total"]["macs"] > 0


def error_cases() -> list[str]:
    folder = Path(__file__).parent / "golden" / "errors"
    return sorted(path.stem for path in folder.glob("*.txt"))


# Wrong only for certain values of an input.
FED = {"reindex_negative": [-1, 0], "reindex_range": [0, 3]}


@pytest.mark.parametrize("case", error_cases())
def test_what_caffe_refuses_ends_with_one_line(golden_dir: Path, tmp_path: Path, case: str) -> None:
    prototxt = golden_dir / "errors" / f"{case}.prototxt"
    caffemodel = prototxt.with_suffix(".caffemodel")
    files = (prototxt, caffemodel) if caffemodel.exists() else (prototxt,)
    if case not in FED:
        refusal("run", *files, "--random-input")
        return
    np.savez(tmp_path / "x.npz", data=np.ones((3, 2)), p=np.array(FED[case]))
    refusal("run", *files, "--input", tmp_path / "x.npz")


def test_there_are_error_cases() -> None:
    assert len(error_cases()) == 70


# --- compare --------------------------------------------------------------------------------------


def test_compare_names_the_first_divergence_and_fails(model: ModelFiles, tmp_path: Path) -> None:
    net = load(model.prototxt, model.caffemodel)
    net.layer("fc").blobs[1][0] += 1e-2
    other = tmp_path / "other.caffemodel"
    write_caffemodel(net, other)
    sides = (model.prototxt, model.caffemodel, model.prototxt, other)
    result = call("compare", *sides)
    assert result.exit_code == 1
    assert 'first divergence: blob "fc", written by layer "fc"' in result.stdout
    assert call("compare", *sides, "--tolerance", "1").exit_code == 0
    data = json.loads(call("compare", *sides, "--json").stdout)
    assert (data["agrees"], data["first_divergence"]) == (False, "fc")
    assert [blob["agrees"] for blob in data["blobs"]] == [True, True, False, False]


@pytest.mark.parametrize("case", ["lenet", "alexnet", "vgg_batch4", "mobilenet", "squeezenet"])
def test_compare_with_goldens(golden_dir: Path, tmp_path: Path, case: str) -> None:
    path = golden_dir / "nets" / f"{case}.prototxt"
    files = (path, path.with_suffix(".caffemodel"))
    assert answer("compare", *files, path.with_suffix(".npz"))["agrees"] is True
    with np.load(path.with_suffix(".npz")) as golden:
        arrays = dict(golden)
    name = next(key for key in arrays if key.startswith("out/"))
    arrays[name] = arrays[name] + np.float32(1e-3) * np.abs(arrays[name]).max()
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert call("compare", *files, tmp_path / "wrong.npz").exit_code == 1


def test_compare_opens_a_net_as_its_golden_was(tmp_path: Path) -> None:
    stages = TINY + (
        'layer { name: "extra" type: "ReLU" bottom: "fc" top: "extra"\n'
        '  include { stage: "deploy" min_level: 2 } }\n'
    )
    model = make_model(tmp_path / "model", stages)
    out = tmp_path / "golden.npz"
    state = ("--stage", "deploy", "--level", "2")
    x = np.ones((1, 3, 8, 8), np.float32)
    np.savez(tmp_path / "x.npz", data=x)
    call(
        "run",
        model.prototxt,
        model.caffemodel,
        "--input",
        tmp_path / "x.npz",
        "-o",
        out,
        "--blobs",
        "extra",
        *state,
    )
    np.savez(out, **{"in/data": x, "out/extra": np.load(out)["extra"]})
    assert "extra" in refusal("compare", model.prototxt, model.caffemodel, out)
    out.with_suffix(".json").write_text('{"stages": ["deploy"], "level": 2}')
    assert call("compare", model.prototxt, model.caffemodel, out).exit_code == 0


def test_compare_many_with_the_goldens_beside_them(golden_dir: Path) -> None:
    pattern = golden_dir / "nets" / "lenet*.prototxt"
    data = json.loads(call("compare", "--models", pattern, "--json").stdout)
    assert {m["model"]: m["status"] for m in data["models"]} == {
        "lenet": "ok",
        "lenet_sigmoid": "ok",
    }


def test_a_failed_comparison_among_many_is_exit_code_1(golden_dir: Path) -> None:
    pattern = golden_dir / "nets" / "lenet*.prototxt"
    result = call("compare", "--models", pattern, "--keep-going", "--tolerance", "0", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["summary"]["failed"] > 0


def test_a_golden_that_is_none_is_refused(model: ModelFiles, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    files = (model.prototxt, model.caffemodel)
    assert "out/<blob>" in refusal("compare", *files, tmp_path / "x.npz")
    assert "broken.npz" in refusal("compare", *files, tmp_path / "broken.npz")


# --- bench and doctor -----------------------------------------------------------------------------


def test_bench_measures_layers_and_the_ratio(model: ModelFiles) -> None:
    files = (model.prototxt, model.caffemodel)
    data = answer("bench", *files, "--against", *files, "--repeat", "2", "--threads", "1")
    assert data["threads"] == 1
    assert data["total_ms"] > 0
    assert data["ratio"] == pytest.approx(data["against_ms"] / data["total_ms"])
    conv = next(layer for layer in data["layers"] if layer["name"].startswith("conv1"))
    assert {"name", "ms", "min_ms", "kernel", "why", "macs", "nonzero_macs", "gflops"} <= set(conv)
    assert conv["macs"] == 6 * 6 * 4 * 27
    assert conv["kernel"]
    alone = answer("bench", *files, "--repeat", "1")
    assert (alone["against_ms"], alone["ratio"]) == (None, None)


def test_bench_without_weights_measures_dense_ones(model: ModelFiles) -> None:
    data = answer("bench", model.prototxt, "--repeat", "1")
    assert all(layer["nonzero_macs"] == layer["macs"] for layer in data["layers"])


def test_doctor_tells_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = answer("doctor")
    assert data["isa"] in data["isas"]
    assert data["isas"][-1] == "scalar"
    assert data["kernels"]["scalar"]
    assert data["packages"]["numpy"] == np.__version__
    assert {library["user_api"] for library in data["blas"]} == {"blas"}
    monkeypatch.setenv("CAFFE_SCNN_ISA", "scalar")
    assert answer("doctor")["isa"] == "scalar"
    assert "in use" in call("doctor").stdout
    monkeypatch.setenv("CAFFE_SCNN_ISA", "mmx")
    assert "mmx" in refusal("doctor")


def test_info_tells_what_is_subtracted_from_pictures(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    assert "preprocessing" not in answer("info", model.prototxt)
    (tmp_path / "preprocess.toml").write_text("mean = [104, 117, 123]\nscale = 0.017\n")
    said = answer("info", model.prototxt)["preprocessing"]
    assert "(pixel - [104, 117, 123]) * 0.017" in said and "bgr" in said
    assert said in call("info", model.prototxt, model.caffemodel).stdout
    (tmp_path / "preprocess.toml").write_text("mean = [1, 2]\n")
    said = answer("info", model.prototxt)["preprocessing"]
    assert said.startswith("cannot be used: ") and "2 values per pixel" in said


def test_convert_refuses_a_prototxt_without_layers(model: ModelFiles, tmp_path: Path) -> None:
    empty = tmp_path / "empty.prototxt"
    empty.write_text("")
    message = refusal("convert", empty, model.caffemodel, "-o", tmp_path / "out")
    assert "empty.prototxt: the net has no layers" in message
    assert not (tmp_path / "out").exists()
