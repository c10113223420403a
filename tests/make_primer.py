"""Make the primer of container/primer.py: ``python -m tests.make_primer`` rewrites it there.

It holds skeletons of graphs sketched below, in the style of the common exporters, with names as frameworks give them:
operators, attributes and names matter, shapes and weights do not, and nobody runs them. What is most common comes last.
Once the format is frozen, so is the primer: then this file documents where it came from.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.model.skeleton import container_tensors, split

FILE = Path(__file__).resolve().parents[1] / "cerwu_onnx" / "container" / "primer.py"

UNNAMED = "?"
"""Tensors whose names begin so are not listed."""

Dims = tuple[int | str, ...]
Body = Callable[["Sketch"], object]


def text(names: Iterable[str]) -> bytes:
    """The names as they stand before a graph."""
    return b"".join(bytes((len(name.encode()),)) + name.encode() for name in names)


class Sketch:
    """A graph under construction; ``x`` is the tensor that the next node reads unless told otherwise."""

    def __init__(self, *inputs: tuple[str, int, Dims], prefix: str = "", names: str = "") -> None:
        self.prefix, self.count, self.given = prefix, 0, names.split()
        self.names = iter(self.given)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info(*each) for each in inputs or [("input", 1, ("batch",))]]
        self.x = self.inputs[0].name

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def w(self) -> str:
        """A float initializer, which the skeleton does not hold."""
        name = next(self.names, f"{UNNAMED}{self.name()}")
        self.tensors.append(numpy_helper.from_array(np.zeros(1, np.float32), name))
        return self.tensors[-1].name

    def kept(self, name: str, values: object, dtype: type = np.int64) -> str:
        """An initializer that stays in the skeleton, with its name."""
        if all(tensor.name != name for tensor in self.tensors):
            self.tensors.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def const(self, values: object, dtype: type = np.int64) -> str:
        """A Constant node."""
        self.nodes.append(
            helper.make_node("Constant", [], [self.name()], value=numpy_helper.from_array(np.array(values, dtype)))
        )
        return self.nodes[-1].output[0]

    def __call__(self, op: str, *inputs: str, out: int = 1, domain: str = "", **attributes: object) -> str:
        """Add a node that reads ``x`` and what is given; an input "=x" leaves ``x`` out."""
        names = [self.x, *inputs] if "=" not in inputs else [name for name in inputs if name != "="]
        outputs = [self.name() for _ in range(out)]
        self.nodes.append(helper.make_node(op, names, outputs, domain=domain, **attributes))
        self.x = outputs[-1] if op in ("LSTM", "GRU", "RNN") else outputs[0]
        return self.x

    def each(self, operators: str, weights: int = 0, **attributes: object) -> None:
        """One node for each of the operators."""
        for op in operators.split():
            self(op, *(self.w() for _ in range(weights)), **attributes)

    def body(self, build: Body, inputs: int, outputs: int, kind: int = 1) -> onnx.GraphProto:
        """A body of a control flow operator."""
        inner = Sketch(*((f"{self.name()}b{i}", kind, ()) for i in range(inputs)), prefix=f"{self.name()}b")
        if not inputs:
            inner.inputs, inner.x = [], self.x
        build(inner)
        results = [helper.make_tensor_value_info(inner.x, kind, ()) for _ in range(outputs)]
        return helper.make_graph(inner.nodes, "body", inner.inputs, results)

    def end(self, *outputs: tuple[str, int, Dims], opset: int = 17, ir: int = 8, domains: str = "") -> bytes:
        """The skeleton of the finished model; the first output is the last node's."""
        outputs = outputs or (("output", 1, ("batch",)),)
        if self.nodes:
            for output in self.nodes[-1].output:
                if output == self.x:
                    self.nodes[-1].output[list(self.nodes[-1].output).index(output)] = outputs[0][0]
        ends = [helper.make_tensor_value_info(*each) for each in outputs]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, ends, self.tensors)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains.split())]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir)
        tensors = container_tensors(model)
        return text(self.given) + split(model, tensors)


