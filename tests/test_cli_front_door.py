"""Help, JSON, exit codes and one-line errors of every command."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_support import TINY, answer, call, make_model, refusal
from click.testing import CliRunner

import caffe_scnn
from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli import COMMANDS, main
from caffe_scnn.cli import info as info_command

WITH_SUBCOMMANDS = {"evaluate": ("classify", "voc", "proposals")}
WITHOUT_A_REPORT = {"python"}  # what it prints is the script's
WITHOUT_MANY = {"doctor", "extract", "inject", "diff", "merge", "voc", "proposals"}
WITHOUT_MANY |= {"detect", "detect-train", "detect-import"}
CALLS = [
    (name, *sub)
    for name in COMMANDS
    for sub in ([(s,) for s in WITH_SUBCOMMANDS[name]] if name in WITH_SUBCOMMANDS else [()])
]


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return make_model(tmp_path / "model")


@pytest.mark.parametrize("command", CALLS, ids=" ".join)
def test_help_explains_and_shows_an_example(command: tuple[str, ...]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    caffe-scnn {' '.join(command)}" in result.stdout
    if command[0] in WITHOUT_A_REPORT:
        return
    assert "--json" in result.stdout
    if command[-1] not in WITHOUT_MANY:
        assert "--models" in result.stdout
        assert "--keep-going" in result.stdout


def test_the_list_of_commands_needs_none_of_them() -> None:
    script = (
        "import sys\n"
        "from caffe_scnn.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'scipy', 'sklearn', 'google.protobuf'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_running_does_not_import_what_only_other_commands_need(model: ModelFiles) -> None:
    script = (
        "import sys\n"
        "from caffe_scnn.cli import main\n"
        f"files = [{str(model.prototxt)!r}, {str(model.caffemodel)!r}]\n"
        "try: main(['run', *files, '--random-input'])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "heavy = {'cv2', 'sklearn', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_is_quick() -> None:
    command = [sys.executable, "-m", "caffe_scnn", "--help"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 2  # 0.1 s on an idle machine
    assert done.stdout.startswith("Usage: caffe-scnn ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("info",),
        ("info", "a.prototxt", "--models", "*"),
        ("info", "a.prototxt", "--no-such-option"),
        ("compress", "a.prototxt", "-o", "out"),
        ("compress", "a.prototxt", "a.caffemodel"),
        ("run", "a.prototxt"),
        ("run", "a.prototxt", "--random-input", "--input", "x.npz"),
        ("run", "a.prototxt", "--random-input", "--threads", "0"),
        ("run", "a.prototxt", "--random-input", "--phase", "BOTH"),
        ("classify", "a.prototxt", "a.caffemodel"),
        ("evaluate", "classify", "a.prototxt", "a.caffemodel"),
        ("evaluate", "classify", "a.prototxt", "a.caffemodel", "--list", "a", "--input", "b"),
        ("compare", "a.prototxt"),
        ("compare", "a.prototxt", "b.prototxt", "c.caffemodel"),
        ("compare",),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "nothing.prototxt" in refusal("info", tmp_path / "nothing.prototxt")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("9 GB"), "error: not enough memory: 9 GB\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out"),
            "error: out: No space left on device\n",
        ),
    ],
)
def test_causes_outside_are_one_line_too(
    monkeypatch: pytest.MonkeyPatch, model: ModelFiles, error: Exception, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(info_command, "describe", fail)
    result = call("info", model.prototxt)
    assert (result.exit_code, result.stderr) == (2, line)


def test_a_bug_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, model: ModelFiles
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(info_command, "describe", fail)
    with pytest.raises(ZeroDivisionError):
        call("info", model.prototxt)


def test_ctrl_c_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, model: ModelFiles
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info_command, "describe", interrupt)
    result = call("info", model.prototxt)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("of_ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_sigterm_ends_like_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, model: ModelFiles, of_ctrl_c: signal.Handlers
) -> None:
    def be_terminated(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(info_command, "describe", be_terminated)
    ours = signal.signal(signal.SIGINT, of_ctrl_c)
    try:
        result = call("info", model.prototxt)
    finally:
        signal.signal(signal.SIGINT, ours)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_reader_that_goes_away_is_not_told_about(
    monkeypatch: pytest.MonkeyPatch, model: ModelFiles
) -> None:
    def close(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(info_command, "describe", close)
    assert call("info", model.prototxt).stderr == ""


def test_warnings_go_to_stderr(tmp_path: Path, model: ModelFiles) -> None:
    more = tmp_path / "more.prototxt"
    fc = 'layer { name: "more" type: "InnerProduct" bottom: "fc" top: "more"\n'
    more.write_text(TINY + fc + "  inner_product_param { num_output: 2 } }\n")
    assert "more" in refusal("info", more, model.caffemodel)
    result = call("info", more, model.caffemodel, "--allow-missing", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert '"more"' in result.stderr
    json.loads(result.stdout)


def test_names_that_the_terminal_cannot_show_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(TINY.encode().replace(b"relu1", "größe→".encode() + b"\xe9"))
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "caffe_scnn", "info", str(path)]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\xf6\xdfe\\u2192" in done.stdout


def test_the_version_is_told() -> None:
    assert call("--version").stdout == f"caffe-scnn, version {caffe_scnn.__version__}\n"


def test_markdown_and_json_show_the_same(model: ModelFiles) -> None:
    markdown = call("info", model.prototxt, model.caffemodel, "--markdown").stdout
    assert markdown.startswith("| name | type |")
    assert len(answer("info", model.prototxt, model.caffemodel)["layers"]) == 6


# --- many models ----------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Three folders: two good models around a broken one."""
    for name in ("a", "b", "c"):
        make_model(tmp_path / "zoo" / name)
    (tmp_path / "zoo" / "b" / "deploy.prototxt").write_text("layer {")
    return tmp_path / "zoo"


