"""Mutants of the package and of the commands."""

from __future__ import annotations

from .mutant import bugs

MODEL = [
    *bugs(
        "cerwu_onnx/model/fold.py",
        "tests/model/test_fold.py",
        (' or attributes.get("training_mode", 0)', ""),
        (' or attributes.get("spatial", 1) != 1', ""),
        ("if self.uses[name] == 1 else None", "if self.uses[name] >= 1 else None"),
        ("name in self.exact for name in", "name in () for name in"),
        ("if not error <= TOLERANCE:", "if error > TOLERANCE:"),
        ('attributes.get("epsilon", 1e-5)', "1e-5"),
    ),
    *bugs(
        "cerwu_onnx/model/elements.py",
        "tests/model/test_elements.py",
        ("if len(raw) != length:", "if len(raw) > length:"),
    ),
    *bugs(
        "cerwu_onnx/array_files/dtypes.py",
        "tests/model/test_elements.py tests/array_files",
        ("bits + 0x7FFF + (bits >> 16 & 1) >> 16", "bits + 0x8000 >> 16"),
    ),
    *bugs(
        "cerwu_onnx/array_files/safetensors.py",
        "tests/array_files",
        ("if begin != end:", "if begin < end:"),
        ("if data + end != size:", "if data + end > size:"),
        ("type(n) is int and 0 <= n < 1 << 63", "isinstance(n, int) and 0 <= n < 1 << 63"),
    ),
    *bugs(
        "cerwu_onnx/array_files/masks.py",
        "tests/array_files",
        ("mask >> len(names) or mask & marked", "mask >> len(names)"),
    ),
    *bugs(
        "cerwu_onnx/inference/memory.py",
        "tests/inference",
        ("call.arguments.count(name) == 1", "True"),
        ("ends[shared[name]] == index and", ""),
    ),
    *bugs(
        "cerwu_onnx/inference/generator.py",
        "tests/inference",
        ("or len(numbers) != values.size", ""),
    ),
    *bugs(
        "cerwu_onnx/stock/weights.py",
        "tests/stock",
        ("most < 1 << bits - 1:", "most <= 1 << bits - 1:"),
        ("halves[::2] | halves[1::2] << 4", "halves[::2] << 4 | halves[1::2]"),
        ("per_axis = len(axes) == 1 and opset >= _PER_AXIS", "per_axis = len(axes) == 1"),
    ),
    *bugs(
        "cerwu_onnx/model/placeholders.py",
        "tests/model/test_elements.py tests/model/test_skeleton.py",
        ("parts - (parts >> bits - 1 << bits) if signed else parts", "parts"),
        ("if max(common, hi - lo - common) > MAX_SYMBOL:", "if False:"),
        ("if kind == _T.BOOL:", "if False:"),
    ),
    *bugs(
        "cerwu_onnx/model/layout.py",
        "tests/model/test_layout.py",
        ("if self.sizes[part] % size:", "if False:"),
        ('transposed=transposed == (side == "A")', "transposed=transposed"),
    ),
    *bugs(
        "cerwu_onnx/model/sites.py",
        "tests/model/test_sites.py::test_gemm_reads_the_columns_of_a_transposed_operand "
        "tests/calibration/test_recurrent.py",
        ('"bidirectional": (False, True)', '"bidirectional": (False, False)'),
        ('axis=-2 if attributes.get("transA", 0) else -1', "axis=-1"),
    ),
    *bugs(
        "cerwu_onnx/model/affine.py",
        "tests/calibration/test_recurrent.py tests/quantize/test_floats.py",
        ("return Bias(name, math.sqrt(2))", "return Bias(name, 1.0)"),
        ("factor = abs(beta / alpha) if alpha", "factor = abs(beta * alpha) if alpha"),
    ),
    *bugs(
        "cerwu_onnx/model/references.py",
        "tests/model/test_skeleton.py",
        ('last += int(sign + (change or "1"))', 'last = int(sign + (change or "1"))'),
        ("if int(back) > known:", "if False:"),
    ),
    *bugs(
        "cerwu_onnx/model/roles.py",
        "tests/model/test_graph.py",
        ("(small or not _is_operand(use) or", "(small or _is_operand(use) or"),
        ("and _spread(tensor) > EVEN", "and _spread(tensor) < EVEN"),
        ("and site.activation not in constants)", ")"),
    ),
    *bugs(
        "cerwu_onnx/model/skeleton.py",
        "tests/model/test_skeleton.py",
        ("    if outside:", "    if False:"),
        ("and 0 < math.prod(tensor.dims) < 2**31", "and math.prod(tensor.dims) < 2**31"),
    ),
    *bugs(
        "cerwu_onnx/model/tensors.py",
        "tests/model/test_graph.py tests/model/test_fold.py",
        ("            read |= _free_names(inner)", "            pass"),
        ("for dim in tensor.shape.dim)", "for dim in tensor.shape.dim[1:])"),
    ),
    *bugs(
        "cerwu_onnx/model/loading.py",
        "tests/model/test_graph.py tests/model/test_untrusted_models.py tests/model/test_large.py",
        ("if any(size < 0 for size in tensor.dims):", "if False:"),
        ("len(tensor.raw_data) != tensor_bytes(tensor):", "len(tensor.raw_data) < tensor_bytes(tensor):"),
    ),
    *bugs(
        "cerwu_onnx/model/uses.py",
        "tests/model/test_graph.py",
        ('"perm", range(len(shape))[::-1]', '"perm", range(len(shape))'),
    ),
    *bugs(
        "cerwu_onnx/model/inline.py",
        "tests/model/test_inline.py",
        ("                while defined[new]:", "                while False:"),
        ("if name not in pinned and _is_weight", "if _is_weight"),
        ("for old, new in names.items() if old not in own}", "for old, new in names.items()}"),
        ("_is_weight(tensor):\n            nodes", "not tensor.dims:\n            nodes"),
    ),
    *bugs(
        "cerwu_onnx/model/bounds.py",
        "tests/model/test_bounds.py",
        ("and names <= most_names(section)", ""),
        ("return FIELDS + FIELDS_PER_BYTE * section", "return FIELDS_PER_BYTE * section"),
        ("            if at > end:", "            if False:"),
        (" or at + size > end", ""),
    ),
    *bugs(
        "cerwu_onnx/model/rebuilt.py",
        "tests/model/test_rebuilt.py",
        ("if own is None or (own.data_type, own.dims) != (tensor.data_type, tensor.dims):", "if own is None:"),
        ("    if len(names) == count:", "    if True:"),
        ("found[name] = equal.pop()", "found[name] = equal[-1]"),
        ("if not record.is_coded}", "}"),
    ),
]

