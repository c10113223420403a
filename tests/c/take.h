/* SPDX-License-Identifier: Apache-2.0
 *
 * What the programs beside this file read from stdin.
 */
#ifndef TAKE_H
#define TAKE_H

#include <stdio.h>
#include <stdlib.h>

/* Reads so many items into memory of their exact size, for the sanitizers; ends the program if there are fewer. */
static void *take(size_t count, size_t size)
{
    void *memory = malloc(count * size);

    if (memory == NULL || fread(memory, size, count, stdin) != count) {
        exit(2);
    }
    return memory;
}

#endif