def test_many_models_stop_at_the_first_error(zoo: Path) -> None:
    result = call("info", "--models", zoo / "*", "--json")
    assert result.exit_code == 2
    data = json.loads(result.stdout)
    assert [m["status"] for m in data["models"]] == ["ok", "error", "skipped"]
    assert "deploy.prototxt" in data["models"][1]["error"]


def test_keep_going_does_the_rest(zoo: Path) -> None:
    result = call("info", "--models", zoo / "*", "--keep-going", "--json")
    assert result.exit_code == 2
    data = json.loads(result.stdout)
    assert data["summary"] == {"ok": 2, "failed": 0, "error": 1, "skipped": 0}
    assert data["models"][2]["result"]["total"]["params"] > 0
    lines = result.stderr.splitlines()
    assert lines[0].startswith("[1/3] a/deploy: ok (")
    assert lines[1].startswith("[2/3] b/deploy: error (")
    assert len(lines) == 3


def test_an_unclear_pair_of_files_is_one_error_among_the_others(zoo: Path) -> None:
    for name in ("one", "two"):
        (zoo / "b" / f"{name}.caffemodel").touch()
    (zoo / "b" / "weights.caffemodel").unlink()
    result = call("info", "--models", zoo / "*", "--keep-going", "--json")
    data = json.loads(result.stdout)
    assert [model["status"] for model in data["models"]] == ["ok", "error", "ok"]
    assert "one.caffemodel and two.caffemodel" in data["models"][1]["error"]


def test_public_names_are_listed_before_they_are_used() -> None:
    code = "import caffe_scnn; print(*dir(caffe_scnn))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert {b"load", b"Executor", b"compress"} <= {*names.split()}


def test_many_models_in_text_have_a_heading_each_and_a_summary(zoo: Path) -> None:
    stdout = call("info", "--models", zoo / "*", "--keep-going").stdout
    assert "# a/deploy\n\nname" in stdout
    assert stdout.rstrip().endswith("3 models: 2 ok, 1 error")


def test_weights_that_a_command_needs_must_be_beside(zoo: Path) -> None:
    (zoo / "a" / "weights.caffemodel").unlink()
    result = call("compress", "--models", zoo / "a", "-o", zoo / "out")
    assert result.exit_code == 2
    assert "found no caffemodel beside it" in result.stderr


def test_outputs_of_many_models_lie_below_the_folder(zoo: Path, tmp_path: Path) -> None:
    (zoo / "b" / "deploy.prototxt").write_text(TINY)
    out = tmp_path / "out"
    assert call("run", "--models", zoo / "*", "--random-input", "-o", out).exit_code == 0
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.npz")) == [
        "a/deploy.npz",
        "b/deploy.npz",
        "c/deploy.npz",
    ]
    assert call("convert", "--models", zoo / "*", "-o", tmp_path / "new").exit_code == 0
    assert (tmp_path / "new" / "c" / "deploy" / "weights.caffemodel").exists()


def test_the_runner_sees_what_a_shell_sees() -> None:
    assert CliRunner().invoke(main, ["doctor", "--json"]).exit_code == 0