QUANTIZE = [
    *bugs(
        "cerwu_onnx/quantize/priced.py",
        "tests/quantize/test_priced.py",
        ("DECISION = 0.03", "DECISION = 0.06"),
        ("price = 4 * DECISION", "price = DECISION"),
        ("ROOM = 0.98", "ROOM = 1.0"),
        ("plain = bool(np.abs(values).max(initial=0) > self.cost.largest)", "plain = False"),
        ("return asked or not cost.price", "return not cost.price"),
        ("np.sqrt(6 * self.cost.price", "np.sqrt(12 * self.cost.price"),
        ("self.unseen * float(", "float("),
    ),
    *bugs(
        "cerwu_onnx/quantize/priced.py",
        "tests/quantize/test_row_steps.py",
        ("damped(stats.hessian, 0.0)) ** 0.25", "damped(stats.hessian, 0.0)) ** 0.0"),
        ("layer.turned().exponents()[1] <= saved + MARGIN", "True"),
        (" or cost.largest < MAX_SYMBOL  #", "  #"),
        ("stored = turned, sideways", "stored = turned, layout"),
    ),
    *bugs(
        "cerwu_onnx/compression/layer_walk.py",
        "tests/compression/test_storage_order.py",
        (" and stats.positions <= samples", ""),
    ),
    *bugs(
        "cerwu_onnx/quantize/changes.py",
        "tests/quantize/test_row_steps.py",
        ("self.factor / own", "self.factor"),
        ("self.curvature * own[:, 0] ** 2", "self.curvature"),
    ),
    *bugs(
        "cerwu_onnx/stock/activations.py",
        "tests/stock/test_stock.py",
        ("            continue  # integer kernels", "            pass  # integer kernels"),
    ),
    *bugs(
        "cerwu_onnx/quantize/obs.py",
        "tests/quantize/test_methods.py",
        ("self.gamma / 2 * symbols**2", "self.gamma * symbols**2"),
        ("rest[:, stop:] -= factor", "rest[:, stop:] += factor"),
    ),
    *bugs(
        "cerwu_onnx/quantize/trellis.py",
        "tests/quantize/test_trellis.py::test_both_implementations_agree "
        "tests/quantize/test_trellis.py::test_huge_values_are_clipped "
        "tests/quantize/test_trellis.py::test_rows_make_up_for_each_other",
        ("AHEAD = 40", "AHEAD = 0"),
        ("/ 2), MAX_INDEX - 1)", "/ 2), MAX_INDEX)"),
        ("rest[row + 1 :] -= np.outer", "rest[row + 1 :] += np.outer"),
    ),
    *bugs(
        "cerwu_onnx/quantize/crossval.py",
        "tests/quantize/test_crossval.py",
        ("return best if least < 0 else None", "return best"),
        ("fed(damped(pair[0], damping), pair[1])", "fed(damped(pair[0], damping), pair[0])"),
        ("folds[0]) / errors", "folds[0])"),
    ),
    *bugs(
        "cerwu_onnx/quantize/hessian.py",
        "tests/quantize/test_methods.py",
        ("np.where(diagonal > 0, diagonal, mean)", "diagonal"),
        ("mean) + relative * mean", "mean) + relative"),
        ("            relative *= 10", "            relative *= 1e9"),
    ),
    *bugs(
        "cerwu_onnx/quantize/blocks.py",
        "tests/quantize/test_blocks.py",
        ("*parts.shape[1:]).sum(axis=1)", "*parts.shape[1:]).max(axis=1)"),
        (
            "reshape(groups, rows, blocks, columns // blocks).transpose(0, 2, 1, 3)",
            "reshape(groups, rows, columns // blocks, blocks).transpose(0, 3, 1, 2)",
        ),
    ),
    *bugs("cerwu_onnx/quantize/rows.py", "tests/quantize/test_rows.py", (" / (1 + damping)", "")),
    *bugs(
        "cerwu_onnx/quantize/bound.py",
        "tests/quantize/test_bound.py::test_ends",
        ("    if distortion == 0:", "    if False:"),
    ),
    *bugs(
        "cerwu_onnx/quantize/floats.py",
        "tests/quantize/test_floats.py",
        ("if error <= variance * exact.size:", "if error <= variance:"),
        ("    if not stats.positions or not quantized.distortion > 0:", "    if not quantized.distortion > 0:"),
    ),
]