def metadata() -> bytes:
    """The metadata section's text."""
    return (
        b'{"calibration":"none","folded":9,"lambda":0.001,"levels":32,"method":"optq-rd","model":"",'
        b'"params":"ffff","tables":"0"}{"calibration":"none","method":"rd-rtn","rtn","optq","cerwu-gamma0"'
        b'{"calibration":"data","folded":2,"lambda":0.0003,"method":"cerwu","model":"0123456789abcdef",'
        b'"params":"aaaa","tool":"cerwu-onnx 0.1.0"}'
    )


def names() -> Iterator[bytes]:
    """How tensors are called in different frameworks, and by exporters that make up names."""
    s = Sketch()
    for name in (
        "/decoder/layers.0/cross_attn/out_proj/Constant_output_0",
        "/encoder/layer.0/attention/self/query/Constant_1_output_0",
        "/model/features/features.0/conv/Reshape_1_output_0",
        "onnx::Reshape_101",
        "onnx::Unsqueeze_102",
        "val_10",
        "const_starts__20",
        "const_ends__21",
        "const_axes__22",
        "const_fold_opt__23",
        "new_shape__24",
    ):
        s.kept(name, [1])
    yield s.end()
    yield text(OTHERS.split())
    yield text(TENSORFLOW.split())


OTHERS = (
    "conv2d_0.w_0 conv2d_0.b_0 batch_norm2d_0.w_0 batch_norm2d_0.b_0 batch_norm2d_0.w_1 batch_norm2d_0.w_2 "
    "linear_0.w_0 linear_0.b_0 p2o.helper.constant.10 p2o.Constant.0 conv0_weight batchnorm0_gamma batchnorm0_beta "
    "batchnorm0_running_mean dense0_bias fc1_weight fc1_bias W1 B1 W R B coefficient intercept coef Re_Reshapecst "
    "Ad_Addcst Ge_Gemmcst Ma_MatMulcst shape_tensor scale zero_point weight_quantized weight_scale weight_zero_point "
    "jit_main_/Dense_0/kernel:0 /Const_1:0 ConstantFolding/truediv_recip:0 Parameter5 Plus30_Output_0"
)
TENSORFLOW = (
    "sequential/conv2d/Conv2D/ReadVariableOp:0 sequential/conv2d/BiasAdd/ReadVariableOp:0 "
    "sequential/dense_1/MatMul/ReadVariableOp:0 sequential/dense_1/BiasAdd/ReadVariableOp:0 "
    "sequential/lstm/PartitionedCall/lstm/while_loop/kernel "
    "StatefulPartitionedCall/model/batch_normalization_1/FusedBatchNormV3:0 "
    "StatefulPartitionedCall/model/batch_normalization_1/FusedBatchNormV3/ReadVariableOp:0 "
    "StatefulPartitionedCall/model/depthwise_conv2d/depthwise_weights_fused_bn "
    "StatefulPartitionedCall/model/separable_conv2d/separable_conv2d_bias_fused_bn"
)


