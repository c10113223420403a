"""Packed sections: a decoder from the text of docs/packed_sections.md alone."""

from __future__ import annotations

import ast
import base64
import functools
import pickle
import zlib
from pathlib import Path

from .refused import Refused, refuse_if

M32 = 2**32
HOLDS = {
    1: {7: 2, 8: 11, 14: 12, 25: 13},
    2: {1: 3, 5: 5, 11: 6, 12: 6, 13: 6},
    3: {5: 4},
    4: {5: 5, 6: 2, 10: 5, 11: 2},
    6: {2: 7},
    7: {1: 8},
    8: {2: 9},
    9: {1: 10},
    13: {7: 3, 9: 11, 11: 4},
}


def hash2(a: int, b: int) -> int:
    h = ((a ^ (b * 0x9E3779B1) % M32) * 0x85EBCA6B + 0x2F0B4C47) % M32
    return h ^ h // 2**15


def trunc(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def learn(p: int, bit: int, rate: int) -> int:
    return p + (65535 - p) * rate // 2**16 if bit else p - p * rate // 2**16


def squash(x: int) -> int:
    return UPPER[x] if x >= 0 else 2**16 - UPPER[-x]


def upper() -> list[int]:
    v, found = 2**24, []
    for _ in range(3072):
        found.append(2**40 // (2**24 + v))
        v -= v // 2**8
    return found


def after(state: int, bit: int) -> int:
    n = [state // 16, state % 16]
    n[bit] = min(n[bit] + 1, 15)
    other = n[1 - bit]
    n[1 - bit] = other // 4 + 1 if other > 1 else other
    return 16 * n[0] + n[1]


UPPER = upper()
AFTER = [[after(state, bit) for state in range(256)] for bit in (0, 1)]


@functools.cache
def stretch(q: int) -> int:
    """Of a probability of which q is the sixteenth part."""
    return next((x for x in range(-3071, 3071) if squash(x) >= 16 * q + 8), 3071)


class Reader:
    """The model; ``primed`` has read the primer."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.check, self.state = [0] * 2**18, [0] * 2**18
        chances = [(2 * (s % 16) + 1) * 2**15 // (s // 16 + s % 16 + 1) for s in range(256)]
        self.chance = [list(chances) for _ in range(8)]
        self.seen = [[0] * 256 for _ in range(8)]
        self.weight = [[[8192] * 11 for _ in range(256)] for _ in range(2)]
        self.place = [[0] * 2**14 for _ in range(2)]
        self.trust = [[2**16 - 2**16 // (length + 2) for length in range(32)] for _ in range(2)]
        self.begin_of = [[0] * 32 for _ in range(14)]

    # The place in the messages

    def begin(self, mode: int) -> None:
        self.mode = mode
        self.value = self.shift = self.count = self.before = 0

    def string(self, size: int) -> None:
        if size == 0:
            self.begin(0 if self.kinds[-1] else 2)
            return
        self.begin(3)
        self.left = self.value = self.before = size
        begins = self.begin_of[self.kinds[-1]]
        self.above, begins[self.field % 32] = begins[self.field % 32], len(self.text)

    def room(self) -> int:
        return self.left if self.mode == 3 else max(self.ends[-1] - len(self.text), 0)

    def follow(self, b: int) -> None:
        self.word = hash2(self.word, b) if chr(b).isascii() and chr(b).isalpha() else 0
        self.before = hash2(self.before, b + 1)
        self.count += 1
        if self.mode == 3:
            self.left -= 1
            if self.kinds[-1] == 0 and self.count == 1 and self.value == 8 and b < 32:
                self.kinds[-1] = 1
                self.left = 0
            if self.left == 0:
                self.begin(0 if self.kinds[-1] else 2)
        else:
            if self.shift < 32:
                self.value |= b % 128 * 2**self.shift % M32
                self.shift += 7
            if b < 128:
                self.element_ends()
        while self.mode == 0 and len(self.ends) > 1 and len(self.text) >= self.ends[-1]:
            for stack in (self.ends, self.kinds, self.tags):
                stack.pop()

    def element_ends(self) -> None:
        if self.mode == 0:
            self.field, wire = self.value // 8, self.value % 8
            self.tags[-1] = hash2(self.tags[-1], self.field)
            if wire in (1, 5):
                self.string({1: 8, 5: 4}[wire])
            else:
                self.begin({0: 1, 2: 2}.get(wire, 0))
        elif self.mode == 1:
            self.begin(0)
        else:
            size = min(self.value, self.room())
            kind = HOLDS.get(self.kinds[-1], {}).get(self.field)
            if kind is not None and len(self.ends) < 32:
                self.ends.append(len(self.text) + size)
                self.kinds.append(kind)
                self.tags.append(0)
                self.begin(0)
            else:
                self.string(size)

    # Matches and contexts

    def find(self) -> None:
        for k, least in ((0, 12), (1, 3)):
            if self.length[k]:
                self.match[k] += 1
                self.length[k] = min(self.length[k] + 1, 31)
            if len(self.text) < least:
                continue
            h = 0
            for b in reversed(self.text[-least:]):
                h = hash2(h, b)
            entry = h // 2**18
            if self.length[k] == 0:
                at, equal = self.place[k][entry], 0
                while equal < 31 and equal < at and self.text[at - 1 - equal] == self.text[-1 - equal]:
                    equal += 1
                if equal >= least:
                    self.match[k], self.length[k] = at, equal
            self.place[k][entry] = len(self.text)

    def begin_byte(self) -> None:
        eight = bytes(8) + self.text[-8:]
        one, four, five = eight[-1], int.from_bytes(eight[-4:], "big"), int.from_bytes(eight[-8:-4], "big")
        self.row = self.mode + 4 * self.kinds[-1]
        element = self.row + (64 * (self.field % 32) if self.mode else 0)
        near = hash2(element, min(self.room(), 255))
        over = self.text[self.above + self.count] if self.mode == 3 else 0
        around = self.tags[-2] if len(self.tags) > 1 else 0
        contexts = [
            four % 2**16,
            hash2(element, self.word),
            hash2(near, one),
            hash2(four & 0xF8F8F8F8, five & 0xF8F8),
            hash2(near, self.before),
            hash2(hash2(element, around), self.tags[-1]),
            hash2(hash2(element, over), one),
            hash2(hash2(element, self.count % 4), four // 2**24),
        ]
        self.h = [hash2(context, i) for i, context in enumerate(contexts)]
        self.bits = ""

    def begin_part(self, size: int) -> None:
        self.field = self.word = 0
        self.ends, self.kinds, self.tags = [len(self.text) + size], [0], [0]
        self.match, self.length, self.expected = [0, 0], [0, 0], [0, 0]
        self.begin(2)
        self.begin_byte()

    # Bits

    def slot(self, i: int, part: int) -> int:
        one, check = self.h[i] // 2**14 ^ part, self.h[i] % 256
        two = one ^ 16
        for slot in (one, two):
            if self.check[slot] == check:
                return slot
        sums = [self.state[slot] // 16 + self.state[slot] % 16 for slot in (one, two)]
        slot = two if sums[1] < sums[0] else one
        self.check[slot], self.state[slot] = check, 0
        return slot

    def predict(self) -> int:
        self.node = int("1" + self.bits, 2)
        part = int("1" + self.bits[len(self.bits) // 4 * 4 :], 2)
        self.slots, self.x = [], []
        for i in range(8):
            self.slots.append(self.slot(i, part))
            state = self.state[self.slots[i]]
            self.x.append(stretch(self.chance[i][state] // 16) if state else 0)
        for k in range(2):
            x = 0
            if self.length[k]:
                bits = format(self.text[self.match[k]], "08b")
                if bits.startswith(self.bits):
                    self.expected[k] = int(bits[len(self.bits)])
                    x = stretch(self.trust[k][self.length[k]] // 16) * (1 if self.expected[k] else -1)
                else:
                    self.length[k] = 0
            self.x.append(x)
        self.x.append(256)
        self.d = []
        for weights in (self.weight[0][self.row], self.weight[1][self.node]):
            d = trunc(sum(w * x for w, x in zip(weights, self.x, strict=True)), 2**16)
            self.d.append(max(-3071, min(3071, d)))
        return squash(trunc(sum(self.d), 2))

    def update(self, bit: int) -> None:
        for i, slot in enumerate(self.slots):
            state = self.state[slot]
            c = self.seen[i][state]
            self.chance[i][state] = learn(self.chance[i][state], bit, 2**17 // (2 * c + 3))
            self.seen[i][state] = min(c + 1, 127)
            self.state[slot] = AFTER[bit][state]
        for j, weights in enumerate((self.weight[0][self.row], self.weight[1][self.node])):
            error = 2**16 * bit - squash(self.d[j])
            for i, x in enumerate(self.x):
                weights[i] += trunc(x * error, 2**15)
        for k in range(2):
            if self.length[k]:
                right = int(self.expected[k] == bit)
                self.trust[k][self.length[k]] = learn(self.trust[k][self.length[k]], right, 1024)
                self.length[k] *= right
        self.bits += str(bit)
        if len(self.bits) == 4:
            self.h = [hash2(h, 16 + int(self.bits, 2)) for h in self.h]
        if len(self.bits) == 8:
            self.text.append(int(self.bits, 2))
            self.follow(self.text[-1])
            self.find()
            self.begin_byte()


def primer() -> bytes:
    """From the text of the file that the page names: zlib, then base 85."""
    text = (Path(__file__).parents[2] / "cerwu_onnx/container/primer.py").read_text()
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    packed = next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "_PACKED")
    content = zlib.decompress(base64.b85decode(packed))
    assert (len(content), zlib.crc32(content)) == (30028, 0x2AE54E19)
    return content


@functools.lru_cache(maxsize=1)
def primed() -> bytes:
    """A model that has read the primer, pickled: each section begins with a copy of it."""
    reader, parts = Reader(), primer()
    while parts:
        size = int.from_bytes(parts[:2], "little")
        reader.text += parts[:2]
        reader.begin_part(size)
        for byte in parts[2 : 2 + size]:
            for bit in format(byte, "08b"):
                reader.predict()
                reader.update(int(bit))
        parts = parts[2 + size :]
    return pickle.dumps(reader)


@functools.lru_cache(maxsize=16)
def unpack(payload: bytes, most: int) -> bytes:
    """The content of a packed section.

    Raises:
        Refused: A reader must refuse the section.
    """
    size = shift = at = 0
    while True:
        refuse_if(at >= len(payload) or at > 4, "no size")
        size += (payload[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if payload[at - 1] < 128:
            break
    refuse_if(size >= M32 or (at > 1 and payload[at - 1] == 0), "a varint that is none")
    code = payload[at:]
    if size == 0:
        refuse_if(len(code) > most, "too large a content")
        return code
    refuse_if(size > min(most, 2**16 + 1024 * len(payload)), "too large a content")
    low, high = 0, M32 - 1
    following = iter(code)
    number = 0
    for _ in range(4):
        number = 2**8 * number + next(following, 0)
    reader: Reader = pickle.loads(primed())
    start = len(reader.text)
    reader.begin_part(size)
    for _ in range(8 * size):
        middle = low + (high - low) * reader.predict() // 2**16
        bit = int(number <= middle)
        low, high = (low, middle) if bit else (middle + 1, high)
        while low // 2**24 == high // 2**24:
            low, high = 2**8 * low % M32, (2**8 * high + 255) % M32
            number = (2**8 * number + next(following, 0)) % M32
        reader.update(bit)
    refuse_if(number != (2**24 * (low // 2**24 + 1) if low else 0), "another end")
    refuse_if(next(following, None) is not None or code[-1:] == b"\0", "bytes left over")
    return bytes(reader.text[start:])


__all__ = ["Refused", "primed", "unpack"]
