"""Write docs/cli.md from the options of the command line: ``python -m tests.gen_cli_docs``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

from cerwu_onnx.cli import app as program
from cerwu_onnx.report import Fidelity, LayerReport, ParameterReport, Point, Scores
from cerwu_onnx.types import Kept

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

_HEAD = """# Command line

<!-- Written by `python -m tests.gen_cli_docs`; edit the help texts in cli/ instead. -->

"""

_TAIL = """## Fidelity: the default

With `--calib`, and without `--lambda` or a target, `compress` looks for the smallest file that keeps 99 % of the float
model's answers on fresh data; `--fidelity 99.5%` asks for more, `--fidelity 95%` for less. Nobody has to label data:
the tool quantises the model with one half of the calibration samples and judges it on the other half, at a few values
of lambda. Then it quantises once more, with all samples, at the lambda that this search found. `--fidelity` needs the
method `trellis` and `--calib`.

What 99 % means depends on the kind of an output. Each output is judged by itself, and the one that loses most decides.
The tool tells the kind by the values; `--output-loss NAME=KIND` says it instead.

* **Classes** (`kl`; rows of logits or of probabilities): the expected score is 99 % of the float model's. An answer
  that changes costs the difference of two probabilities of the float model: that of its answer minus that of the other.
  No class counts more than all others together, so that a rare one is not lost.
* **Classes at many positions** (`kl`; detectors, taggers, language models): the same, and each class counts alike,
  unless it is very rare. Where one class has most positions, it is background, and each object counts: 99 % of the
  float model's answers stay.
* **Independent probabilities** (`binary`; each number between 0 and 1): 99 % of the decisions at one half stay. "Yes"
  and "no" count alike, unless one of them is very rare. Logits of decisions look like any numbers: if an output gives
  them, say `--output-loss NAME=binary`.
* **Numbers** (`mse`): 1 - squared error / variance over the samples is 99 % in the worst column. So the error is 10 %
  of the column's standard deviation.
* **Directions** (`cosine`; rows of unit length): the same as for numbers, on rows scaled to unit length.

The report begins with the result, as fresh data is expected to show it: `expected score` and the share of answers that
stay the same, or `expected error` as a share of the standard deviation. [fidelity.md](fidelity.md) has the reasons and
the measurements.

