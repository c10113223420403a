"""Write C text from values that may be hostile: identifiers, comments, numbers, arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

MAX_IDENTIFIER = 48
"""The most characters of a tensor's identifier before the suffix that makes it unique; C99 allows 63 in all."""

_WORDS = """
# headers of C, up to C23: such a file in a folder of headers would stand before them
assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbit
stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
# headers of POSIX and of C libraries
aio alloca byteswap cpio devctl dirent dlfcn elf endian err error fcntl features fmtmsg fnmatch fts ftw getopt glob
grp iconv langinfo libgen libintl link malloc memory monetary mqueue ndbm netdb nl_types paths poll pthread pwd regex
regexp resolv sched search semaphore shadow spawn strings stropts sysexits syslog tar termios trace syscall syslimits
ucontext ulimit unistd utime utmp utmpx values wait wordexp
# keywords of C
alignas alignof auto bool break case char const constexpr continue default do double else enum extern false for goto
if inline int long nullptr register restrict return short signed sizeof static static_assert struct switch thread_local
true typedef typeof typeof_unqual union unsigned void volatile while asm fortran
# keywords of C++, and words that mean something in their place
and and_eq atomic_cancel atomic_commit atomic_noexcept bitand bitor catch char8_t char16_t char32_t class co_await
co_return co_yield compl concept const_cast consteval constinit contract_assert decltype delete dynamic_cast explicit
export final friend import module mutable namespace new noexcept not not_eq operator or or_eq override private
protected public reflexpr reinterpret_cast requires static_cast synchronized template this throw try typeid typename
using virtual wchar_t xor xor_eq std
# the program's own file, and names that Windows keeps for devices
main con prn aux nul com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9
"""

RESERVED = frozenset(word for line in _WORDS.splitlines() if not line.startswith("#") for word in line.split())
"""What no model may be called in C or C++."""


def is_model_name(name: str) -> bool:
    """Whether files and identifiers may begin with a name: none shadows a header, a keyword or the decoder."""
    return (
        re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) is not None
        and name not in RESERVED
        and not re.match(r"cwb(_|$)", name)
    )


def identifiers(names: Iterable[str]) -> tuple[str, ...]:
    """An identifier for each name: upper case, all different. Use them with a prefix: some begin with a digit."""
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    out = []
    for name in names:
        base = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").upper()[:MAX_IDENTIFIER] or "UNNAMED"
        unique = base
        while unique in taken:
            repeats[base] = repeats.get(base, 1) + 1
            unique = f"{base}_{repeats[base]}"
        taken.add(unique)
        out.append(unique)
    return tuple(out)


def comment_text(text: str) -> str:
    r"""Make ``text`` fit for a comment or string: all but harmless ASCII becomes ``\u{...}`` without its backslash.

    The result has no comment mark, trigraph, quote, backslash or line break.
    """
    return re.sub(r"[^0-9A-Za-z_.:/#@()\[\], +=-]", lambda match: f"u{{{ord(match[0]):X}}}", text)


def float_literal(value: float) -> str:
    """A float32 as the shortest literal of type float that reads back as the same bits."""
    return f"{np.float32(value)}f"


def byte_array(data: bytes, per_line: int = 20) -> str:
    """The initialiser of an array of bytes."""
    lines = (data[start : start + per_line] for start in range(0, len(data), per_line))
    return "{\n" + ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in line) for line in lines) + "}"


def int_array(values: Sequence[int], per_line: int = 8) -> str:
    """The initialiser of an array of int32; C has no literal for the smallest of them."""
    texts = [str(value) if value != -(2**31) else "INT32_MIN" for value in values]
    lines = (texts[start : start + per_line] for start in range(0, len(texts), per_line))
    return "{\n" + ",\n".join("    " + ", ".join(line) for line in lines) + "}"
