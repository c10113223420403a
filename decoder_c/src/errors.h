/* SPDX-License-Identifier: Apache-2.0
 *
 * The error codes in words.
 */
#ifndef CWB_ERRORS_H
#define CWB_ERRORS_H

#include "cwb.h"

const char *cwb_strerror(cwb_error error)
{
    switch (error) {
    case CWB_OK:
        return "no error";
    case CWB_ERR_MAGIC:
        return "not a .cwb file";
    case CWB_ERR_VERSION:
        return "written in a newer version of the format, or a delta";
    case CWB_ERR_TRUNCATED:
        return "the file is shorter than its header says";
    case CWB_ERR_TRAILING:
        return "the file is longer than its header says";
    case CWB_ERR_HEADER_CRC:
        return "the header or the directory is damaged (CRC)";
    case CWB_ERR_DIRECTORY:
        return "the directory's records do not fit or are out of order";
    case CWB_ERR_LAYOUT:
        return "directory and payloads do not fill the file";
    case CWB_ERR_SHAPE:
        return "dimensions or size of a tensor not allowed";
    case CWB_ERR_NAME:
        return "names of tensors not allowed, or not one for each";
    case CWB_ERR_GRID:
        return "step, exponents or largest symbol of a tensor not allowed";
    case CWB_ERR_PAYLOAD_CRC:
        return "the payload is damaged (CRC)";
    case CWB_ERR_TABLE:
        return "the frequency table is invalid";
    case CWB_ERR_STREAM:
        return "the coded stream is damaged";
    case CWB_ERR_RANGE:
        return "symbols do not fit int8";
    case CWB_ERR_SPACE:
        return "scratch or output memory too small";
    case CWB_ERR_ARGUMENT:
        return "invalid argument";
    case CWB_ERR_NOT_FOUND:
        return "no such tensor or section";
    case CWB_ERR_KIND:
        return "a raw tensor has no symbols, or its coder was left out";
    case CWB_ERR_BASE:
        return "no delta, or a delta for another base";
    }
    return "unknown error";
}

#endif
