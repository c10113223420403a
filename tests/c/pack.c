/* SPDX-License-Identifier: Apache-2.0
 *
 * pack primer_size code_size size...: reads a primer and a code from stdin and, for each size, decodes a content of so many bytes
 * into memory of exactly that size, for the sanitizers; writes what cwb_unpack returns and, if that is 1, codes it again, which must
 * give the same code, with room for it and without.
 */
#include "../../decoder_c/host/cwb_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *room(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    if (memory == NULL) {
        exit(2);
    }
    return memory;
}

int main(int argc, char **argv)
{
    size_t primer_size = (size_t)atoi(argv[1]), code_size = (size_t)atoi(argv[2]);
    uint8_t *primer = room(primer_size), *code = room(code_size), *again = room(code_size);
    cwb_pack_model *model = room(cwb_pack_model_bytes());
    int i;

    if (fread(primer, 1, primer_size, stdin) != primer_size || fread(code, 1, code_size, stdin) != code_size) {
        return 2;
    }
    for (i = 3; i < argc; i++) {
        size_t size = (size_t)atoi(argv[i]);
        uint8_t *text = room(primer_size + size);
        int sound;

        memcpy(text, primer, primer_size);
        cwb_pack_prime(model, text, primer_size);
        sound = cwb_unpack(model, text, size, code, code_size);
        printf("%d", sound);
        if (sound) {
            cwb_pack_prime(model, text, primer_size);
            if (cwb_pack(model, text, size, again, code_size) != code_size || memcmp(again, code, code_size) != 0) {
                return 3;
            }
            cwb_pack_prime(model, text, primer_size);
            if (cwb_pack(model, text, size, again, 0) != code_size) {
                return 3;
            }
        }
        free(text);
    }
    free(primer), free(code), free(again), free(model);
    return 0;
}
