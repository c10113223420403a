/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_onnx.h. A file is opened in these steps: directory, names, graph section, messages, placeholders, names of values, layout.
 */
#include "cwb_onnx.h"

#include "cwb_graph.h"
#include "cwb_sections.h"
#include "cwb_strings.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

#define MOST_BYTES INT32_MAX              /* of a protobuf message */
#define MOST_ELEMENTS (UINT32_C(1) << 29) /* of a coded tensor */

struct cwb_onnx {
    cwb_delta files; /* of a file that is no delta, itself twice */
    cwb_tree tree;
    uint8_t *text; /* memory that the graph's strings are in */
    cwb_members tensors;
    size_t size, data_size;
    int is_delta, has_graph;
};

const char *cwb_onnx_strerror(int error)
{
    switch (error) {
    case CWB_ONNX_ERR_MEMORY:
        return "not enough memory";
    case CWB_ONNX_ERR_PACKED:
        return "the graph section is damaged: it cannot be unpacked";
    case CWB_ONNX_ERR_MODEL:
        return "the graph section is not an ONNX model: the file is damaged";
    case CWB_ONNX_ERR_TENSORS:
        return "the graph section does not fit the tensors: the file is damaged";
    case CWB_ONNX_ERR_REFERENCE:
        return "the graph section refers to a name that it does not have: the file is damaged";
    case CWB_ONNX_ERR_OUTSIDE:
        return "the graph section refers to data outside the file: do not trust it";
    case CWB_ONNX_ERR_LIMIT:
        return "the file would become larger than the format allows: do not trust it";
    case CWB_ONNX_ERR_NO_GRAPH:
        return "the file holds weights only, no graph: no ONNX model can be made of it";
    case CWB_ONNX_ERR_LARGE:
        return "the model exceeds protobuf's limit of 2 GB: put its tensors apart";
    default:
        return cwb_strerror((cwb_error)error);
    }
}

/* Opens the files and checks the CRCs of their sections. */
static int open_files(cwb_onnx *model, const void *file, size_t size, const void *base, size_t base_size)
{
    int error, kind;

    if (base != NULL) {
        cwb_file opened;

        error = cwb_open(&opened, base, base_size);
        if (error == CWB_OK) {
            error = cwb_delta_open(&model->files, file, size, &opened);
        }
        model->is_delta = 1;
    } else {
        error = cwb_open(&model->files.file, file, size);
        model->files.base = model->files.file;
    }
    for (kind = CWB_GRAPH; kind < 128 && error == CWB_OK; kind++) {
        const uint8_t *data;
        uint32_t section_size;

        /* NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): it finds sections of any kind */
        error = cwb_section(&model->files.base, (cwb_kind)kind, &data, &section_size);
        error = error == CWB_ERR_NOT_FOUND ? CWB_OK : error;
    }
    return error;
}

/* Reads the names, and the graph section if there is one. */
static int read_sections(cwb_onnx *model)
{
    const cwb_file *file = &model->files.base;
    const uint8_t *names, *graph = NULL;
    uint32_t names_size, packed = 0;
    size_t graph_size = 0;
    int error = CWB_OK, named = cwb_section(file, CWB_NAMES, &names, &names_size) == CWB_OK;

    model->has_graph = cwb_section(file, CWB_GRAPH, &graph, &packed) == CWB_OK;
    if (model->has_graph) {
        graph_size = packed;
        error = cwb_unpack_section(file->version, &graph, &graph_size, &model->text);
    }
    if (error == CWB_OK && named) {
        const uint8_t *end = names + names_size;

        error = cwb_name_members(&model->tree, &model->tensors, &names, end);
        error = error == CWB_OK && names != end ? CWB_ERR_NAME : error;
    } else if (error == CWB_OK && model->has_graph) {
        const uint8_t *end = graph + graph_size;

        error = cwb_name_members(&model->tree, &model->tensors, &graph, end);
        graph_size = error == CWB_OK ? (size_t)(end - graph) : 0;
    } else if (error == CWB_OK) {
        error = cwb_number_members(&model->tree, &model->tensors);
    }
    if (error == CWB_OK && model->has_graph) {
        error = cwb_graph_read(&model->tree, graph, graph_size, packed, &model->tensors);
    }
    return error;
}

/* Says where the elements of all tensors belong. */
static void lay_out(cwb_onnx *model)
{
    size_t i;

    model->size = cwb_tree_lay_out(&model->tree, MOST_BYTES);
    for (i = 0; i < model->tensors.count; i++) {
        cwb_member *t = &model->tensors.list[i];

        if (!t->info.apart) {
            t->info.offset = model->tree.fields[t->raw].place;
        }
    }
}

