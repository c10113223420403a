"""The machines: how ziglang compiles for them and how unicorn runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import unicorn as uc
from unicorn import arm_const, mips_const, ppc_const, riscv_const


def _thumb(half: int) -> int:
    return 4 if half >> 11 >= 0b11101 else 2


def _compressed(half: int) -> int:
    return 4 if half & 3 == 3 else 2


def _fixed(_half: int) -> int:
    return 4


@dataclass(frozen=True)
class Target:
    """A machine that is emulated.

    ``length`` tells the bytes of an instruction by its first half-word. ``first`` is the register of a function's first
    argument and ``result`` that of its value; ``link`` holds the return address, ``callee`` the function's own.
    """

    name: str
    zig: tuple[str, ...]
    arch: int
    mode: int
    cpu: int | None
    first: int
    result: int
    link: int
    stack: int
    pc: int
    length: Callable[[int], int] = _fixed
    big: bool = False
    thumb: bool = False
    callee: int | None = None
    headers: tuple[str, ...] = ()
    """What to compile with in place of ``zig`` for the headers of a C library; same machine, same calls."""

    @property
    def order(self) -> str:
        """Byte order as ``struct`` writes it."""
        return ">" if self.big else "<"


def _arm(name: str, cpu: str, model: int) -> Target:
    # UC_MODE_MCLASS would force a Cortex-M33, whatever the model.
    return Target(
        name,
        ("-target", "thumb-freestanding-eabi", f"-mcpu={cpu}"),
        uc.UC_ARCH_ARM,
        uc.UC_MODE_THUMB,
        model,
        arm_const.UC_ARM_REG_R0,
        arm_const.UC_ARM_REG_R0,
        arm_const.UC_ARM_REG_LR,
        arm_const.UC_ARM_REG_SP,
        arm_const.UC_ARM_REG_PC,
        _thumb,
        thumb=True,
    )


M0 = _arm("Cortex-M0", "cortex_m0", arm_const.UC_CPU_ARM_CORTEX_M0)
M4 = _arm("Cortex-M4", "cortex_m4", arm_const.UC_CPU_ARM_CORTEX_M4)
M33 = _arm("Cortex-M33", "cortex_m33", arm_const.UC_CPU_ARM_CORTEX_M33)
RV32 = Target(
    "RV32IMC",
    ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c"),
    uc.UC_ARCH_RISCV,
    uc.UC_MODE_RISCV32,
    riscv_const.UC_CPU_RISCV32_ANY,
    riscv_const.UC_RISCV_REG_A0,
    riscv_const.UC_RISCV_REG_A0,
    riscv_const.UC_RISCV_REG_RA,
    riscv_const.UC_RISCV_REG_SP,
    riscv_const.UC_RISCV_REG_PC,
    _compressed,
)
M4F = replace(
    M4,
    name="Cortex-M4F",
    zig=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    headers=("-target", "thumb-linux-musleabihf", "-mcpu=cortex_m4+vfp4d16sp"),
)
M33F = replace(
    M33,
    name="Cortex-M33F",
    zig=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m33+fp_armv8d16sp"),
    headers=("-target", "thumb-linux-musleabihf", "-mcpu=cortex_m33+fp_armv8d16sp"),
)
RUNNERS = (M4F, M33F, replace(RV32, headers=("-target", "riscv32-linux-musl", *RV32.zig[2:])))
"""The machines that run whole models: two with a unit for float32, and one without."""

PPC = Target(
    "PowerPC",
    ("-target", "powerpc-freestanding-eabi"),
    uc.UC_ARCH_PPC,
    uc.UC_MODE_PPC32 | uc.UC_MODE_BIG_ENDIAN,
    None,
    ppc_const.UC_PPC_REG_3,
    ppc_const.UC_PPC_REG_3,
    ppc_const.UC_PPC_REG_LR,
    ppc_const.UC_PPC_REG_1,
    ppc_const.UC_PPC_REG_PC,
    big=True,
)
MIPS = Target(
    "MIPS32",
    ("-target", "mips-freestanding-eabi"),
    uc.UC_ARCH_MIPS,
    uc.UC_MODE_MIPS32 | uc.UC_MODE_BIG_ENDIAN,
    None,
    mips_const.UC_MIPS_REG_A0,
    mips_const.UC_MIPS_REG_V0,
    mips_const.UC_MIPS_REG_RA,
    mips_const.UC_MIPS_REG_SP,
    mips_const.UC_MIPS_REG_PC,
    big=True,
    callee=mips_const.UC_MIPS_REG_T9,
)

EMULATED = (M0, M4, M33, RV32, PPC, MIPS)
BY_NAME = {target.name: target for target in EMULATED}

COMPILED_ONLY = {
    "AVR": ("-target", "avr-freestanding-none", "-mmcu=atmega328p"),
    "MSP430": ("-target", "msp430-freestanding-none"),
}
"""16-bit ints: no emulator, but every warning counts."""
