"""Train and export the sample models, with their calibration and test arrays.

Nobody has to run this: its results are committed. It is here so that they can
be understood, checked and rebuilt. It needs PyTorch, which nothing else in the
repository does, so give it an environment of its own::

    sudo apt-get install dataset-fashion-mnist
    python3 -m venv .venv-samples
    .venv-samples/bin/pip install torch==2.13.0 numpy onnx onnxruntime
    .venv-samples/bin/python sample_models/make.py

Any build of PyTorch works, one without CUDA is smallest. The script itself is
offline: it reads Fashion-MNIST from where the Debian package puts it (another
folder with the four original ``.gz`` files can be given with ``--data``) and
generates the sequence data from a seed.

For each model ``<name>`` it writes, next to the hand-written ``<name>/eval.py``:

* ``model.onnx``: the trained network, float32, opset 17, any batch size;
* ``calib.npz``: network inputs taken from the training data;
* ``test.npz``: raw inputs and labels the training never saw;
* ``meta.json``: what the model is, and the score ``eval.py`` gives it.

Part of the training data is kept for validation, to choose hyper-parameters by.
The script uses the test arrays only after training, for the score in
``meta.json``.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import itertools
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn

DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).resolve().parent

OPSET = 17
INPUT_NAME = "input"
OUTPUT_NAME = "logits"
EXPORT_TOLERANCE = 1e-4

VALIDATION_SAMPLES = 5000
CALIBRATION_SAMPLES = 256
TEST_SAMPLES = 2000
BATCH_SIZE = 128

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class EvalModule(Protocol):
    """What make.py uses of a model's ``eval.py``."""

    def preprocess(self, raw: Bytes) -> Floats:
        """Turn raw stored samples into network inputs."""

    def evaluate(self, onnx_path: str, limit: int | None = None) -> float:
        """Score a model file on the test arrays."""