ENTROPY = [
    *bugs(
        "cerwu_onnx/entropy/step.py",
        "tests/container/test_container.py tests/container/test_format_constants.py tests/quantize/test_priced.py",
        ("1 <= number <= 255", "0 <= number <= 255"),
        ("(1 << 20) - 1 >> 20 << 20", "(1 << 19) >> 20 << 20"),
    ),
    *bugs(
        "cerwu_onnx/entropy/adaptive.py",
        "tests/entropy/test_adaptive.py tests/container/test_container.py tests/entropy/test_trellis_coding.py",
        ("        if magnitude > self.reach:", "        if False:"),
        ("if next(self.bytes, None) is not None:", "if False:"),
        ("self._symbols == 2 << self.rate", "self._symbols == 1 << self.rate"),
    ),
    *bugs(
        "cerwu_onnx/entropy/ans.py",
        "tests/entropy/test_tables.py tests/container/test_container.py",
        ("if (data and not first) or state or", "if state or"),
    ),
    *bugs(
        "cerwu_onnx/entropy/tables.py",
        "tests/entropy/test_tables.py tests/container/test_container.py tests/entropy/test_trellis_coding.py",
        ("frequencies[np.argmax(frequencies)] +=", "frequencies[0] +="),
        ("or not (levels[0] or levels[-1])", ""),
    ),
    *bugs(
        "cerwu_onnx/entropy/trellis.py",
        "tests/entropy/test_trellis_coding.py",
        ("TRELLIS = Trellis(64, 10, 33)", "TRELLIS = Trellis(64, 10, 32)"),
    ),
]

CONTAINER = [
    *bugs(
        "cerwu_onnx/container/ahead.py",
        "tests/container/test_container.py",
        ("elements + record.count > BATCH:", "False:"),
    ),
    *bugs(
        "cerwu_onnx/container/directory.py",
        "tests/container/test_container.py",
        ("if value >> 32 or (shift and not byte):", "if shift and not byte:"),
        ("records[-1].kind >= record.kind", "records[-1].kind > record.kind"),
    ),
    *bugs(
        "cerwu_onnx/container/writer.py",
        "tests/container/test_container.py",
        ("if len(set(names)) != len(names):", "if False:"),
        ("f.MAX_INDEX if quantized.run else f.MAX_SYMBOL", "f.MAX_SYMBOL"),
    ),
    *bugs(
        "cerwu_onnx/container/payload.py",
        "tests/entropy/test_trellis_coding.py tests/container/test_container.py",
        ("in range(2 if record.run else 1)", "in range(1)"),
        ("return min(found", "return max(found"),
    ),
    *bugs(
        "cerwu_onnx/container/dictionary.py",
        "tests/container/test_container.py",
        (" or inflater.unused_data", ""),
        ("    if len(content) > limit:", "    if False:"),
    ),
    *bugs(
        "cerwu_onnx/container/packed.py",
        "tests/container/test_packed.py",
        ("    if size > limit:", "    if False:"),
        (" or len(content) > most_content(len(payload))", ""),
        ("following < len(code) or ", ""),
        ("size >> 32 or (i and not byte)", "size >> 32"),
    ),
    *bugs(
        "cerwu_onnx/container/in_place.py",
        "tests/c/test_in_place.py",
        ("max(record.count, record.size, max(needs, default=0))", "max(record.count, max(needs, default=0))"),
    ),
]

