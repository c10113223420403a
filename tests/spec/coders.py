"""Trellis, ANS payload and adaptive payload: the sections of docs/format.md with these names, line by line."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from .refused import refuse_if


def has_trellis(form: int) -> bool:
    return form in (3, 4, 5, 6, 7)


def exponents(payload: bytes, rows: int) -> tuple[list[int], int]:
    """The exponents that a payload begins with, and where the rest begins."""
    at = 0

    def bit() -> int:
        nonlocal at
        refuse_if(at == 8 * len(payload), "exponents cut short")
        at += 1
        return payload[(at - 1) // 8] >> (at - 1) % 8 & 1

    c = sum(bit() << i for i in range(5))
    found = []
    for _ in range(rows):
        v = 0
        while bit():
            v += 1
        e = c + (v + 1) // 2 if v % 2 else c - v // 2
        refuse_if(not 0 <= e <= 31, "an exponent out of range")
        found.append(e)
    while at % 8:
        refuse_if(bit() != 0, "bits behind the exponents")
    return found, at // 8


def decode(payload: bytes, head: int, stored: list[int], largest: int, version: int) -> list[int]:
    """The values of a coded tensor's symbols, in stored order; ``stored`` are the dimensions in that order."""
    count = 1
    for dim in stored:
        count *= dim
    form = head >> 3 & 7
    coder = (Adaptive if head >= 192 else Ans)(payload, count, largest, has_trellis(form))
    if not has_trellis(form):
        values = [coder.symbol(0, False) for _ in range(count)]
    else:
        run = count // stored[0] if form in (4, 5) else stored[-1]
        values = along_trellis(coder.symbol, count, run, version)
    coder.end()
    return values


def decode_changes(payload: bytes, before: list[int], largest: int) -> list[int]:
    """The values of a changed tensor, in stored order; ``before`` are those of the base."""
    coder = Adaptive(payload, len(before), largest, False)
    coder.far = 1
    values = [v_base + coder.symbol(int(v_base != 0), False) for v_base in before]
    coder.end()
    refuse_if(any(abs(value) > 2047 for value in values), "a value out of range")
    return values


def along_trellis(symbol: Callable[[int, bool], int], count: int, run: int, version: int) -> list[int]:
    """Values from indices. ``symbol`` reads an index; it is told the grid, and whether a run begins."""
    odd_index, odd_grid = (5, 9) if version == 1 else (10, 33)
    values = []
    state = 0
    for i in range(count):
        if i % run == 0:
            state = 0
        grid = state % 2
        k = symbol(grid, i % run == 0)
        if grid == 0 or k == 0:
            values.append(2 * k)
        elif k > 0:
            values.append(2 * k - 1)
        else:
            values.append(2 * k + 1)
        state = state // 2 ^ (odd_index if k % 2 else 0) ^ (odd_grid if grid else 0)
    return values


