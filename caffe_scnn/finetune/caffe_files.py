"""``train_val.prototxt`` and ``solver.prototxt`` for those who fine-tune in Caffe itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.database import LMDB_FILE, is_database
from caffe_scnn.finetune.objective import Answer
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.schedule import Training
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.select_phase import select_phase
from caffe_scnn.preprocess import Preprocess, Transformer
from caffe_scnn.proto import caffe_pb2 as pb

TRAIN_VAL, SOLVER = "train_val.prototxt", "solver.prototxt"
SNAPSHOTS = 10  # snapshots and tests in a training


@dataclass(frozen=True)
class Images:
    """What Caffe reads.

    Attributes
    ----------
    source : str
        A database, or a list of ``name label`` lines; where there is neither, the name that such a
        list is to have.
    root : str
        Where the names of a list start, with a slash at the end.
    count : int
        Images.
    backend : str, optional
        ``LMDB`` or ``LEVELDB`` for a database.
    """

    source: str
    root: str
    count: int
    backend: str | None = None

    @classmethod
    def of(cls, path: Path, root: Path | None, count: int) -> Images:
        """Say how Caffe reads what :func:`~caffe_scnn.finetune.data.open_source` does."""
        if is_database(path):
            backend = "LMDB" if (path / LMDB_FILE).is_file() else "LEVELDB"
            return cls(str(path), "", count, backend)
        if path.is_file() and path.suffix.lower() not in (".npz", ".npy"):
            return cls(str(path), f"{root or path.parent}/", count)
        return cls("train.txt", f"{path}/" if path.is_dir() else "", count)


def write_caffe_files(
    folder: Path,
    net: Net,
    recipe: FinetuneRecipe,
    settings: Preprocess,
    transformer: Transformer,
    images: Images,
) -> None:
    """Write both files.

    Caffe minimises the cross entropy with labels, whatever the recipe's goals are, and does not
    keep zeros: comments in the files say so.

    Parameters
    ----------
    folder : Path
    net : Net
        A deploy net of one input whose answer are class scores.
    recipe : FinetuneRecipe
        Learning rates, augmentation and length are taken from it.
    settings, transformer
        How pictures become input.
    images : Images

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    made, notes = training_net(net, recipe, settings, transformer, images)
    said = "".join(f"# {note}\n" for note in notes)
    _write(folder / TRAIN_VAL, said + made.text())
    steps = recipe.train.total(max(1, images.count // recipe.train.batch))
    proto = solver(recipe.train, steps, images.count, recipe.seed)
    said = (
        "# caffe train --solver=solver.prototxt --weights=weights.caffemodel\n"
        "# Caffe trains every weight: those that are zero do not stay zero.\n"
    )
    _write(folder / SOLVER, said + text_format.MessageToString(proto))


def training_net(
    net: Net,
    recipe: FinetuneRecipe,
    settings: Preprocess,
    transformer: Transformer,
    images: Images,
) -> tuple[Net, list[str]]:
    """Return the net with data layers and a loss for both phases, and what has to be said of it."""
    made = net.copy()
    graph = Graph(made)
    if len(graph.inputs) != 1:
        raise ModelError(f"the net has the inputs {', '.join(graph.inputs)}; one can be fed")
    answer = Answer.of(net)
    label = _free("label", graph)
    notes: list[str] = []
    softmax = next((n for n in made.layers[::-1] if answer.softmax and n.type == "Softmax"), None)
    scores = softmax.bottoms[0] if softmax is not None else answer.blob
    if softmax is not None:
        made.remove(softmax)
    (top,) = graph.inputs
    fed = next(layer for layer in made.layers if top in layer.tops and not layer.bottoms)
    made.replace(
        fed,
        *(
            _data(top, label, phase, recipe, settings, transformer, images, notes)
            for phase in (pb.TRAIN, pb.TEST)
        ),
    )
    made.layers += [
        _end("loss", "SoftmaxWithLoss", scores, label),
        _end("accuracy", "Accuracy", scores, label, pb.TEST),
    ]
    Graph(select_phase(made, "TRAIN"))
    return made, list(dict.fromkeys(notes))


def solver(train: Training, steps: int, images: int, seed: int) -> pb.SolverParameter:
    """Return the solver that comes nearest to a recipe; poly takes the place of a cosine."""
    every = max(1, steps // SNAPSHOTS)
    proto = pb.SolverParameter(
        net=TRAIN_VAL,
        test_iter=[-(-images // train.batch)],
        test_interval=every,
        base_lr=train.learning_rate,
        display=max(1, every // 10),
        max_iter=steps,
        weight_decay=train.weight_decay,
        snapshot=every,
        snapshot_prefix="snapshot",
        random_seed=seed,
        type="Adam" if train.optimizer == "adam" else "SGD",
        momentum=0.9 if train.optimizer == "adam" else train.momentum,
    )
    if train.clip:
        proto.clip_gradients = train.clip
    if train.schedule == "cosine":
        proto.lr_policy, proto.power = "poly", 1.0
    elif train.schedule == "step":
        proto.lr_policy, proto.gamma = "multistep", 0.1
        proto.stepvalue.extend([steps // 3, 2 * steps // 3])
    else:
        proto.lr_policy = "fixed"
    return proto


def _data(
    top: str,
    label: str,
    phase: pb.Phase,
    recipe: FinetuneRecipe,
    settings: Preprocess,
    transformer: Transformer,
    images: Images,
    notes: list[str],
) -> Layer:
    """Return an ImageData layer that prepares pictures as far as Caffe can."""
    training = phase == pb.TRAIN
    kind = "Data" if images.backend else "ImageData"
    proto = pb.LayerParameter(name=top, type=kind, top=[top, label])
    proto.include.add(phase=phase)
    transform = proto.transform_param
    if images.backend:
        proto.data_param.source, proto.data_param.batch_size = images.source, recipe.train.batch
        lmdb = images.backend == "LMDB"
        proto.data_param.backend = pb.DataParameter.LMDB if lmdb else pb.DataParameter.LEVELDB
    else:
        data = proto.image_data_param
        data.source, data.root_folder = images.source, images.root
        data.batch_size, data.shuffle = recipe.train.batch, training
        data.is_color = transformer.planes == 3
        if not Path(images.source).is_file():
            notes.append(f'"{images.source}" is to list the pictures: name, blank, class a line')
        if transformer.geometry.exact:
            data.new_height, data.new_width = transformer.geometry.exact
    if transformer.geometry.shorter:
        notes.append("Caffe cannot resize to a shorter side: give it pictures that are resized")
    if settings.crop:
        transform.crop_size = settings.crop
    transform.mirror = training and recipe.augment.mirror
    transform.scale = settings.scale
    if isinstance(settings.mean, Path):
        transform.mean_file = str(settings.mean)
    elif settings.mean:
        transform.mean_value.extend(settings.mean)
    if transformer.channels == "rgb":
        notes.append("the net takes RGB and Caffe reads BGR: turn round the pictures' channels")
    return Layer(proto)


def _end(name: str, kind: str, scores: str, label: str, phase: pb.Phase | None = None) -> Layer:
    proto = pb.LayerParameter(name=name, type=kind, bottom=[scores, label], top=[name])
    if phase is not None:
        proto.include.add(phase=phase)
    return Layer(proto)


def _free(name: str, graph: Graph) -> str:
    while name in graph.blobs:
        name += "_"
    return name


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