int cwb_onnx_open(cwb_onnx **model, const void *file, size_t size, const void *base, size_t base_size)
{
    cwb_onnx *opened;
    int error;

    if (model == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    *model = NULL;
    opened = malloc(sizeof *opened);
    if (opened == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    memset(opened, 0, sizeof *opened);
    error = open_files(opened, file, size, base, base_size);
    if (error == CWB_OK) {
        error = cwb_read_members(&opened->tree, &opened->files, opened->is_delta, &opened->tensors);
    }
    if (error == CWB_OK) {
        error = read_sections(opened);
    }
    if (error != CWB_OK) {
        cwb_onnx_close(opened);
        return error;
    }
    if (opened->has_graph) {
        lay_out(opened);
    }
    *model = opened;
    return CWB_OK;
}

void cwb_onnx_close(cwb_onnx *model)
{
    if (model != NULL) {
        cwb_tree_free(&model->tree);
        free(model->text);
        free(model);
    }
}

int cwb_onnx_has_graph(const cwb_onnx *model)
{
    return model->has_graph;
}

size_t cwb_onnx_tensors(const cwb_onnx *model)
{
    return model->tensors.count;
}

int cwb_onnx_tensor_at(const cwb_onnx *model, size_t index, cwb_onnx_tensor *tensor)
{
    if (index >= model->tensors.count) {
        return CWB_ERR_NOT_FOUND;
    }
    *tensor = model->tensors.list[index].info;
    return CWB_OK;
}

int cwb_onnx_apart(cwb_onnx *model, const char *location, size_t least)
{
    const char *own = location != NULL ? cwb_tree_copy(&model->tree, (const uint8_t *)location, strlen(location)) : NULL;
    uint64_t end = 0;
    size_t i;

    if (!model->has_graph) {
        return CWB_ONNX_ERR_NO_GRAPH;
    }
    if (location != NULL && (own == NULL || !cwb_is_utf8((const uint8_t *)own, strlen(own)))) {
        return own == NULL ? CWB_ONNX_ERR_MEMORY : CWB_ERR_ARGUMENT;
    }
    for (i = 0; i < model->tensors.count; i++) {
        cwb_member *t = &model->tensors.list[i];
        int apart = own != NULL && t->is_initializer && t->info.size >= least;

        if (apart) {
            end += -end % PAGE;
            t->info.offset = (size_t)end;
            end += t->info.size;
        }
        if (end > SIZE_MAX) {
            return CWB_ONNX_ERR_LARGE;
        }
        if (!cwb_graph_put(&model->tree, t, apart ? own : NULL, t->info.offset)) {
            return CWB_ONNX_ERR_MEMORY;
        }
    }
    model->data_size = (size_t)end;
    lay_out(model);
    return CWB_OK;
}

size_t cwb_onnx_size(const cwb_onnx *model)
{
    return model->size;
}

size_t cwb_onnx_data_size(const cwb_onnx *model)
{
    return model->data_size;
}

int cwb_onnx_frame(const cwb_onnx *model, void *out, size_t capacity)
{
    if (model->size == 0) {
        return model->has_graph ? CWB_ONNX_ERR_LARGE : CWB_ONNX_ERR_NO_GRAPH;
    }
    if (capacity < model->size) {
        return CWB_ERR_SPACE;
    }
    cwb_tree_write(&model->tree, out);
    return CWB_OK;
}

int cwb_onnx_bytes(const cwb_onnx *model, void *out, size_t capacity)
{
    int error = cwb_onnx_frame(model, out, capacity);
    size_t i;

    for (i = 0; i < model->tensors.count && error == CWB_OK; i++) {
        const cwb_onnx_tensor *info = &model->tensors.list[i].info;

        if (!info->apart) {
            error = cwb_onnx_decode(model, i, (uint8_t *)out + info->offset, info->size);
        }
    }
    return error;
}

int cwb_onnx_decode(const cwb_onnx *model, size_t index, void *out, size_t capacity)
{
    const cwb_member *t;

    if (index >= model->tensors.count) {
        return CWB_ERR_NOT_FOUND;
    }
    t = &model->tensors.list[index];
    if (capacity < t->info.size) {
        return CWB_ERR_SPACE;
    }
    if (t->stored.tensor.kind != CWB_RAW && t->stored.tensor.count > MOST_ELEMENTS) {
        return CWB_ONNX_ERR_LIMIT;
    }
    return cwb_decode_elements(&t->stored, &t->target, out);
}
