/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs that go wrong, each in one way: the emulated machine must notice. volatile keeps the accesses.
 */
#include <stdint.h>

#define AT(type, address) (*(volatile type *)(uintptr_t)(address))

uint32_t fault_none(uint32_t value)
{
    return value + 1;
}

uint32_t fault_read_byte(uint32_t address)
{
    return AT(uint8_t, address);
}

uint32_t fault_write_byte(uint32_t address)
{
    AT(uint8_t, address) = 1;
    return 0;
}

uint32_t fault_read_word(uint32_t address)
{
    return AT(uint32_t, address);
}

uint32_t fault_read_half(uint32_t address)
{
    return AT(uint16_t, address);
}

uint32_t fault_stack(uint32_t bytes)
{
    volatile uint8_t local[256];
    uint32_t i;

    for (i = 0; i < sizeof local; i++) {
        local[i] = (uint8_t)bytes;
    }
    return bytes <= sizeof local ? local[0] : fault_stack(bytes - sizeof local) + local[bytes % sizeof local];
}

uint32_t fault_loop(uint32_t forever)
{
    volatile uint32_t turns = forever;

    while (turns != 0) {
        turns = forever;
    }
    return 0;
}

uint32_t fault_count(uint32_t turns)
{
    volatile uint32_t sum = 0;

    while (turns-- > 0) {
        sum += turns % 3 == 0 ? turns : 1;
    }
    return sum;
}

#ifdef __arm__
/* mov.w r0, #1 and nothing else: exists on ARMv7-M and ARMv8-M, not on ARMv6-M. */
uint32_t fault_thumb2(uint32_t unused)
{
    uint32_t result = unused;

    __asm__ volatile(".short 0xf04f, 0x0001\n\tmovs %0, r0" : "=l"(result) : : "r0", "cc");
    return result;
}
#endif