CALIBRATION = [
    *bugs(
        "cerwu_onnx/calibration/patches.py",
        "tests/model/test_layout.py::test_conv_equals_onnxruntime",
        ('if patch.auto_pad == "SAME_UPPER" else (more, less)', 'if patch.auto_pad == "SAME_LOWER" else (more, less)'),
    ),
    *bugs(
        "cerwu_onnx/calibration/patches.py",
        "tests/calibration/test_collect.py tests/calibration/test_recurrent.py",
        ("x[1:, d] if reverse else x[:-1, d]", "x[:-1, d]"),
        ("np.bincount(x.ravel() % rows,", "np.bincount(np.abs(x.ravel()),"),
    ),
    *bugs(
        "cerwu_onnx/calibration/sensitivity.py",
        "tests/calibration/test_sensitivity.py",
        ("for sign in (1, -1) if base else (1,):", "for sign in (1,):"),
        ("max(value, FLOOR * mean, 1e-12)", "max(value, 1e-12)"),
        ("return sum(answer.loss(", "return max(answer.loss("),
    ),
    *bugs(
        "cerwu_onnx/calibration/source.py",
        "tests/calibration/test_sensitivity.py",
        ("        if seen >= samples:", "        if seen >= 8:"),
        ("enumerate(source.batches(size)) if evenly(place, places, wanted))", "enumerate(source.batches(size)))"),
    ),
    *bugs(
        "cerwu_onnx/calibration/segments.py",
        "tests/calibration/test_sequential.py::test_bodies_read_what_surrounds_them "
        "tests/calibration/test_sequential.py::test_what_is_random_is_not_fixed",
        (" and node.op_type not in _RANDOM", ""),
        ('frozenset(node.input) - {""} | subgraph_reads(node) for', 'frozenset(node.input) - {""} for'),
    ),
    *bugs(
        "cerwu_onnx/calibration/curvature.py",
        "tests/calibration/test_sensitivity.py",
        ("name: level * value for", "name: value for"),
    ),
    *bugs(
        "cerwu_onnx/calibration/sums.py",
        "tests/calibration/test_collect.py tests/calibration/test_recurrent.py",
        ("    mean /= positions", "    mean /= positions + 1"),
        ("            total[:, above, beside] += product", "            total[:, above, beside] = product"),
    ),
    *bugs(
        "cerwu_onnx/calibration/answers.py",
        "tests/calibration/test_answers.py",
        ("np.where(np.isfinite(other), other, np.inf)", "np.where(np.isfinite(other), other, 0)"),
        ("return (self.temperature**2 * self.importance", "return (self.importance"),
        ("weigh = scale * np.sqrt(self.importance(wide))[:, None]", "weigh = scale * self.importance(wide)[:, None]"),
    ),
    *bugs(
        "cerwu_onnx/calibration/answer_rows.py",
        "tests/calibration/test_answers.py",
        ("np.where(np.isnan(rows), np.inf, np.maximum(rows, 0.0))", "np.maximum(np.nan_to_num(rows), 0.0)"),
    ),
    *bugs(
        "cerwu_onnx/calibration/kinds.py",
        "tests/calibration/test_answers.py",
        ("shares = 1 / np.maximum(counts, RARE)", "shares = np.ones(rows.shape[-1])"),
        ("elif 2 * most > len(rows) > most:", "elif False:"),
        ("unit and not cut and _are_flags", "unit and _are_flags"),
        ("np.abs(rows[~low]).max() > -_NEVER", "False"),
        ("rows[low].min() * _ALIKE > rows[low].max()", "True"),
        ("(np.abs(logsumexp(rows, axis=-1)) < _SUM_TOLERANCE).all()", "False"),
        ("or arrays[0].ndim > 3]", "or arrays[0].ndim > 2]"),
    ),
    *bugs(
        "cerwu_onnx/calibration/compared.py",
        "tests/calibration/test_compared.py",
        ("if inside.isdisjoint(node.output) for", "for"),
    ),
    *bugs(
        "cerwu_onnx/calibration/held_out.py",
        "tests/calibration/test_held_out.py",
        ("(seen // self._block) % 2 == int(self._second)", "(seen // self._block) % 2 == 0"),
        ("max(rest - self._block, 0) if second", "min(rest, self._block) if second"),
        ("max(1, min(BLOCK // least, units // BLOCKS))", "max(1, BLOCK // least)"),
        ("if self._group % n == 0)", ")"),
        ("most // self._group, 1)", "most // self._group, 1) + 1"),
        ("evenly(group, self._groups, self._wanted)", "group < self._wanted"),
        ("found[name] = difference / 2**0.5", "found[name] = difference"),
        ("            last = feed", "            last = {}"),
        ("self._most is not None and taken >= self._most", "False"),
    ),
    *bugs(
        "cerwu_onnx/calibration/trust.py",
        "tests/calibration/test_trust.py",
        ("    if different < FEWEST:", "    if seen < FEWEST:"),
        ("if different < FEW else ()", "if different <= FEW else ()"),
    ),
    *bugs(
        "cerwu_onnx/calibration/trust.py",
        "tests/calibration/test_signs.py",
        ("        if share >= NOTHING_ELSE or (", "        if ("),
        ("told = not norms and any(", "told = any("),
        ("warnings.append(unknown)", "pass"),
        ("Doubts(warnings=few + found.warnings)", "Doubts(warnings=few)"),
    ),
    *bugs(
        "cerwu_onnx/calibration/signs.py",
        "tests/calibration/test_trust.py",
        ("if shift <= SHIFT and spread <= SPREAD:", "if shift <= SHIFT or spread <= SPREAD:"),
        ("mean, variance + epsilon)", "mean, variance)"),
        ("np.median(np.abs(np.log(", "np.median((np.log("),
        ("np.moveaxis(np.asarray(array, np.float64), 1, -1)", "np.moveaxis(np.asarray(array, np.float64), 0, -1)"),
        ("second / count - np.square(first / count), tiny)", "second / count, tiny)"),
    ),
    *bugs(
        "cerwu_onnx/calibration/signs.py",
        "tests/calibration/test_signs.py",
        ("        varies = high > low", "        varies = high >= low"),
        ("low, high = np.minimum(low, self._range[0])", "low, high = np.minimum(low, low)"),
        ("if not len(chosen) or len(chosen) != self.samples or", "if not len(chosen) or"),
        ("        if share < ALIKE:", "        if share <= ALIKE:"),
        ("not 0 < divided.most()[1] < ALIKE", "not 0 < divided.most()[1]"),
        ("> CLEARER * divided.answer.entropy", "> divided.answer.entropy"),
    ),
    *bugs(
        "cerwu_onnx/calibration/opening.py",
        "tests/calibration/test_opening.py",
        ("atol=TOLERANCE * largest", "atol=TOLERANCE * 1e-3"),
        ("        return str(error)", '        return ""'),
        ("    if not all(_is_close(first[name], again[name]) for name in names):", "    if False:"),
        ("return _is_close(both, first) and _is_close(both, second)", "return True"),
        ("    if source.count(pair) < 2:", "    if False:"),
    ),
    *bugs(
        "cerwu_onnx/calibration/adjoint/products.py",
        "tests/calibration/test_adjoint.py",
        ('call.g * call.number("beta", 1.0)', "call.g"),
    ),
    *bugs(
        "cerwu_onnx/calibration/adjoint/elementwise.py",
        "tests/calibration/test_adjoint.py",
        ("call.fit(-call.g if index else call.g, index)", "call.fit(call.g, index)"),
    ),
    *bugs(
        "cerwu_onnx/calibration/feeds.py",
        "tests/calibration/test_source.py",
        ("cast is not array and not (cast == array).all()", "False"),
    ),
    *bugs(
        "cerwu_onnx/calibration/sequential.py",
        "tests/calibration/test_sequential.py::test_commits_that_cannot_be",
        (
            "        if any(not reached.isdisjoint(self.nodes.reads[index]) for index in self._done):",
            "        if False:",
        ),
    ),
]