@dataclass(frozen=True)
class Arrays:
    """Labelled samples as they are stored: one byte per value."""

    inputs: Bytes
    labels: Bytes

    def __getitem__(self, selection: slice | npt.NDArray[Any]) -> Arrays:
        """Select samples by slice, index array or boolean mask."""
        return Arrays(self.inputs[selection], self.labels[selection])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Training data, and test data from a separate source or seed."""

    train: Arrays
    test: Arrays


@dataclass(frozen=True)
class Recipe:
    """Everything that tells one sample model from another."""

    name: str
    build: Callable[[], nn.Module]
    load: Callable[[Path, int], Dataset]
    epochs: int
    peak_learning_rate: float
    augment: Callable[[torch.Tensor], torch.Tensor]
    fold_batch_norm: bool
    task: str
    architecture: str
    data_source: str
    licence: str


# --- Data: Fashion-MNIST ----------------------------------------------------


def read_idx(path: Path) -> Bytes:
    """Read a gzipped IDX file of unsigned bytes.

    The header is two zero bytes, a type code (8: unsigned byte), the number of
    dimensions, and each dimension as a big-endian 32-bit integer.
    """
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank)
    return values.reshape(shape)


def load_fashion_mnist(folder: Path, seed: int) -> Dataset:
    """Read Fashion-MNIST; the test part is the start of its own test set."""
    del seed  # The data does not depend on it.

    def read(prefix: str) -> Arrays:
        return Arrays(
            inputs=read_idx(folder / f"{prefix}-images-idx3-ubyte.gz"),
            labels=read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz"),
        )

    return Dataset(train=read("train"), test=read("t10k"))


# --- Data: synthetic spoken words -------------------------------------------

STEPS = 40
BANDS = 12
SYLLABLES = 5
FORMANTS = 2
WORD_LENGTH = 3
WORDS = 20
WORD_TRAIN_SAMPLES = 25_000
BACKGROUND_LEVEL = 96
LEVELS_PER_UNIT = 40  # Byte levels per unit of signal.
NOISE = 0.8  # Standard deviation, where a loud formant has amplitude 1 or so.


@dataclass(frozen=True)
class Language:
    """The random but fixed vocabulary of the synthetic words.

    Attributes:
        glides: first and last band of each formant of each syllable, shaped
            (syllable, formant, 2).
        words: the syllables of each word, shaped (word, position).
    """

    glides: npt.NDArray[np.float64]
    words: npt.NDArray[np.int64]


def invent_language(rng: np.random.Generator) -> Language:
    """Draw syllables, and words made of distinct syllables.

    All words draw on the same few syllables, so that some differ in the order
    alone: recognising a word takes memory, not just a detector.
    """
    glides = rng.uniform(0, BANDS - 1, size=(SYLLABLES, FORMANTS, 2))
    possible = np.array(list(itertools.permutations(range(SYLLABLES), WORD_LENGTH)))
    return Language(glides, rng.permutation(possible)[:WORDS])


def speak(language: Language, count: int, rng: np.random.Generator) -> Arrays:
    """Generate noisy band energies of random words over time.

    A word starts at a random time; each of its syllables has a random length
    and loudness, each speaker a random pitch. A formant is a bump over the
    bands whose centre glides while its syllable lasts.

    Args:
        language: the vocabulary.
        count: how many words to speak.
        rng: source of all randomness.

    Returns:
        Inputs shaped (count, STEPS, BANDS), and the word spoken in each.
    """
    labels = rng.integers(WORDS, size=count)
    lengths = rng.uniform(7.0, 12.0, size=(count, WORD_LENGTH))
    first_start = rng.uniform(0.0, STEPS - lengths.sum(axis=1))
    starts = first_start[:, None] + np.cumsum(lengths, axis=1) - lengths
    loudness = rng.uniform(0.6, 1.4, size=(count, WORD_LENGTH))
    pitch = rng.normal(0.0, 0.5, size=count)

    signal = rng.normal(0.0, NOISE, size=(count, STEPS, BANDS))
    for position in range(WORD_LENGTH):
        elapsed = np.arange(STEPS) - starts[:, position, None]
        phase = elapsed / lengths[:, position, None]
        sounding = (phase >= 0) & (phase < 1)
        envelope = np.sin(np.pi * phase) * sounding * loudness[:, position, None]
        for formant in range(FORMANTS):
            glide = language.glides[language.words[labels, position], formant]
            centre = glide[:, :1] + (glide[:, 1:] - glide[:, :1]) * phase
            centre += pitch[:, None]
            distance = np.arange(BANDS) - centre[:, :, None]
            signal += envelope[:, :, None] * np.exp(-0.5 * distance**2)

    levels = np.rint(BACKGROUND_LEVEL + LEVELS_PER_UNIT * signal)
    return Arrays(levels.clip(0, 255).astype(np.uint8), labels.astype(np.uint8))


def load_words(folder: Path, seed: int) -> Dataset:
    """Generate synthetic words; test words come from their own stream."""
    del folder  # Nothing is read.
    vocabulary, train, test = np.random.default_rng(seed).spawn(3)
    language = invent_language(vocabulary)
    return Dataset(
        train=speak(language, WORD_TRAIN_SAMPLES + VALIDATION_SAMPLES, train),
        test=speak(language, TEST_SAMPLES, test),
    )


# --- Networks ---------------------------------------------------------------

MOBILENET_EPSILON = 1e-3


class FashionCnn(nn.Module):
    """A plain convolutional network with a generous dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(64 * 3 * 3, 128)
        self.fc2 = nn.Linear(128, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 1, 28, 28) to logits (N, 10)."""
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = self.pool(torch.relu(self.bn3(self.conv3(x))))
        x = torch.relu(self.fc1(x.flatten(1)))
        return cast(torch.Tensor, self.fc2(x))


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a pointwise 1x1 convolution, both normalised.

    The epsilon is that of MobileNet. PyTorch's smaller default lets a channel
    that hardly varies get a huge scale, and folding puts it into the weights.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in,
            channels_in,
            kernel_size=3,
            stride=stride,
            padding=1,
            groups=channels_in,
            bias=False,
        )
        self.bn1 = nn.BatchNorm2d(channels_in, eps=MOBILENET_EPSILON)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=MOBILENET_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H/stride, W/stride)."""
        x = torch.relu(self.bn1(self.depthwise(x)))
        return torch.relu(self.bn2(self.pointwise(x)))


class FashionDsCnn(nn.Module):
    """A small network in the manner of MobileNet v1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(24, eps=MOBILENET_EPSILON)
        self.block1 = SeparableBlock(24, 48, stride=2)
        self.block2 = SeparableBlock(48, 64, stride=1)
        self.block3 = SeparableBlock(64, 96, stride=2)
        self.block4 = SeparableBlock(96, 112, stride=1)
        self.fc = nn.Linear(112, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 1, 28, 28) to logits (N, 10)."""
        x = torch.relu(self.bn(self.stem(x)))
        x = self.block4(self.block3(self.block2(self.block1(x))))
        return cast(torch.Tensor, self.fc(x.mean(dim=(2, 3))))


class SequenceGru(nn.Module):
    """A gated recurrent unit whose last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(BANDS, 96, batch_first=True)
        self.fc = nn.Linear(96, WORDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map sequences (N, STEPS, BANDS) to logits (N, WORDS)."""
        _, last_state = self.gru(x)
        return cast(torch.Tensor, self.fc(last_state[-1]))