class Ans:
    """The decoder of an ANS payload."""

    def __init__(self, payload: bytes, count: int, largest: int, trellis: bool) -> None:
        self.largest, self.payload, self.at, self.state = largest, payload, 0, 0
        if largest == 0:
            refuse_if(len(payload) > 0, "a payload where there is nothing to decode")
            return
        self.tables = [self.table() for _ in range(2 if trellis else 1)]
        left = len(payload) - self.at
        if left:
            self.state = self.take(1 if left % 2 else 2)
            refuse_if(self.state == 0, "a stream that begins with 0")
        if self.words_remain():
            self.state = self.state * 2**16 + self.take(2)

    def take(self, count: int) -> int:
        self.at += count
        return int.from_bytes(self.payload[self.at - count : self.at], "little")

    def words_remain(self) -> bool:
        return self.at < len(self.payload)

    def table(self) -> tuple[list[int], list[int]]:
        """The slot each symbol begins with, and the symbol of each slot."""
        at = 8 * self.at

        def bits(count: int) -> int:
            nonlocal at
            refuse_if(at + count > 8 * len(self.payload), "a table cut short")
            value = sum((self.payload[i // 8] >> i % 8 & 1) << i - at for i in range(at, at + count))
            at += count
            return value

        r, k = bits(2), bits(2)
        refuse_if(r > 2, "r of a table")
        levels: dict[int, int] = {-self.largest - 1: 1}
        for q in range(-self.largest, self.largest + 1):
            if q > 0:
                p = levels[-q]
            elif levels[q - 1] == 0:
                p = 0
            else:
                p = levels[q - 1] + 1
            ones = 0
            while bits(1):
                ones += 1
            v = ones * 2**k + bits(k)
            levels[q] = p + (v + 1) // 2 if v % 2 else p - v // 2
            refuse_if(not 0 <= levels[q] <= 12 * 2**r, "a level out of range")
        refuse_if(levels[-self.largest] == 0 and levels[self.largest] == 0, "a table whose ends are both 0")
        self.at = (at + 7) // 8
        weights = []
        for q in range(-self.largest, self.largest + 1):
            o, e = divmod(levels[q] - 1, 2**r)
            weights.append((16, 19, 23, 27)[4 * e // 2**r] * 2**o if levels[q] else 0)
        n, total = sum(w > 0 for w in weights), sum(weights)
        frequencies = [1 + w * (4096 - n) // total if w else 0 for w in weights]
        frequencies[frequencies.index(max(frequencies))] += 4096 - sum(frequencies)
        slots = [i for i, f in enumerate(frequencies) for _ in range(f)]
        first = [0, *accumulate(frequencies)]
        return first, slots

    def symbol(self, grid: int, begins: bool) -> int:
        if self.largest == 0:
            return 0
        first, slots = self.tables[grid]
        s = self.state % 2**12
        i = slots[s]
        self.state = self.state // 2**12 * (first[i + 1] - first[i]) + s - first[i]
        if self.state < 2**16 and self.words_remain():
            self.state = self.state * 2**16 + self.take(2)
        return i - self.largest

    def end(self) -> None:
        refuse_if(self.state != 0 or self.words_remain(), "a damaged stream")


class Adaptive:
    """The decoder of an adaptive payload."""

    def __init__(self, payload: bytes, count: int, largest: int, trellis: bool) -> None:
        refuse_if(not payload or payload[-1] == 0, "an empty payload, or a last byte of 0")
        self.largest, self.payload, self.at = largest, payload, 0
        header = self.next_byte() * 256 + self.next_byte()
        self.contexts, t = header >> 15, header >> 14 & 1
        z, g = header >> 10 & 15, header >> 7 & 7
        self.s, self.h = header >> 4 & 7, header & 15
        if self.h == 0:
            third = self.next_byte()
            self.width, self.rows = third & 15, third >> 4 or 256
            refuse_if(self.width == 0, "neighbours in rows of no elements")
        high = largest // 2**self.s
        p, v = [(2 * z + 1) * 2048], (2 * g + 1) * 4096
        for _ in range(1, 7):
            v -= v // 16
            p.append(v)
        p = [0 if k >= high else p[k] for k in range(7)] + [0]
        self.p = [list(p) for _ in range(4)]
        e = (0, 1, -1, 0)
        self.r = [32768 + 6144 * (e[left] + e[above]) for above in range(3) for left in range(4)]
        self.u, self.highest_u = 4, 8 if t else 6
        self.f, self.far = 0, 2
        self.signs: list[int] = []
        self.code = 0
        for _ in range(4):
            self.code = self.code * 256 + self.next_byte()
        self.range = 2**32 - 1

    def next_byte(self) -> int:
        self.at += 1
        return self.payload[self.at - 1] if self.at <= len(self.payload) else 0

    def take(self, bound: int) -> int:
        if self.code < bound:
            self.range = bound
            return 1
        self.code -= bound
        self.range -= bound
        return 0

    def decide(self, p: int) -> int:
        while self.range < 2**24:
            self.range *= 2**8
            self.code = (self.code * 2**8 + self.next_byte()) % 2**32
        return self.take(self.range // 2**16 * p)

    def learn(self, p: int, bit: int) -> int:
        return p - p // 2**self.u + (2 ** (16 - self.u) - 1 if bit else 0)

    def bit(self, j: int, k: int) -> int:
        bit = self.decide(self.p[j][k])
        if self.p[j][k]:
            self.p[j][k] = self.learn(self.p[j][k], bit)
        return bit

    def symbol(self, grid: int, begins: bool) -> int:
        if begins:
            self.f = 0
        if len(self.signs) in (32, 64, 128, 256):
            self.u = min(self.u + 1, self.highest_u)
        j = self.f + 2 * grid
        m = 0
        while self.bit(j, m):
            m += 1
        self.f = 1 if self.contexts and m >= self.far else 0
        if m == 7:
            b = 0
            while b < 11 and self.decide(2**15):
                b += 1
            v = 1
            for _ in range(b):
                v = 2 * v + self.decide(2**15)
            m = 7 + v - 1
        for _ in range(self.s):
            m = 2 * m + self.decide(2**15)
        refuse_if(m > self.largest, "a magnitude above R")
        q = m if m == 0 or self.positive() else -m
        self.signs.append(0 if q == 0 else 1 if q > 0 else 2)
        return q

    def positive(self) -> int:
        if self.h:
            return self.take(self.range // 32 * (2 * self.h + 1))
        i = len(self.signs)
        left = self.signs[i - 1] if i % self.width else 3
        above = self.signs[i - self.width] if i // self.width % self.rows else 0
        own = 4 * above + left
        v = self.r[own] // 2**8
        bit = self.take(self.range // 2**8 * (v if v % 2 else v + 1))
        self.r[own] = self.learn(self.r[own], bit)
        return bit

    def end(self) -> None:
        refuse_if(self.at < len(self.payload), "bytes left over")
