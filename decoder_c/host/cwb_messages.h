/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of a serialized ONNX model as a tree of fields, that are read, changed and written as protobuf does it: known fields
 * by their numbers, unknown ones behind them.
 */
#ifndef CWB_MESSAGES_H
#define CWB_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

/* Kinds of messages that other files name; cwb_schema.h has all of them. */
enum { CWB_ATTRIBUTE, CWB_VALUE_INFO, CWB_NODE, CWB_MODEL, CWB_GRAPH_PROTO, CWB_FUNCTION, CWB_TENSOR_PROTO, CWB_STRING_ENTRY,
       CWB_KINDS = 28 };

/* Numbers of fields that are none of ONNX, and the kind of what is no message. */
enum {
    CWB_REPLACED = 254, /* a message that is read, as it must be sound, but is not part of the model */
    CWB_DROPPED = 0, /* not written: it was replaced, or is to come, or is a further piece of a message */
    CWB_UNKNOWN = 255,
    CWB_NO_MESSAGE = 255
};

/* A field. Those of a message stand side by side, and behind the message. */
typedef struct {
    const uint8_t *data; /* as read: content, or the values of a number; of unknown ones tag and all; null for elements that others write */
    size_t size;         /* of data; of a message that was measured, the bytes that its content takes */
    size_t place;        /* where the content is to be written */
    uint32_t first;      /* of a message: its fields */
    uint32_t count;
    uint32_t more;       /* of a message: a further piece of its content, or 0; else free for who reads names */
    uint8_t number;      /* or CWB_DROPPED, CWB_REPLACED, CWB_UNKNOWN */
    uint8_t type;        /* see cwb_schema.h */
    uint8_t kind;        /* of a message, or CWB_NO_MESSAGE */
    uint8_t depth;       /* messages around it */
} cwb_field;

enum { CWB_PRODUCER = 2 }; /* the ModelProto's field for the name of the program that wrote it */

typedef struct cwb_block cwb_block;

/* A tree, and the memory that its owner takes along with it. Begins with zeros; the first field is the ModelProto. A value of the
 * kind CWB_VALUE_INFO that has no name has a field for one, its last, with the number CWB_DROPPED. */
typedef struct {
    cwb_field *fields;
    uint32_t count, room;
    cwb_block *blocks;
    uint8_t starts[CWB_KINDS];
} cwb_tree;

/* `size` bytes that live as long as the tree, or null. */
void *cwb_tree_take(cwb_tree *tree, size_t size);

/* A copy of a text, with a NUL behind it, that lives so long, or null. */
const char *cwb_tree_copy(cwb_tree *tree, const uint8_t *text, size_t size);

void cwb_tree_free(cwb_tree *tree);

/* Reads a model of at most `most` fields: CWB_ONNX_ERR_MODEL, _LIMIT, _MEMORY. Graphs without a name get one, and the model a
 * field CWB_PRODUCER, as it was read: who makes names has to know it. */
int cwb_tree_read(cwb_tree *tree, const uint8_t *data, size_t size, uint64_t most);

/* Appends a field to a message: the fields of one must be appended one after the other. Its place in the tree, or 0 if memory is
 * short. */
uint32_t cwb_tree_add(cwb_tree *tree, uint32_t message, uint8_t number, const void *data, size_t size);

/* The first field of this number in a message behind field `after` (0: from the beginning), or 0. */
uint32_t cwb_tree_find(const cwb_tree *tree, uint32_t message, uint8_t number, uint32_t after);

/* Is the message's field this text? */
int cwb_tree_is(const cwb_tree *tree, uint32_t message, uint8_t number, const char *text);

/* How many numbers the message has in its fields of this number; the first `room` of them are written to `out`. */
uint32_t cwb_tree_numbers(const cwb_tree *tree, uint32_t message, uint8_t number, int64_t *out, uint32_t room);

/* Gives each field its place; the size of the model, or 0 if it is beyond `most`. */
size_t cwb_tree_lay_out(cwb_tree *tree, size_t most);

/* Writes all but the elements that others write. */
void cwb_tree_write(const cwb_tree *tree, uint8_t *out);

/* Writes a varint, at most 10 bytes, and returns how many. */
uint32_t cwb_put_varint(uint8_t *out, uint64_t value);

#endif