COMPRESS = [
    *bugs(
        "cerwu_onnx/compression/target_search.py",
        "tests/compression/test_target_search.py",
        ("-point.lambda_) if size(point) <= target", "-point.lambda_) if size(point) <= target * 1.01"),
        ("(1, size(point), -point.lambda_)", "(1, size(point))"),
        ("if found <= 4 * drop or limit > price:", "if found <= 4 * drop:"),
        ("logs = [x - NEIGHBOUR, x + NEIGHBOUR]", "logs = [x, x + NEIGHBOUR]"),
    ),
    *bugs(
        "cerwu_onnx/compression/layer_rules.py",
        "tests/compression/test_layer_rules.py",
        ("layer.bias.name in skipped:", "layer.bias.name in {}:"),
    ),
    *bugs(
        "cerwu_onnx/compression/memory_budget.py",
        "tests/compression/test_memory_budget.py",
        ("layout.cols % count == 0 and count >= least", "count >= least"),
    ),
    *bugs(
        "cerwu_onnx/compression/storage_order.py",
        "tests/compression/test_storage_order.py tests/model/test_elements.py tests/compression/test_hard_numbers.py",
        ("return largest < _OVERFLOW.get(element, math.inf)", "return True"),
        ("layout.groups > 1 and layout.shape[1] == 1", "layout.groups > 1"),
    ),
    *bugs(
        "cerwu_onnx/compression/encode.py",
        "tests/compression/test_pipeline.py tests/compression/test_hard_numbers.py",
        ("part.cost < raw_cost(element, result.symbols.shape) and", "True and"),
    ),
    *bugs(
        "cerwu_onnx/compression/layer_walk.py",
        "tests/compression/test_layer_rules.py::test_a_lower_price_buys_bits",
        ("price * layer.price, fishers", "price, fishers"),
    ),
    *bugs(
        "cerwu_onnx/compression/walk_quantizer.py",
        "tests/compression/test_walk_quantizer.py::test_later_layers_mend_what_earlier_ones_break "
        "tests/compression/test_walk_quantizer.py::test_sensitivities_of_a_walk_are_mended",
        ("MENDED ** (place / last)", "MENDED ** (-place / last)"),
        ("return (True, _mended(alone, self._graph, self._weights), rows)", "return (True, alone, rows)"),
        ("return _levelled(found, alone, weights)", "return found"),
    ),
    *bugs(
        "cerwu_onnx/compression/walk_quantizer.py",
        "tests/compression/test_walk_quantizer.py::test_noise_that_changes_nothing "
        "tests/compression/test_walk_quantizer.py::test_sensitivities_around_a_coarse_model_keep_their_level",
        ("if careful.loss is not None and careful.loss < found.loss / 2:", "if False:"),
        ("factor = float(np.exp(np.average(logs", "factor = 1 / float(np.exp(np.average(logs"),
    ),
    *bugs(
        "cerwu_onnx/compression/walk_result.py",
        "tests/compression/test_walk_quantizer.py::test_parameters_that_moved_are_kept_of_every_layer",
        ("self.moved |= layer.moved", "self.moved = layer.moved"),
    ),
    *bugs(
        "cerwu_onnx/compression/dequantize.py",
        "tests/compression/test_dequantize.py",
        (" - read - shown - ", " - shown - "),
    ),
    *bugs(
        "cerwu_onnx/compression/left_exact.py",
        "tests/compression/test_left_exact.py",
        (" and not tensor.reason.startswith(SKIPPED)", ""),
        ("max(LEAST, SHARE * total)", "SHARE * total"),
    ),
    *bugs(
        "cerwu_onnx/compression/lost_rows.py",
        "tests/compression/test_lost_rows.py",
        ("found.distortion > FINE**2 * found.energy", "False"),
        ("lost >= SHARE * error.size and lost", "lost"),
    ),
    *bugs(
        "cerwu_onnx/compression/sweep.py",
        "tests/jobs/test_parallel.py::test_limits_are_not_for_a_sweep "
        "tests/jobs/test_parallel.py::test_a_sweep_measures_once_and_repeats_warnings",
        ("        if paths.count(path) > 1:", "        if False:"),
        ("        calib = list(calib)", "        pass"),
    ),
    *bugs(
        "cerwu_onnx/calibration/answers.py",
        "tests/compression/test_fidelity.py",
        ("for factor in (stretch, -stretch)", "for factor in (stretch, stretch)"),
        ("(self._calibrated(x), 2)", "(self._calibrated(x), 1)"),
    ),
    *bugs(
        "cerwu_onnx/compression/model_quantizer.py",
        "tests/compression/test_deltas.py::test_a_delta_leaves_no_margin_beside_that_of_its_base",
        ("SURELY if self._base is None else 0.0", "SURELY"),
    ),
    *bugs(
        "cerwu_onnx/compression/fidelity.py",
        "tests/compression/test_fidelity.py tests/compression/test_judgements.py",
        ("return self.lost * (1 + THIN / self.weight) + ", "return self.lost + "),
        (" + surely * self.error", ""),
        ("min(one.weight for one in judged) < FEW", "min(one.weight for one in judged) < 0"),
        ("judge(price, turn % 2 == 1)", "judge(price, False)"),
        ("max(-STRIDE, min(STRIDE, further))", "further"),
        ("return min(max(float(2.0**low), LEAST), MOST)", "return float(2.0**low)"),
        ("    price = min(price, nearest)", "    price = max(price, nearest)"),
        ("1 / (APART + math.log2(one.price / price) ** 2)", "1.0"),
        ("1 if surely is None or not one.lost else ", "1 if not one.lost else "),
        (" if math.isfinite(one.lost)]", "]"),
        ("worst = int(mean.argmax())", "worst = 0"),
        (
            "answer.entropy(outputs[name]), 1e-12) / plain for outputs in noisy]",
            "answer.entropy(outputs[name]), 1e-12) / plain for outputs in noisy[:1]]",
        ),
        ("np.exp(np.log(factors).mean())) / INFLATION", "np.exp(np.log(factors).mean()))"),
        ("max(sure, 1.0) ** MARGIN", "max(sure, 1.0)"),
        ("sure if sure > 1 else sure**TIMID", "sure"),
        ("(1 - OWN) * others.lost + OWN * own.lost", "others.lost"),
        ("math.hypot((1 - OWN) * others.error, OWN * own.error)", "others.error"),
        ("rows.reshape(samples, -1, rows.shape[1]).mean(axis=1)", "rows"),
        ("    per_sample = scale * _by_sample", "    per_sample = _by_sample"),
    ),
    *bugs(
        "cerwu_onnx/compression/fidelity.py",
        "tests/compression/test_judgements.py tests/compression/test_fidelity.py",
        ("0.5 if answer.found else 1.0", "1.0"),
        ("(price / self.price) ** self.power", "price / self.price"),
        ("if np.allclose(factors, 1, rtol=0, atol=UNMOVED):", "if False:"),
        (" and all(np.isfinite(array).all() for array in outputs[name])", ""),
        ("cold if answer.chooses", "answer if answer.chooses"),
        ("(self.price / one.price) ** 0.5", "1.0"),
    ),
    *bugs(
        "cerwu_onnx/compression/halves.py",
        "tests/compression/test_judgements.py tests/compression/test_fidelity.py",
        ("for half in (not second, second))", "for half in (second, not second))"),
        ("Noisy(half, natural=True)", "Noisy(half, natural=False)"),
        ("[*batches, *second[name]]", "[*batches]"),
    ),
    *bugs(
        "cerwu_onnx/compression/trials.py",
        "tests/cli/test_cli_targets.py::test_the_smallest_file_that_holds",
        ("low=share * self.before.score", "low=after.score"),
    ),
]