def catalogue() -> Iterator[bytes]:
    """Operators that are neither rare nor common, with their usual attributes."""
    s = Sketch()
    s("ZipMap", domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    s("Scaler", domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    s("ArrayFeatureExtractor", s.w(), domain="ai.onnx.ml")
    s("Normalizer", domain="ai.onnx.ml", norm="L2")
    s("LinearClassifier", domain="ai.onnx.ml", classlabels_ints=[0, 1], multi_class=1, post_transform="SOFTMAX")
    s("TreeEnsembleClassifier", out=2, domain="ai.onnx.ml", nodes_modes=["BRANCH_LEQ", "LEAF"], post_transform="NONE")
    for op in ("FusedMatMul", "SkipLayerNormalization", "FastGelu", "BiasGelu", "QuickGelu", "FusedConv"):
        s(op, s.w(), domain="com.microsoft")
    s("Attention", s.w(), s.w(), s.w(), domain="com.microsoft", num_heads=12)
    s("EmbedLayerNormalization", s.w(), domain="com.microsoft", epsilon=1e-12)
    yield s.end(domains="com.microsoft ai.onnx.ml")
    s = Sketch()
    s.each("Acos Asin Atan Cosh Sinh Celu Selu ThresholdedRelu Mish Shrink Hardmax IsInf IsNaN NonZero Size")
    s.each("BitShift Xor Or And Mod GatherND Compress ReverseSequence MaxUnpool Det EyeLike Bernoulli", weights=1)
    s("QLinearConv", *(s.w() for _ in range(8)), dilations=[1, 1], group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    s("QLinearMatMul", *(s.w() for _ in range(7)))
    s("ConvInteger", s.w(), s.w(), s.w())
    s("MatMulInteger", s.w(), s.w(), s.w())
    s("DynamicQuantizeLinear", out=3)
    for _ in range(2):
        s("QuantizeLinear", s.w(), s.w(), axis=0)
        s("DequantizeLinear", s.w(), s.w(), axis=0)
    s("RandomNormalLike", dtype=1)
    s("GridSample", s.w(), align_corners=0, mode="bilinear", padding_mode="zeros")
    s("RoiAlign", s.w(), s.w(), output_height=7, output_width=7, sampling_ratio=2, spatial_scale=0.25)
    s("NonMaxSuppression", s.w(), s.const([200]), s.const([0.5], np.float32), center_point_box=0)
    s("ScatterND", s.w(), s.w(), reduction="none")
    s("ScatterElements", s.w(), s.w(), axis=1)
    s("GatherElements", s.w(), axis=-1)
    s("TopK", s.const([1]), out=2, axis=-1, largest=1, sorted=1)
    s("OneHot", s.const(10), s.w(), axis=-1)
    s("CumSum", s.const(1))
    s("Trilu", upper=1)
    s("EinSum", s.w(), equation="bhid,bhjd->bhij")
    s("Einsum", s.w(), equation="abc,cd->abd")
    s("LRN", alpha=1e-4, beta=0.75, bias=1.0, size=5)
    s("LpNormalization", axis=-1, p=2)
    s("MeanVarianceNormalization", axes=[0, 2, 3])
    s("GroupNormalization", s.w(), s.w(), epsilon=1e-5, num_groups=32)
    s("InstanceNormalization", s.w(), s.w(), epsilon=1e-5)
    s("DepthToSpace", blocksize=2, mode="CRD")
    s("SpaceToDepth", blocksize=2)
    s("Upsample", s.w(), mode="nearest")
    s("Resize", "", s.w(), coordinate_transformation_mode="align_corners", mode="linear")
    s(
        "Resize",
        "",
        s.w(),
        coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=-0.75,
        mode="cubic",
        nearest_mode="floor",
    )
    s(
        "Resize",
        "",
        s.w(),
        coordinate_transformation_mode="asymmetric",
        cubic_coeff_a=-0.75,
        mode="nearest",
        nearest_mode="floor",
    )
    s(
        "ConvTranspose",
        s.w(),
        s.w(),
        dilations=[1, 1],
        group=1,
        kernel_shape=[2, 2],
        output_padding=[0, 0],
        pads=[0, 0, 0, 0],
        strides=[2, 2],
    )
    s("LpPool", kernel_shape=[2, 2], p=2)
    for op in ("ArgMin", "ArgMax"):
        s(op, axis=-1, keepdims=0, select_last_index=0)
    s.each("ReduceL1 ReduceL2 ReduceLogSumExp ReduceProd ReduceSumSquare ReduceMin ReduceMax", axes=[-1], keepdims=1)
    s("Pad", s.const([0, 0, 0, 0, 0, 0, 1, 1]), s.const(0, np.float32), mode="constant")
    s("Pad", mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    yield s.end(ir=10, opset=21)


def control_flow() -> Iterator[bytes]:
    s = Sketch()
    add: Body = lambda inner: inner("Add", s.tensors[0].name)  # noqa: E731
    s.w()
    s("If", then_branch=s.body(add, 0, 1), else_branch=s.body(lambda inner: inner("Identity"), 0, 1))
    s("Loop", s.w(), s.w(), body=s.body(add, 3, 3))
    s("Scan", s.w(), body=s.body(add, 2, 2), num_scan_inputs=1)
    for op in ("SequenceEmpty", "SequenceInsert", "SequenceAt", "ConcatFromSequence", "SplitToSequence"):
        s(op, s.w())
    yield s.end()


def elementwise() -> Iterator[bytes]:
    s = Sketch()
    s.each("Atan Sin Cos Round Ceil Sign Not Softsign Identity Abs Floor Neg Log Exp Erf Reciprocal")
    s.each("Less Greater GreaterOrEqual LessOrEqual Equal Min Max PRelu Pow Sub Div", weights=1)
    s("Where", s.w(), s.w())
    s("Range", s.w(), s.const(1))
    s("Elu", alpha=1.0)
    s("Gelu", approximate="tanh")
    s("HardSwish")
    s("Softplus")
    s("HardSigmoid", alpha=1 / 6)
    s("Dropout", s.const(0.5, np.float32), s.const(False, bool))
    s("LogSoftmax", axis=1)
    s("LeakyRelu", alpha=0.01)
    s("LeakyRelu", alpha=0.1)
    for to in (TensorProto.BOOL, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT):
        s("Cast", to=to)
    s("Clip", "", s.const(6, np.float32))
    s("Clip", s.const(0, np.float32), s.const(6, np.float32))
    yield s.end(opset=19, ir=9)


def shapes() -> Iterator[bytes]:
    """Arithmetic on shapes, by Constant nodes and by initializers."""
    s = Sketch()
    for opset13 in (False, True):
        start = s.x
        s("Shape")
        s("Gather", s.const(0), axis=0)
        first = s("Unsqueeze", s.const([0])) if opset13 else s("Unsqueeze", axes=[0])
        s.x = start
        s("Shape")
        s("Cast", to=7)
        s("Slice", s.const([0]), s.const([1]), s.const([0]))
        last = s("Squeeze", s.const([0])) if opset13 else s("Squeeze", axes=[0])
        s("Mul", s.const(2))
        s("Concat", "=", first, s.const([-1]), last, axis=0)
        s("ConstantOfShape", value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0]))
        s("ConstantOfShape", value=helper.make_tensor("value", TensorProto.INT64, [1], [1]))
        s("Expand", s.x)
        s("Tile", s.x)
        s("Split", axis=-1, out=2)
        s("Split", s.const([1, 1]), axis=1, out=2)
        s("Flatten", axis=1)
        s("Concat", s.x, axis=-1)
        s("Concat", s.x, axis=1)
        s("Slice", s.kept("starts", [0]), s.kept("ends", [2**63 - 1]), s.kept("axes", [1]), s.kept("steps", [2]))
        s("Slice", s.kept("ends0", [-1]), s.kept("ends1", [2**31 - 1]), s.kept("axes2", [2]), s.kept("axes3", [3]))
        s("Pad", s.kept("pads", [0, 0, 0, 0, 0, 0, 0, 0]), s.const(0, np.float32))
        s("Transpose", perm=[0, 2, 3, 1])
        s("Transpose", perm=[0, 3, 1, 2])
        s("Transpose", perm=[1, 0, 2])
        s("Transpose", perm=[0, 2, 1])
        s("Transpose", perm=[1, 0])
        s("Reshape", s.kept("shape", [-1, 1, 28, 28]))
        s("Reshape", s.kept("shape1", [1, -1]))
        s("Reshape", s.kept("shape2", [0, -1]), allowzero=0)
        s("Unsqueeze", s.kept("axis0", [0]))
        s("Squeeze", s.kept("axis1", [1]))
        s("Unsqueeze", s.kept("axis3", [-1]))
    yield s.end(opset=13)


RECURRENT = (
    "rnn.weight_ih_l0 rnn.weight_hh_l0 rnn.bias_ih_l0 rnn.bias_hh_l0 rnn.weight_ih_l0_reverse rnn.weight_hh_l0_reverse "
    "lstm.W lstm.R lstm.B"
)


def recurrent(op: str, linear: bool, directions: bool) -> bytes:
    s = Sketch(
        ("input", 1, ("batch", "sequence", 40)),
        names=f"onnx::{op}_100 onnx::{op}_101 onnx::{op}_102 fc.weight fc.bias" if directions else RECURRENT,
    )
    s("Transpose", perm=[1, 0, 2])
    attributes = {"hidden_size": 128} | ({"linear_before_reset": 1} if linear else {})
    if directions:
        attributes |= {"direction": "bidirectional" if linear else "forward"}
    state = [s.w(), s.w()] if op == "LSTM" else [s.w()]
    s(op, s.w(), s.w(), s.w(), "", *state, out=3 if op == "LSTM" else 2, **attributes)
    s("Squeeze", s.const([0]))
    s(op, s.w(), s.w(), s.w(), "", *state, out=2, **attributes)
    s("Gather", s.const(-1), axis=0)
    s("Gemm", s.w(), s.w(), alpha=1.0, beta=1.0, transB=1)
    return s.end(("output", 1, ("batch", 10)), opset=14, ir=7)


def transformer(fused: bool) -> bytes:
    """An encoder block; normalisation and GELU spelled out or as operators."""
    tokens = ("batch_size", "sequence_length")
    layer = "encoder.layers.0" if fused else "bert.encoder.layer.0"
    roles = FUSED if fused else BERT
    s = Sketch(
        ("input_ids", 7, tokens),
        ("attention_mask", 7, tokens),
        ("token_type_ids", 7, tokens),
        names=" ".join([FUSED_ENDS if fused else BERT_ENDS, *(f"{layer}.{role}" for role in roles.split())]),
    )

    def normalise() -> None:
        if fused:
            s("LayerNormalization", s.w(), s.w(), axis=-1, epsilon=1e-5, stash_type=1)
            return
        start = s.x
        mean = s("ReduceMean", axes=[-1], keepdims=1)
        s("Sub", "=", start, mean)
        centred = s.x
        s("Pow", s.const(2, np.float32))
        s("ReduceMean", axes=[-1], keepdims=1)
        s("Add", s.const(1e-12, np.float32))
        s("Sqrt")
        s("Div", "=", centred, s.x)
        s("Mul", s.w())
        s("Add", s.w())

    embedded = s("Gather", "=", s.w(), "input_ids")
    s("Gather", "=", s.w(), "token_type_ids")
    s("Add", "=", embedded, s.x)
    s("Add", s.w())
    normalise()
    start = s.x
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1]):
        s.x = start
        s("MatMul", s.w())
        s("Add", "=", s.w(), s.x)
        shape = s.kept("val_3", [1, 16, 3, 64]) if fused else s.const([0, 0, 12, 64])
        s("Reshape", shape, allowzero=1 if fused else 0)
        heads.append(s("Transpose", perm=perm))
    s("MatMul", "=", heads[0], heads[1])
    if fused:
        s("Mul", s.const(0.125, np.float32))
    else:
        s("Div", s.const(8, np.float32))
    s("Add", s.inputs[1].name)
    s("Softmax", axis=-1)
    s("MatMul", heads[1])
    s("Transpose", perm=[0, 2, 1, 3])
    s("Reshape", s.const([0, 0, -1]), allowzero=0)
    s("MatMul", s.w())
    s("Add", "=", s.w(), s.x)
    s("Add", start)
    middle = s.x
    s("MatMul", s.w())
    inner = s("Add", "=", s.w(), s.x)
    if fused:
        s("Gelu", approximate="none")
    else:
        s("Div", s.const(2**0.5, np.float32))
        s("Erf")
        s("Add", s.const(1, np.float32))
        s("Mul", "=", inner, s.x)
        s("Mul", s.const(0.5, np.float32))
    s("MatMul", s.w())
    s("Add", "=", s.w(), s.x)
    s("Add", "=", s.x, middle)
    s("Gather", s.const(0), axis=1)
    s("Tanh")
    s("Gemm", s.w(), s.w(), transB=1)
    results = ("last_hidden_state", 1, (*tokens, 768)), ("pooler_output", 1, (tokens[0], 768))
    return s.end(*results, opset=20 if fused else 11, ir=10 if fused else 6)