# --- Training ---------------------------------------------------------------


def flip_some(images: torch.Tensor) -> torch.Tensor:
    """Mirror a random half of the images left to right."""
    chosen = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(chosen, images.flip(-1), images)


def unchanged(batch: torch.Tensor) -> torch.Tensor:
    """Augment nothing."""
    return batch


def shuffled_batches(inputs: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Go once through the samples in random order, in full batches."""
    order = torch.randperm(len(labels))
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        yield inputs[chosen], labels[chosen]


def train(network: nn.Module, inputs: Floats, labels: Bytes, recipe: Recipe) -> None:
    """Train a network in place: AdamW, one learning-rate cycle, no early stop."""
    all_inputs = torch.from_numpy(inputs)
    all_labels = torch.from_numpy(labels.astype(np.int64))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.peak_learning_rate,
        epochs=recipe.epochs,
        steps_per_epoch=len(all_labels) // BATCH_SIZE,
    )
    network.train()
    for epoch in range(recipe.epochs):
        started = time.monotonic()
        losses = []
        for batch, targets in shuffled_batches(all_inputs, all_labels):
            loss = nn.functional.cross_entropy(network(recipe.augment(batch)), targets)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        seconds = time.monotonic() - started
        print(f"  epoch {epoch + 1}: loss {np.mean(losses):.4f}, {seconds:.0f} s")
    network.eval()


@torch.no_grad()
def predict(network: nn.Module, inputs: Floats) -> Floats:
    """Return the logits of a network in evaluation mode."""
    batches = torch.split(torch.from_numpy(inputs), 500)
    logits = torch.cat([network(batch) for batch in batches])
    return cast(Floats, logits.numpy())


# --- Export -----------------------------------------------------------------


def export(network: nn.Module, example: Floats, fold_batch_norm: bool) -> onnx.ModelProto:
    """Convert a trained network to ONNX, with any batch size and readable names.

    Args:
        network: the network, in evaluation mode.
        example: an input batch of one sample.
        fold_batch_norm: whether BatchNormalization is merged into the
            convolution before it, or kept as a node.
    """
    # The exporter folds in its EVAL mode only; PRESERVE means the same for a
    # network that already is in evaluation mode, without the folding.
    mode = torch.onnx.TrainingMode
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "model.onnx"
        # About the newer exporter, which needs one more dependency, and about
        # a fixed batch size in GRUs, which check_export rules out.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            path,
            dynamo=False,
            opset_version=OPSET,
            training=mode.EVAL if fold_batch_norm else mode.PRESERVE,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        )
        model = onnx.load(path)
    strip_doc_strings(model)
    name_initializers(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def strip_doc_strings(model: onnx.ModelProto) -> None:
    """Remove the source locations PyTorch may leave in a model."""
    model.ClearField("doc_string")
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("doc_string")


def name_initializers(graph: onnx.GraphProto) -> None:
    """Rename weights like ``onnx::GRU_105`` after the node that uses them.

    PyTorch invents such names for weights it has rearranged or folded. The new
    ones end in the name the operator gives that input: ``gru.GRU.W``.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        roles = [formal.name for formal in onnx.defs.get_schema(node.op_type, OPSET).inputs]
        for index, name in enumerate(node.input):
            if name in stored and name.startswith("onnx::"):
                new_name = f"{node.name.strip('/').replace('/', '.')}.{roles[index]}"
                stored[name].name = node.input[index] = new_name


def check_export(network: nn.Module, model: onnx.ModelProto, inputs: Floats) -> float:
    """Compare ONNX Runtime with PyTorch.

    Returns:
        The largest difference between two logits.

    Raises:
        RuntimeError: if that is more than EXPORT_TOLERANCE.
    """
    session = ort.InferenceSession(model.SerializeToString())
    (actual,) = session.run([OUTPUT_NAME], {INPUT_NAME: inputs})
    difference = float(np.abs(actual - predict(network, inputs)).max())
    if not difference <= EXPORT_TOLERANCE:
        raise RuntimeError(f"the exported model is off by {difference}")
    return difference


# --- Putting it together ----------------------------------------------------

FASHION_TASK = "classify 28x28 grey images of clothing (10 classes)"
FASHION_SOURCE = "Fashion-MNIST, Debian package dataset-fashion-mnist"
FASHION_LICENCE = "MIT (Copyright 2017 Zalando SE)"

RECIPES = (
    Recipe(
        name="fashion_cnn",
        build=FashionCnn,
        load=load_fashion_mnist,
        epochs=8,
        peak_learning_rate=4e-3,
        augment=flip_some,
        fold_batch_norm=False,
        task=FASHION_TASK,
        architecture="3 x [Conv 3x3, BatchNormalization, Relu, MaxPool], Gemm 128, Relu, Gemm 10",
        data_source=FASHION_SOURCE,
        licence=FASHION_LICENCE,
    ),
    Recipe(
        name="fashion_dscnn",
        build=FashionDsCnn,
        load=load_fashion_mnist,
        epochs=8,
        peak_learning_rate=4e-3,
        augment=flip_some,
        fold_batch_norm=True,
        task=FASHION_TASK,
        architecture="Conv 3x3, 4 x [depthwise Conv 3x3, Conv 1x1], global mean, Gemm 10; "
        "Relu after each Conv, batch normalisation folded",
        data_source=FASHION_SOURCE,
        licence=FASHION_LICENCE,
    ),
    Recipe(
        name="sequence_gru",
        build=SequenceGru,
        load=load_words,
        epochs=10,
        peak_learning_rate=8e-3,
        augment=unchanged,
        fold_batch_norm=False,
        task=f"recognise a synthetic three-syllable word in noise ({STEPS} steps x {BANDS} bands, {WORDS} words)",
        architecture=f"GRU 96, Gemm {WORDS} on the last state",
        data_source="generated by make.py from the seed",
        licence="Apache-2.0, as this repository (no third-party material)",
    ),
)


def load_eval(name: str) -> EvalModule:
    """Import a model's ``eval.py``, which owns preprocessing and the metric."""
    spec = importlib.util.spec_from_file_location(f"{name}_eval", HERE / name / "eval.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the eval.py of {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(EvalModule, module)


def without_samples(arrays: Arrays, unwanted: Bytes) -> Arrays:
    """Drop every sample whose input is among the unwanted ones."""
    known = {sample.tobytes() for sample in unwanted}
    keep = [sample.tobytes() not in known for sample in arrays.inputs]
    return arrays[np.array(keep)]


def accuracy(logits: Floats, labels: Bytes) -> float:
    """Return the share of samples whose largest logit is the right one."""
    return float((logits.argmax(axis=1) == labels).mean())


def count_weights(model: onnx.ModelProto) -> int:
    """Count the stored numbers of a model."""
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer)


def make(recipe: Recipe, data_folder: Path, seed: int) -> None:
    """Train one model and write its folder."""
    print(recipe.name)
    folder = HERE / recipe.name
    evaluation = load_eval(recipe.name)
    dataset = recipe.load(data_folder, seed)
    training = dataset.train[VALIDATION_SAMPLES:]
    validation = dataset.train[:VALIDATION_SAMPLES]
    calibration = training[:CALIBRATION_SAMPLES]
    test = without_samples(dataset.test, training.inputs)[:TEST_SAMPLES]

    torch.manual_seed(seed)
    network = recipe.build()
    train(network, evaluation.preprocess(training.inputs), training.labels, recipe)
    logits = predict(network, evaluation.preprocess(validation.inputs))
    print(f"  validation accuracy {accuracy(logits, validation.labels):.4f}")

    calibration_inputs = evaluation.preprocess(calibration.inputs)
    model = export(network, calibration_inputs[:1], recipe.fold_batch_norm)
    difference = check_export(network, model, calibration_inputs)
    print(f"  largest difference between PyTorch and ONNX Runtime {difference:.1e}")

    onnx.save(model, folder / "model.onnx")
    np.savez_compressed(folder / "calib.npz", input=calibration_inputs)  # INPUT_NAME
    np.savez_compressed(folder / "test.npz", inputs=test.inputs, labels=test.labels)
    score = evaluation.evaluate(str(folder / "model.onnx"))
    print(f"  test accuracy {score:.4f}")
    meta = {
        "name": recipe.name,
        "task": recipe.task,
        "metric": "accuracy",
        "float_score": round(score, 6),
        "architecture": recipe.architecture,
        "weights": count_weights(model),
        "calibration_samples": len(calibration),
        "test_samples": len(test),
        "data_source": recipe.data_source,
        "licence": recipe.licence,
        "seed": seed,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Make the models asked for on the command line."""
    names = [recipe.name for recipe in RECIPES]
    parser = argparse.ArgumentParser(description="Train and export the sample models.")
    parser.add_argument("names", nargs="*", help=f"which to make, of {names} (default: all)")
    parser.add_argument(
        "--data",
        type=Path,
        default=DEBIAN_DATA,
        help="folder with the four Fashion-MNIST .gz files (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(names)
    if unknown:
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    for recipe in RECIPES:
        if not arguments.names or recipe.name in arguments.names:
            make(recipe, arguments.data, arguments.seed)


if __name__ == "__main__":
    main()