OTHERS = [
    *bugs(
        "cerwu_onnx/jobs/cache.py",
        "tests/jobs/test_cache.py::test_what_came_with_a_warning_is_not_kept "
        "tests/jobs/test_cache.py::test_a_change_in_any_room_makes_another_cache",
        ("            if not warnings:", "            if True:"),
        ("_PACKAGE.rglob", "(_PACKAGE / 'jobs').rglob"),
    ),
    *bugs(
        "cerwu_onnx/jobs/inputs.py",
        "tests/jobs/test_inputs.py",
        ("noted.setdefault(Path(path).absolute(), _state(path))", "noted[Path(path).absolute()] = _state(path)"),
        ("    token = _watched.set(())", "    token = _watched.set(_watched.get())"),
        ("found.st_ino, found.st_size", "0, found.st_size"),
        ("found.st_mtime_ns, found.st_ctime_ns", "found.st_mtime_ns, 0"),
        ("            raise change from error", "            raise error"),
    ),
    *bugs(
        "cerwu_onnx/jobs/files.py",
        "tests/jobs/test_files.py tests/compression/test_pipeline.py",
        ("if target.exists() and not overwrite:", "if False:"),
        ("temporary.unlink(missing_ok=True)", "pass"),
    ),
    *bugs(
        "cerwu_onnx/jobs/progress.py",
        "tests/jobs/test_cache.py::test_what_came_with_a_warning_is_not_kept",
        ('getLogger("cerwu_onnx")', "getLogger(__name__)"),
    ),
    *bugs(
        "cerwu_onnx/jobs/parallel.py",
        "tests/jobs/test_parallel.py::test_one_after_the_other_the_largest_comes_first_and_equal_ones_in_order "
        "tests/jobs/test_parallel.py::test_jobs_of_other_versions_are_not_done",
        ("key=lambda index: -sizes[index]", "key=lambda index: sizes[index]"),
        ("        if versions != _versions():", "        if False:"),
    ),
    *bugs(
        "cerwu_onnx/evaluate/confidence.py",
        "tests/evaluate/test_confidence.py",
        ("    if a <= 0:", "    if a < 0:"),
        ("return float((b - root) / a)", "return float((b + root) / a)"),
    ),
    *bugs(
        "cerwu_onnx/evaluate/metrics.py",
        "tests/evaluate/test_metrics.py",
        ("(counts - 1) / 2)[place", "(counts - 1))[place"),
        ("np.where(np.isnan(array).any(axis=-1), -1, array.argmax(axis=-1))", "array.argmax(axis=-1)"),
    ),
    *bugs(
        "cerwu_onnx/evaluate/culprits.py",
        "tests/cli/test_cli_report.py",
        ("key=lambda culprit: -culprit.alone", "key=lambda culprit: culprit.alone"),
        ("(wrong / whole) ** 0.5 if whole", "wrong / whole if whole"),
        ("            return whole - score(path)", "            return score(path) - whole"),
    ),
    *bugs(
        "cerwu_onnx/firmware/requantize.py",
        "tests/firmware/test_requantize.py",
        ("math.floor(value + Fraction(1, 2))", "math.floor(value)"),
        ("    if multiplier == _INT32:", "    if False:"),
    ),
    *bugs(
        "cerwu_onnx/firmware/index.py",
        "tests/firmware/test_export_c.py::test_symbols_of_int8 "
        "tests/firmware/test_export_c.py::test_compiles_and_decodes",
        ("record.is_coded and record.largest <= 127", "record.is_coded and record.largest <= 128"),
        ("2 * tables * (6 * (record.reach + 1) + 128)", "2 * tables * (6 * record.reach + 128)"),
    ),
    *bugs(
        "cerwu_onnx/report_files/html.py",
        "tests/report_files/test_report_files.py::test_names_are_text_and_nothing_else",
        ("return html.escape(text.printable(value))", "return text.printable(value)"),
    ),
    *bugs(
        "cerwu_onnx/opened.py",
        "tests/compression/test_pipeline.py::test_verifying_a_file_reads_its_graph_too",
        ("self.to_onnx(lambda tensor, raw: True)", "pass"),
    ),
    *bugs(
        "cerwu_onnx/config.py",
        "tests/cli/test_cli_targets.py::test_what_makes_no_sense",
        ("not 0.5 <= self.confidence < 1", "not 0.5 <= self.confidence <= 1"),
    ),
    *bugs(
        "cerwu_onnx/native.py",
        "tests/test_native.py",
        ("if count > max_elements:", "if count > MAX_ELEMENTS:"),
        ("self._stored_name(0)", "pass"),
    ),
]