BERT_ENDS = (
    "bert.embeddings.word_embeddings.weight bert.embeddings.token_type_embeddings.weight "
    "bert.embeddings.position_embeddings.weight bert.embeddings.LayerNorm.weight bert.embeddings.LayerNorm.bias"
)
BERT = (
    "attention.self.query.weight attention.self.query.bias attention.self.key.bias attention.self.value.bias "
    "attention.output.dense.bias attention.output.LayerNorm.weight attention.output.LayerNorm.bias "
    "intermediate.dense.bias output.dense.bias output.LayerNorm.weight output.LayerNorm.bias"
)
FUSED_ENDS = (
    "embedding.weight pos_embed model.embed_tokens.weight lm_head.weight norm.weight norm.bias head.weight head.bias"
)
FUSED = (
    "self_attn.in_proj_weight self_attn.in_proj_bias self_attn.out_proj.weight self_attn.out_proj.bias "
    "linear1.weight linear1.bias linear2.weight linear2.bias norm1.weight norm1.bias norm2.weight norm2.bias "
    "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight self_attn.o_proj.weight "
    "mlp.gate_proj.weight mlp.up_proj.weight mlp.down_proj.weight "
    "input_layernorm.weight post_attention_layernorm.weight"
)


def conv(
    s: Sketch, size: int = 3, stride: int = 1, group: int = 1, bias: bool = True, tail: bool = False, rank: int = 2
) -> None:
    """A convolution with attributes as the exporters write them; ``tail`` pads as TensorFlow does."""
    pads = [0] * rank + [1] * rank if tail else [size // 2] * 2 * rank
    s(
        "Conv",
        s.w(),
        *([s.w()] if bias else []),
        dilations=[1] * rank,
        group=group,
        kernel_shape=[size] * rank,
        pads=pads,
        strides=[stride] * rank,
    )


def norm(s: Sketch, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
    s("BatchNormalization", s.w(), s.w(), s.w(), s.w(), epsilon=epsilon, momentum=momentum, training_mode=0)


def one_dimensional() -> bytes:
    s = Sketch(
        ("audio", 1, ("batch", 1, 16000)), names="encoder.0.weight encoder.0.bias decoder.conv.weight decoder.conv.bias"
    )
    for size in (5, 3, 1):
        conv(s, size, bias=size > 1, rank=1)
        s("Relu")
        s("MaxPool", ceil_mode=0, dilations=[1], kernel_shape=[2], pads=[0, 0], strides=[2])
    s("GlobalMaxPool")
    s("ReduceMean", s.kept("axes", [-1]), keepdims=0, noop_with_empty_axes=0)
    s("ReduceSum", s.kept("axes1", [1]), keepdims=1)
    return s.end(("scores", 1, ("batch", 35)), opset=18)


MOBILE = (
    "features.0.0.weight features.0.0.bias features.1.conv.0.0.weight features.1.conv.0.0.bias "
    "features.1.conv.1.weight features.1.conv.1.bias classifier.1.weight classifier.1.bias "
    "onnx::Conv_200 onnx::Conv_201 onnx::Conv_203"
)


def gated() -> bytes:
    """Squeeze and excitation, SiLU, hard swish, ReLU6: mobile networks."""
    s = Sketch(("images", 1, ("N", 3, 224, 224)), names=MOBILE)
    for group in (16,):
        start = s.x
        conv(s, 1)
        before = s.x
        s("Sigmoid")
        s("Mul", "=", before, s.x)
        conv(s, 5, 1, group)
        before = s.x
        s("HardSwish")
        s("HardSigmoid", alpha=1 / 6, beta=0.5)
        s("Mul", "=", before, s.x)
        inside = s.x
        s("GlobalAveragePool")
        conv(s, 1)
        s("Relu")
        conv(s, 1)
        s("Sigmoid")
        s("Mul", "=", s.x, inside)
        conv(s, 3, 2, group)
        s("Clip", "=", s.x, s.const(0, np.float32), s.const(6, np.float32))
        conv(s, 1)
        s("Add", "=", start, s.x)
    s("AveragePool", ceil_mode=0, count_include_pad=1, kernel_shape=[2, 2], pads=[0, 0, 0, 0], strides=[2, 2])
    s("Resize", s.w(), s.w(), mode="nearest")
    return s.end(("probabilities", 1, ("N", 1000)), opset=12, ir=7)


def perceptron(transposed: bool) -> bytes:
    names = "fc1.weight fc1.bias fc2.weight fc2.bias layers.0.weight layers.0.bias" if transposed else "W1 B1 W2 B2"
    s = Sketch(("x" if transposed else "features", 1, ("N", 784)), names=names)
    attributes = {"alpha": 1.0, "beta": 1.0, "transB": 1} if transposed else {}
    s("Flatten", axis=1)
    for _ in range(2):
        s("Gemm", s.w(), s.w(), **attributes)
        s("Relu")
    for activation in ("Sigmoid", "Tanh", "Relu"):
        s("MatMul", s.w())
        s("Add", s.w())
        s(activation)
    s("Gemm", s.w(), s.w(), **attributes)
    return s.end(("y", 1, ("N", 10)), opset=15)


KERAS = (
    "model/conv2d/Conv2D_weights_fused_bn model/conv2d/Conv2D_bias_fused_bn "
    "model/conv2d_1/BiasAdd_weights_fused_bn model/conv2d_1/BiasAdd_bias_fused_bn Conv__101_weights_fused_bn "
    "Conv__101_bias_fused_bn Conv__99_weights_fused_bn Conv__99_bias_fused_bn "
    "model/depthwise_conv2d_1/depthwise_weights_fused_bn model/depthwise_conv2d_1/depthwise_bias_fused_bn "
    "model/conv2d_2/Conv2D/ReadVariableOp:0 model/conv2d_2/BiasAdd/ReadVariableOp:0 "
    "sequential/dense/MatMul/ReadVariableOp:0 sequential/dense/BiasAdd/ReadVariableOp:0"
)


def keras() -> bytes:
    """Channels last at both ends, depthwise and pointwise in turns, TensorFlow's padding."""
    s = Sketch(("input_1", 1, ("unk__1", 96, 96, 3)), names=KERAS)
    s("Transpose", perm=[0, 3, 1, 2])
    conv(s, 3, 2, tail=True)
    s("Relu")
    for group in (8, 32):
        conv(s, 3, 2 if group < 32 else 1, group, tail=group == 32)
        s("Relu")
        conv(s, 1)
        s("Relu")
    s("AveragePool", kernel_shape=[3, 3], strides=[3, 3])
    s("Transpose", perm=[0, 2, 3, 1])
    s("ReduceMean", axes=[2, 3], keepdims=0)
    s("Reshape", s.kept("const_fold_opt__30", [-1, 128]))
    s("MatMul", s.w())
    s("Add", s.w())
    s("Softmax", axis=1)
    s("Softmax", axis=-1)
    floats = [tensor for tensor in s.tensors if tensor.data_type == 1]  # the converter writes the last layer first
    s.tensors = [tensor for tensor in s.tensors if tensor.data_type != 1]
    s.tensors += [tensor for i in range(len(floats) - 2, -1, -2) for tensor in floats[i : i + 2]]
    return s.end(("dense_1", 1, ("unk__1", 10)), opset=15, domains="ai.onnx.ml")


NORMS = (
    "conv1.weight bn1.weight bn1.bias bn1.running_mean bn1.running_var layer1.0.conv1.weight layer1.0.bn1.weight "
    "layer1.0.bn1.bias layer1.0.bn1.running_mean layer1.0.bn1.running_var layer1.0.downsample.0.weight"
)
RESIDUAL = (
    "conv1.weight conv1.bias layer1.0.conv1.weight layer1.0.conv1.bias layer1.0.conv2.weight layer1.0.conv2.bias "
    "layer2.0.downsample.0.weight fc.weight fc.bias"
)


def residual(norms: bool) -> bytes:
    s = Sketch(("input", 1, ("N", 3, 32, 32)), names=NORMS if norms else RESIDUAL)
    conv(s, 7, 2, bias=not norms)
    if norms:
        norm(s)
    s("Relu")
    s("MaxPool", ceil_mode=0, dilations=[1, 1], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    s("MaxPool", ceil_mode=0, dilations=[1, 1], kernel_shape=[2, 2], pads=[0, 0, 0, 0], strides=[2, 2])
    for stride in (2,) if norms else (1, 2):
        start = s.x
        if stride == 2:
            conv(s, 1, 2, bias=not norms)
            if norms:
                norm(s)
            start, s.x = s.x, start
        conv(s, 3, stride, bias=not norms)
        if norms:
            norm(s)
        s("Relu")
        conv(s, 3, bias=not norms)
        if norms:
            norm(s)
        s("Add", start)
        s("Relu")
    s("GlobalAveragePool")
    s("Flatten", axis=1)
    s("ReduceMean", axes=[2, 3], keepdims=0)
    s("Gemm", s.w(), s.w(), alpha=1.0, beta=1.0, transB=1)
    return s.end(("output", 1, ("N", 10)))


DYNAMO = (
    "0.weight 0.bias 1.conv.0.weight 1.conv.0.weight_bias layers.0.0.weight layers.0.0.bias min_val_cast max_val_cast "
    "scalar_tensor_default val_2 val_15"
)


def dynamo() -> bytes:
    """All attributes written out, and the shapes of one example."""
    s = Sketch(("x", 1, ("s77", 3, 32, 32)), ("attention_mask", 7, (1, 16)), names=DYNAMO)
    square: dict[str, object] = {"auto_pad": "NOTSET", "dilations": [1, 1]}
    for size, stride in ((3, 2), (1, 1)):
        pads = [size // 2] * 4
        conv = {"group": 1, "kernel_shape": [size, size], "pads": pads, "strides": [stride, stride]}
        s("Conv", s.w(), s.w(), **square, **conv)
        s("Clip", s.w(), s.w())
    pool = {"ceil_mode": 0, "kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "storage_order": 0, "strides": [2, 2]}
    s("MaxPool", **square, **pool)
    s("ReduceMean", s.kept("val_3", [-1, -2]), keepdims=1, noop_with_empty_axes=0)
    s("Reshape", s.kept("val_7", [-1, 16]), allowzero=1)
    s("Transpose", perm=[1, 0, 2])
    lstm = {"direction": "forward", "hidden_size": 64, "input_forget": 0, "layout": 0}
    s("LSTM", s.w(), s.w(), s.w(), "", s.w(), s.w(), out=3, **lstm)
    s("Unsqueeze", s.kept("val_16", [0]))
    s("Slice", *(s.kept(f"val_{i}", value) for i, value in ((21, [0]), (24, [2**63 - 1]), (27, [1]), (30, [1]))))
    s("Gemm", s.w(), s.w(), alpha=1.0, beta=1.0, transA=0, transB=1)
    return s.end(("linear_1", 1, ("s77", 10)), opset=20, ir=10)


def ends() -> Iterator[bytes]:
    """Inputs, outputs and operator sets, without nodes."""
    shapes: tuple[Dims, ...] = (
        ("batch_size", 3, 224, 224),
        ("batch_size", 1, 28, 28),
        (1, 3, 224, 224),
        (1, 1, 28, 28),
        ("N", 3, 224, 224),
        ("N", 1, 28, 28),
        ("batch", 3, 224, 224),
        ("batch", 1, 28, 28),
    )
    for index, (opset, ir) in enumerate(((9, 4), (10, 5), (11, 6), (12, 7), (16, 8), (18, 9), (13, 7), (17, 8))):
        s = Sketch((("pixel_values", "data", "image", "input")[index % 4], 1, shapes[index]))
        output = ("probs", "label", "output_0", "logits")[index % 4]
        yield s.end((output, 1, (*shapes[index][:1], 1000 if index % 2 else 10)), opset=opset, ir=ir)


def sketches() -> Iterator[bytes]:
    """Skeletons and texts, the most useful last."""
    yield from names()
    yield from catalogue()
    yield from control_flow()
    yield metadata()
    yield from elementwise()
    yield from shapes()
    yield transformer(fused=True)
    yield transformer(fused=False)
    yield recurrent("RNN", False, True)
    yield recurrent("GRU", True, True)
    yield recurrent("LSTM", True, True)
    yield recurrent("GRU", False, False)
    yield recurrent("LSTM", False, False)
    yield one_dimensional()
    yield gated()
    yield perceptron(transposed=False)
    yield perceptron(transposed=True)
    yield residual(norms=True)
    yield keras()
    yield residual(norms=False)
    yield dynamo()
    yield from ends()


def make() -> bytes:
    """The primer: the sketches, each after its size in two bytes, the low one first."""
    return b"".join(len(sketch).to_bytes(2, "little") + sketch for sketch in sketches())


def main() -> None:
    primer = make()
    packed = base64.b85encode(zlib.compress(primer, 9)).decode()
    lines = "".join(f'    "{packed[at : at + 112]}"\n' for at in range(0, len(packed), 112))
    text = re.sub(
        r"(?<=from here\n).*(?=# to here\n)",
        lambda _: f"_PACKED = (\n{lines})\n",
        FILE.read_text(),
        flags=re.DOTALL,
    )
    FILE.write_text(text)
    print(f"{FILE.name}: {len(primer)} bytes, CRC 0x{zlib.crc32(primer):08X}, {len(packed)} packed")


if __name__ == "__main__":
    main()
