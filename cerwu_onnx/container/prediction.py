"""The model behind packed sections: it predicts each next bit of a text (docs/format.md, "Packed sections").

This is the specification in readable form. decoder_c/host/cwb_pack.c does the same, a hundred times faster.
"""

from __future__ import annotations

from array import array
from copy import deepcopy
from operator import mul

SLOT_BITS = 18
RECENT_BITS = 14
CONTEXTS = 8
LEAST_MATCHES = (12, 3)
LONGEST_MATCH = 31
INPUTS = CONTEXTS + len(LEAST_MATCHES) + 1
CONSTANT = 256
LEVELS = 32
LIMIT = 3071
"""Of a stretched probability: 256 times the logarithm of the odds, about."""

FIRST_WEIGHT = 1 << 13
MOST_SEEN = 127
WORD = 0xFFFFFFFF
TAG, VARINT, LENGTH, STRING = range(4)
(NAMES, MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, VALUE, TYPE, TENSOR_TYPE, SHAPE, DIMENSION, OPSET, ENTRY, FUNCTION) = (
    range(14)
)
MESSAGES = {
    (MODEL, 7): GRAPH,
    (MODEL, 8): OPSET,
    (MODEL, 14): ENTRY,
    (MODEL, 25): FUNCTION,
    (GRAPH, 1): NODE,
    (GRAPH, 5): TENSOR,
    (GRAPH, 11): VALUE,
    (GRAPH, 12): VALUE,
    (GRAPH, 13): VALUE,
    (NODE, 5): ATTRIBUTE,
    (ATTRIBUTE, 5): TENSOR,
    (ATTRIBUTE, 6): GRAPH,
    (ATTRIBUTE, 10): TENSOR,
    (ATTRIBUTE, 11): GRAPH,
    (VALUE, 2): TYPE,
    (TYPE, 1): TENSOR_TYPE,
    (TENSOR_TYPE, 2): SHAPE,
    (SHAPE, 1): DIMENSION,
    (FUNCTION, 7): NODE,
    (FUNCTION, 9): OPSET,
    (FUNCTION, 11): ATTRIBUTE,
}
"""Which fields of which message hold messages, and which."""


def hash_of(a: int, b: int) -> int:
    """A number of 32 bits that depends on both."""
    h = ((a ^ b * 0x9E3779B1 & WORD) * 0x85EBCA6B + 0x2F0B4C47) & WORD
    return h ^ h >> 15