CLI = [
    *bugs(
        "cli/verify.py",
        "tests/cli/test_cli_verify.py::test_an_error_that_is_no_number_exceeds_any_budget",
        ("if not output.relative <= limit", "if output.relative > limit"),
    ),
    *bugs(
        "cli/against.py",
        "tests/cli/test_cli_verify.py",
        ("elif content(ours) == content(tensor):", "elif True:"),
    ),
    *bugs(
        "cli/text.py",
        "tests/cli/test_cli_render.py",
        ("if value == 0 or value >= 100:", "if value < 1 or value >= 100:"),
    ),
    *bugs(
        "cli/options.py",
        "tests/cli/test_cli_compress.py::test_numbers_and_shares",
        ('if not 0 <= value < float("inf"):', "if False:"),
    ),
    *bugs("cli/config_file.py", "tests/cli/test_cli_config.py", ("if name in typed or not typed else None", "")),
    *bugs(
        "cli/batch.py",
        "tests/cli/test_cli_batch.py",
        ("        if output in found:", "        if False:"),
    ),
    *bugs(
        "cli/compress.py",
        "tests/cli/test_cli_targets.py tests/cli/test_cli_batch.py",
        ("    if report.missed:", "    if False:"),
        ("max(outcome.exit_code for outcome in outcomes)", "min(outcome.exit_code for outcome in outcomes)"),
    ),
]

MUTANTS = [*MODEL, *QUANTIZE, *ENTROPY, *CONTAINER, *CALIBRATION, *COMPRESS, *OTHERS, *CLI]