Data that cannot be trusted is not used: with fewer than 8 different samples, with data that is not what the model was
trained for (another scale, another order of channels, random numbers), or with samples that all get the same answer
(or all but a few: 95 % the same, and fewer than 8 another), the tool quantises as without data, and warns. It also
warns of 8 to 31 different samples, whose file is larger, and of one answer to 95 % of the samples.
`--strict` refuses all of these. [fidelity.md](fidelity.md#data-that-cannot-be-trusted) says how it tells.

## Targets and limits

`--target-size`, `--target-bpw` and `--max-drop` search for lambda, too: the tool collects statistics once, then makes
whole files at one lambda after the other. Give one of these targets at most, in place of `--lambda` and `--fidelity`;
`rtn` and `optq` have no lambda. The search changes no other setting, not even `--levels` of the papers' methods. As
soon as one file is made, the tool tells how long the rest may take: beside the bar on a terminal, in a log as a line.

* **Size.** The tool writes the largest file found that is not above the target, within 1 % below it if steps of lambda
  are fine enough for that. If all files are larger, it writes nothing and names the smallest size found, and the exit
  code is 1. If there is more room than the model needs, the search ends at a loss of less than 1e-5 at the outputs,
  with a warning. One half of the samples then judges what the other half gives at the lambda found, so that the
  summary says what such a file is expected to keep.
* **Accuracy.** `--max-drop 1%` lets the file lose 1 % of the float model's score. What is lost grows about in
  proportion to lambda. So two files, whose lambdas are a factor of four apart, tell where the limit lies, two more are
  made on both sides of it, and a fifth if the limit seems to be still further away. More follow only while all files
  lose too much, or none does. A search takes two to three times the processor time of a default run, if the metric
  takes less than making a file. The tool writes the smallest file found that meets the target; the table and `search`
  show all that were tried. If none meets it, the tool writes the one with the best score, and the exit code is 1.
* **Margin.** A good score on few samples may be luck. `top1` and `agreement` judge each sample by itself, so the tool
  can bound the score from below: with `--confidence` (90 %, one-sided; a paired normal bound from the samples on which
  the two models differ) it is not less than `low`, and a file meets the target if `low` does. If there are too few
  samples for any file to do so, that is an error. `auc`, `error` and functions of your own give a single number, so
  they have no margin; `--fail-drop` has none either.
* **Limits** apply with and without a search, and failing one means exit code 1. A file above `--fail-above` is not
  written. A file that fails `--fail-drop` is written, so that you can look at it.

The smallest of several files that meet the target is also the luckiest, which the margin does not cover. Give as many
samples as you have, not those of `--calib`, and confirm the result on others.

| `--metric` | labels | what |
|---|---|---|
| `top1` | classes | share of rows whose largest output is the labelled class |
| `agreement` | none | share of rows whose largest output is that of the float model |
| `auc` | 0 and 1 | area under the ROC curve, of a single output or the last of two |
| `error` | none | 1 - relative root-mean-square error against the float model, over all floating-point outputs |
| `file.py:function`, `module:function` | | what it returns for the path of an ONNX file: a number, higher is better |

The first three read the last axis of the first output of floating-point numbers. `--metric-data` is a `.npz` with one
array per input and one of labels (`labels`, or `--metric-labels`), samples along the first axis. A function brings its
own data. A label that is no class of the model is an error, unless it is negative: rows with negative labels always
count as wrong. If a function raises an exception or returns NaN, the run ends with exit code 3. For a file without a
graph (`--weights-only`), the tool scores the model with the same weights.

## Configuration files and single layers

A file may hold options of `compress`: `cerwu.toml`, or the table `[tool.cerwu-onnx]` of `pyproject.toml`, in the
working directory, or the file that `--config` names instead. Keys are the long options without dashes. Options that say
what one run does are not allowed: `config`, `skip`, `report`, `dry-run`, `out-dir`, `jobs`, `cluster`, `force`, `json`,
`quiet`, `verbose`. Sizes and percentages are strings or numbers, and paths are relative to the working directory.
Options on the command line override the file. `sweep` reads the same files, and ignores lambda, fidelity, targets and
limits in them. An unknown key, a wrong type or a glob that matches nothing is an error.

A file that the tool finds in the working directory may have come with a clone. So it may say data: numbers, names of
methods, globs, and calibration or metric data below this folder. Functions (`calib`, `metric`, `metric-data`), data
elsewhere and a `cache` count only in a file that you name with `--config`, or on the command line; otherwise one line
says so (exit code 2).

```toml
lambda = 0.1
calib = "data/calib.npz"
weights-only = true

[layers]                                # globs over the names that inspect shows; the last that matches counts
"embed*" = { skip = true }              # stays exactly as it is
"head.weight" = { price = 0.5 }         # its bits cost half as much: its errors count twice
"conv*.weight" = { bits = 8 }           # symbols of -127 to 127: what an int8 kernel reads
```

* `skip` (on the command line `--skip GLOB`) keeps weights, biases and normalisation parameters bit for bit. The tool
  does not fold BatchNormalization into a skipped weight. If you skip one parameter of a BatchNormalization, all of them
  stay exact.
* `price` is a factor on lambda for one weight.
* `bits`, 2 to 12, bounds the symbols of a weight, sign included: 4 bits leave -7 to 7. If lambda asks for more symbols,
  the step grows, and one uniform grid takes the place of the trellis. The default, 12, is what the format holds. The
  file entropy-codes the symbols in any case: to make a layer smaller, raise its price.

`price` and `bits` may stand together. `--dry-run` shows the plan.

## The cache

`--cache FOLDER` keeps results that take long to compute: statistics, sensitivities, and the quantised model of each
lambda tried. A run with the same model, data and relevant settings finds them again and writes the same file. A run
with another lambda or target reuses the first measurements. The name of an entry depends on everything that its content
depends on (contents, not paths; also the package's code, versions and number of threads). So an old entry is never
wrong, and runs may share a folder. The tool computes a damaged entry again, with a warning. There is no cache unless
you ask for one, on the command line or by `cache = "..."` in a file that `--config` names. It takes some bytes for each
weight and lambda tried, and only you delete it.

Each layer that `trellis` has quantised is an entry of its own, kept at once. So a run that was killed goes on where it
was: the next run quantises the missing layers, on the activations of the layers before them, and the file is the same.
`--resume` does that without a permanent cache: entries stand in the folder `OUT.cwb.resume`, which the tool removes
once the file is written. Give `--resume` to the first run and to the one that goes on; `-v` says how many layers were
found. Together with `--cache` it changes nothing. For the papers' methods it keeps the statistics; without calibration
data it keeps nothing.

The tool believes the entries, so only you may write there: it refuses a folder that belongs to another user, or that
others may write to (`chmod go-w FOLDER`). A folder that the tool makes is yours alone.

## Many models

```sh
cerwu-onnx compress models/*.onnx --out-dir small -j 4 --calib 'data/{stem}.npz'
```

Each model becomes `small/NAME.cwb` in a run of its own, with the same options, one process and one thread. So the files
depend neither on `-j` nor on each other. The largest model begins. `{stem}` in `--calib` and `--metric-data` stands for
the model's name without suffix. If one model fails, the others go on; a table shows all, and the exit code is the
largest of theirs. `--json` prints one object: `schema`, and `models` with `model`, `output`, `exit_code`, `messages`
(its lines on stderr) and `report` (as below, or `null`).

## Many lambdas

```sh
cerwu-onnx sweep model.onnx --out-dir curve --lambda 0.02 --lambda 0.1 --lambda 0.5 --calib calib.npz
```

`sweep` writes one file for each lambda, `curve/model-0.1.cwb` and so on, and prints a table of their sizes, losses and,
with `--metric`, scores. It measures once what does not depend on lambda; the rest runs side by side, `-j` lambdas at a
time. `--json` prints one object: `schema`, and `files`, each as `compress --json` below.

## Threads and clusters

For a single model, `-j` says how many layers are quantised at a time, if they do not depend on each other: without
data, or by the papers' methods. Each layer takes one thread, and no more run side by side than `--memory` has room for.
`--cluster dask://HOST:PORT` or `ray://HOST:PORT` gives layers, models or lambdas to the workers of a cluster; the files
are the same to the byte: [scaling.md](scaling.md). Everywhere else onnxruntime, and products of matrices of 1024
columns or more, take all cores unless `OMP_NUM_THREADS` says otherwise.

## What verify compares

`verify --against` first asks whether the model is the very file that the .cwb file was made from: a digest of it, and
of its external data, is in the metadata. Another file fails, because nothing else can tell whether its quantised
weights are those that went in. Then it folds BatchNormalization as the compression did, and compares values; names of
operators' outputs may be lost.

* The graph has the same operators and attributes, in the same order.
* Tensors that are stored exactly (floats, integers, constants of nodes) have the same type, shape and bits. A constant
  that has lost its name counts if its value is there.
* Quantised weights, and biases and BatchNormalization parameters that are coded, have the same type and shape. Their
  values rest on the digest; `--data` shows what they do at the outputs.
* A bias, or the mean of a BatchNormalization, that stayed float beside a quantised weight has the same type and shape.
  It may have moved, to make up for the mean error of that weight.

A file of weights only has no graph: `verify --data` and `compare` run its weights in the graph of the ONNX file.

## What goes where

Tables and JSON go to stdout, everything else to stderr. Warnings are single lines that begin with `warning:`. A run
that fails says why in one line, `error: ...`, and leaves no output file (but see `--max-drop` and `--fail-drop`). An
existing file is replaced only with `-f`, and only when the new one is complete. Progress is drawn only if stderr is a
terminal. Tables fit into the terminal, or into 80 columns if there is none (set `COLUMNS` for another width): long
names are cut in the middle, and if that is not enough, columns at the right are left out. `NO_COLOR` is honoured.

`--json` prints exactly one object, with complete names, numbers and reasons. NaN and infinity become `null`.

| `compress --json` | |
|---|---|
| `schema` | version of this layout; grows when a key changes its meaning |
| `output` | path of the .cwb file |
| `model_bytes`, `file_bytes` | sizes of the ONNX file and of the .cwb file |
| `weights`, `weight_bytes`, `bits_per_weight` | all quantised weights; bytes include tables and steps |
| `other_bytes` | the rest: exact tensors, float parameters, graph (with names), metadata, directory (with header) |
| `layers` | the quantised weights: LAYER_KEYS |
| `parameters` | the biases and BatchNormalization parameters that are coded: PARAMETER_KEYS |
| `kept` | the exact tensors: KEPT_KEYS |
| `method`, `lambda`, `levels` | the settings; `levels` is `null` for trellis, whose steps follow from lambda |
| `calibration`, `calibration_samples` | `"data"` or `"none"`, and how many samples |
| `output_loss` | trellis: KL divergence (nats) or relative squared error at the model's outputs; else `null` |
| `folded` | the BatchNormalization nodes folded |
| `search` | with a target, the files tried, in this order: POINT_KEYS; scores that are not known are `null` |
| `scores` | with a metric: SCORE_KEYS; `drop`, the share that is lost, and with a margin `largest_drop`; or `null` |
| `fidelity` | what is expected on fresh data: FIDELITY_KEYS, `title`, `headline` (in words); or `null` |
| `missed` | a sentence about each `--max-drop` or `--fail-drop` that the file misses |
| `warnings`, `seconds` | every warning; wall time by stage |

`relative_error` of a layer is squared error over energy; the table shows its root, as `verify` does for the error of an
output. `output_loss` of a layer is what its error alone would cost at the model's outputs: its sensitivity times its
distortion. `loss_share` is its part of the sum. Both are `null` if they were not measured. `above_bound` is
`bits_per_weight` minus the Gaussian rate-distortion function of the weights at that error; it is `null` for weights
reproduced without error and, by the default method with data, for layers of more than 2,048 columns.

`fidelity` is `null` unless `--fidelity` found lambda. In it, `asked` is the share to keep, `kept` the share that is
expected to be kept, and `error` its standard error. `output` and `kind` name the output that loses most. `same` is the
share of the judged `samples` that get the float model's answer; it is `null` for numbers and directions.
"""


def _keys(kind: type) -> str:
    """The fields of a dataclass, as code."""
    return ", ".join(f"`{field.name.rstrip('_')}`" for field in fields(kind))


def page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(program.app)
    parts = [_HEAD, _text(group.help), "\n", _options(group)]
    for name, command in group.commands.items():
        arguments = "".join(
            f" [{p.metavar}]..." if p.nargs < 0 else f" {p.metavar}"
            for p in command.params
            if p.param_type_name == "argument"
        )
        parts += [
            f"## {program.NAME} {name}\n\n{_text(command.help)}\n",
            f"```sh\n{program.NAME} {name}{arguments} [options]\n",
            f"{command.epilog.split('Example:')[1].strip().replace(program.CONTINUED, ' ')}   # for example\n```\n\n",
            _options(command, group.commands["compress"] if name == "sweep" else None),
        ]
    parts += ["## Exit codes\n\n| code | meaning |\n|---|---|\n"]
    parts += [
        f"| {code} | {meaning.replace('|', '&#124;')} |\n" for code, meaning in sorted(program.EXIT_CODES.items())
    ]
    tail = _TAIL
    for word, kind in (
        ("LAYER_KEYS", LayerReport),
        ("PARAMETER_KEYS", ParameterReport),
        ("KEPT_KEYS", Kept),
        ("POINT_KEYS", Point),
        ("SCORE_KEYS", Scores),
        ("FIDELITY_KEYS", Fidelity),
    ):
        tail = tail.replace(word, _keys(kind))
    return "".join([*parts, "\n", tail])


def _text(help_text: str) -> str:
    """Paragraphs, each on one line."""
    return "\n\n".join(" ".join(part.split()) for part in help_text.split("\n\n")) + "\n"


def _options(command: Any, other: Any = None) -> str:
    """The table of a command's options but those of another one; ``--help`` goes without saying."""
    known = set() if other is None else {(option.name, option.help) for option in other.params}
    rows = []
    for option in command.params:
        if (
            option.param_type_name == "argument"
            or not {"--help", "--help-all"}.isdisjoint(option.opts)
            or (option.name, option.help) in known
        ):
            continue
        names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True) + option.secondary_opts)
        value = f" {option.metavar}".replace("|", "\\|") if option.metavar else ""
        rows.append(f"| {names}{value} | {_default(option)} | {option.help} |\n")
    return "".join(["| option | default | |\n|---|---|---|\n", *rows, "\n"]) if rows else ""


def _default(option: Any) -> str:
    """The default as one would type it, or as ``--help`` words it; nothing for switches and options that are off."""
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default is None:
        return ""
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