def _squashed() -> list[int]:
    """The probability, in units of 2^-16, for each stretched one from -LIMIT, at index 0, to LIMIT."""
    odds, upper = 1 << 24, []
    for _ in range(LIMIT + 1):
        upper.append((1 << 40) // ((1 << 24) + odds))
        odds -= odds >> 8
    return [65536 - p for p in upper[:0:-1]] + upper


def _stretched() -> list[int]:
    """The inverse: for 4096 probabilities, the least number whose squashed probability is not less."""
    found, x = [], 0
    for i in range(4096):
        while x < 2 * LIMIT and SQUASHED[x] < 16 * i + 8:
            x += 1
        found.append(x - LIMIT)
    return found


def _next(state: int, bit: int) -> int:
    """The state of a slot after a bit; states are two numbers of 4 bits: how many zeros, how many ones."""
    counts = [state >> 4, state & 15]
    counts[bit] = min(counts[bit] + 1, 15)
    if counts[1 - bit] > 1:
        counts[1 - bit] = counts[1 - bit] // 4 + 1
    return counts[0] << 4 | counts[1]


SQUASHED = _squashed()
STRETCHED = _stretched()
NEXT = [[_next(state, bit) for state in range(256)] for bit in (0, 1)]
TOTAL = [(state >> 4) + (state & 15) for state in range(256)]
RATES = [131072 // (2 * seen + 3) for seen in range(MOST_SEEN + 1)]
TRUST_RATE = 1024


def learnt(p: int, bit: int, rate: int) -> int:
    """A probability after a bit."""
    return p + ((65535 - p) * rate >> 16) if bit else p - (p * rate >> 16)


class Messages:
    """Where a text is in the protobuf message that it holds, or in the names in front of it."""

    def __init__(self, size: int) -> None:
        self.position, self.word = 0, 0
        self.levels: list[list[int]] = [[size, NAMES, 0]]
        """End, type and hash of the fields so far, of the message and those around it, which come first."""
        self.field = 0
        self.begin(LENGTH)

    def begin(self, mode: int) -> None:
        """Begin a tag, a varint or a length."""
        self.mode = mode
        self.value = self.shift = self.count = self.before = 0

    def begin_string(self, size: int) -> None:
        """Begin a string of so many bytes."""
        if size == 0:
            self.begin(LENGTH if self.levels[-1][1] == NAMES else TAG)
        else:
            self.begin(STRING)
            self.left = self.value = self.before = size

    def bytes_left(self) -> int:
        """In the string or, outside of strings, in the message."""
        return self.left if self.mode == STRING else max(self.levels[-1][0] - self.position, 0)

    def follow(self, byte: int) -> None:
        """Go on by a byte."""
        top = self.levels[-1]
        self.position += 1
        self.word = hash_of(self.word, byte) if 97 <= byte | 32 <= 122 else 0
        self.before = hash_of(self.before, byte + 1)
        self.count += 1
        if self.mode == STRING:
            self.left -= 1
            if top[1] == NAMES and self.count == 1 and self.value == 8 and byte < 32:  # the model's first field
                top[1], self.left = MODEL, 0
            if self.left == 0:
                self.begin(LENGTH if top[1] == NAMES else TAG)
        else:
            if self.shift < 32:
                self.value = (self.value | (byte & 127) << self.shift) & WORD
                self.shift += 7
            if byte < 128:
                self._end_number(top)
        while self.mode == TAG and len(self.levels) > 1 and self.position >= self.levels[-1][0]:
            self.levels.pop()

    def _end_number(self, top: list[int]) -> None:
        if self.mode == TAG:
            self.field, wire = self.value >> 3, self.value & 7
            top[2] = hash_of(top[2], self.field)
            if wire in (1, 5):
                self.begin_string(8 if wire == 1 else 4)
            else:
                self.begin({0: VARINT, 2: LENGTH}.get(wire, TAG))
        elif self.mode == VARINT:
            self.begin(TAG)
        else:
            size = min(self.value, self.bytes_left())
            inside = MESSAGES.get((top[1], self.field))
            if inside is None or len(self.levels) == LEVELS:
                self.begin_string(size)
            else:
                self.levels.append([self.position + size, inside, 0])
                self.begin(TAG)


class Model:
    """What has been learnt from ``text``, and the place behind it; :meth:`predict` and :meth:`update` take turns."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.slots = array("H", [0]) * (1 << SLOT_BITS)
        first = [(2 * (s & 15) + 1) * 32768 // (TOTAL[s] + 1) for s in range(256)]
        self.chances = [first[:] for _ in range(CONTEXTS)]
        self.seen = [[0] * 256 for _ in range(CONTEXTS)]
        self.trusts = [[65536 - 65536 // (i + 2) for i in range(LONGEST_MATCH + 1)] for _ in LEAST_MATCHES]
        self.weights = [[[FIRST_WEIGHT] * INPUTS for _ in range(256)] for _ in range(2)]
        self.recent = [array("I", [0]) * (1 << RECENT_BITS) for _ in LEAST_MATCHES]
        self.begins: dict[tuple[int, int], int] = {}
        self.hashes: list[int] = []
        self.set = self.node = self.part = self.place = 0

    def copy(self) -> Model:
        """A model that learns on its own from here."""
        return deepcopy(self)

    def begin_text(self, size: int) -> None:
        """What follows are so many bytes that begin with names."""
        self.messages = Messages(size)
        self.matches, self.lengths, self.expected = ([0] * len(LEAST_MATCHES) for _ in range(3))
        self._begin_byte()

    def read(self, text: bytes) -> None:
        """Learn from a text."""
        self.begin_text(len(text))
        for byte in text:
            for shift in range(7, -1, -1):
                self.predict()
                self.update(byte >> shift & 1)

    def predict(self) -> int:
        """The probability that the next bit is 1, in units of 2^-16: 1 to 65535."""
        slots, node, part, places, inputs = self.slots, self.node, self.part, [], []
        for h, chance in zip(self.hashes, self.chances, strict=True):
            place, check = h >> 32 - SLOT_BITS ^ part, h & 255
            slot = slots[place]
            if slot >> 8 != check:
                other = slots[place ^ 16]
                if other >> 8 == check or TOTAL[other & 255] < TOTAL[slot & 255]:
                    place, slot = place ^ 16, other
                if slot >> 8 != check:
                    slot = slots[place] = check << 8
            places.append(place)
            state = slot & 255
            inputs.append(STRETCHED[chance[state] >> 4] if state else 0)
        for k, length in enumerate(self.lengths):
            x = 0
            if length:
                following = self.text[self.matches[k]] | 256
                if following >> self.place + 1 == node:
                    self.expected[k] = following >> self.place & 1
                    x = STRETCHED[self.trusts[k][length] >> 4]
                    x = x if self.expected[k] else -x
                else:
                    self.lengths[k] = 0
            inputs.append(x)
        inputs.append(CONSTANT)
        self.places, self.inputs = places, inputs
        self.used = self.weights[0][self.set], self.weights[1][node]
        dots = [int(sum(map(mul, weights, inputs)) / 65536) for weights in self.used]
        one, two = (min(max(dot, -LIMIT), LIMIT) for dot in dots)
        self.mixed = SQUASHED[one + LIMIT], SQUASHED[two + LIMIT]
        return SQUASHED[int((one + two) / 2) + LIMIT]

    def update(self, bit: int) -> None:
        """Learn the bit."""
        slots, following = self.slots, NEXT[bit]
        for place, chance, seen in zip(self.places, self.chances, self.seen, strict=True):
            slot = slots[place]
            state = slot & 255
            chance[state] = learnt(chance[state], bit, RATES[seen[state]])
            if seen[state] < MOST_SEEN:
                seen[state] += 1
            slots[place] = slot & 0xFF00 | following[state]
        for weights, mixed in zip(self.used, self.mixed, strict=True):
            error = (bit << 16) - mixed
            if not -11 < error < 11:  # less would change nothing
                weights[:] = [w + int(x * error / 32768) for w, x in zip(weights, self.inputs, strict=True)]
        for k, length in enumerate(self.lengths):
            if length:
                hit = int(self.expected[k] == bit)
                self.trusts[k][length] = learnt(self.trusts[k][length], hit, TRUST_RATE)
                if not hit:
                    self.lengths[k] = 0
        self.place -= 1
        self.node = self.node << 1 | bit
        self.part = self.part << 1 | bit
        if self.node >= 256:
            self.text.append(self.node & 255)
            self.messages.follow(self.node & 255)
            self._find_matches()
            self._begin_byte()
        elif self.part >= 16:
            self.hashes, self.part = [hash_of(h, self.node) for h in self.hashes], 1

    def _find_matches(self) -> None:
        text, end = self.text, len(self.text)
        for k, least in enumerate(LEAST_MATCHES):
            if self.lengths[k]:
                self.matches[k] += 1
                self.lengths[k] = min(self.lengths[k] + 1, LONGEST_MATCH)
            if end < least:
                continue
            h = 0
            for i in range(1, least + 1):
                h = hash_of(h, text[end - i])
            h >>= 32 - RECENT_BITS
            if not self.lengths[k]:
                at, length = self.recent[k][h], 0
                while length < min(LONGEST_MATCH, at) and text[at - 1 - length] == text[end - 1 - length]:
                    length += 1
                if length >= least:
                    self.matches[k], self.lengths[k] = at, length
            self.recent[k][h] = end

    def _begin_byte(self) -> None:
        m, text = self.messages, self.text
        _, kind, tags = m.levels[-1]
        around = m.levels[-2][2] if len(m.levels) > 1 else 0
        state = m.mode | kind << 2
        element = state | (m.field & 31 if m.mode != TAG else 0) << 6
        above = 0
        if m.mode == STRING:
            if m.count == 0:
                self.above, self.begins[kind, m.field & 31] = self.begins.get((kind, m.field & 31), 0), len(text)
            above = text[self.above + m.count]
        last = int.from_bytes(text[-8:], "big")
        four, left = last & WORD, hash_of(element, min(m.bytes_left(), 255))
        contexts = (
            four & 0xFFFF,
            hash_of(element, m.word),
            hash_of(left, four & 255),
            hash_of(four & 0xF8F8F8F8, last >> 32 & 0xF8F8),
            hash_of(left, m.before),
            hash_of(hash_of(element, around), tags),
            hash_of(hash_of(element, above), four & 255),
            hash_of(hash_of(element, m.count & 3), four >> 24),
        )
        self.hashes = [hash_of(context, i) for i, context in enumerate(contexts)]
        self.set, self.node, self.part, self.place = state, 1, 1, 7
