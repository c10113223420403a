/* SPDX-License-Identifier: Apache-2.0
 *
 * cwb_ort: opens onnxruntime sessions from .cwb files. Header-only, C++17, over cwb_onnx.h and onnxruntime's own
 * onnxruntime_cxx_api.h.
 *
 *     Ort::Env env;
 *     cwb::Session session = cwb::load(env, "model.cwb");
 *     session->Run(...);
 *
 * Threads decode the tensors, straight into the memory that the session then reads: there is no copy of them, and no ONNX file.
 */
#ifndef CWB_ORT_HPP
#define CWB_ORT_HPP

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cwb_onnx.h"

namespace cwb {

/* What is wrong with a file, in one line; code() is that of cwb_onnx.h, or 0 if the file cannot be read. */
class Error : public std::runtime_error {
public:
    Error(int code, const std::string &where, const std::string &what) : std::runtime_error(where + ": " + what), code_(code)
    {
    }

    int code() const noexcept
    {
        return code_;
    }

private:
    int code_;
};

struct Options {
    unsigned threads = 0;               /* that decode; 0: as many as the machine has cores */
    std::vector<std::uint8_t> base;     /* the file that a delta changes */
    std::string name = "the .cwb file"; /* in messages */
};

/* A session, and the weights that it reads while it lives. */
class Session {
public:
    Ort::Session &operator*() noexcept
    {
        return session_;
    }

    Ort::Session *operator->() noexcept
    {
        return &session_;
    }

private:
    friend Session load(const Ort::Env &, const void *, std::size_t, const Ort::SessionOptions &, const Options &);

    Session(std::unique_ptr<std::uint8_t[]> weights, Ort::Session session)
        : weights_(std::move(weights)), session_(std::move(session))
    {
    }

    std::unique_ptr<std::uint8_t[]> weights_; /* released after the session, which stands behind it */
    Ort::Session session_;
};

namespace detail {

constexpr std::size_t apart_from = 1 << 16; /* bytes: smaller tensors are in the model that onnxruntime parses */
constexpr std::size_t alignment = 64;

struct Close {
    void operator()(cwb_onnx *model) const noexcept
    {
        cwb_onnx_close(model);
    }
};

using Model = std::unique_ptr<cwb_onnx, Close>;

inline void check(int error, const Options &options)
{
    if (error != CWB_OK) {
        throw Error(error, options.name, cwb_onnx_strerror(error));
    }
}

/* Decodes tensors to their places in memory, the largest first, by several threads. */
inline void decode(const cwb_onnx *model, std::vector<std::pair<std::size_t, cwb_onnx_tensor>> tensors, std::uint8_t *graph,
                   std::uint8_t *data, const Options &options)
{
    std::atomic<std::size_t> next{0};
    std::atomic<int> error{CWB_OK};
    const auto work = [&]() noexcept {
        for (std::size_t i = next++; i < tensors.size() && error == CWB_OK; i = next++) {
            const cwb_onnx_tensor &tensor = tensors[i].second;
            const int found = cwb_onnx_decode(model, tensors[i].first, (tensor.apart ? data : graph) + tensor.offset, tensor.size);

            if (found != CWB_OK) {
                error = found;
            }
        }
    };
    std::vector<std::thread> threads;

    std::sort(tensors.begin(), tensors.end(), [](const auto &a, const auto &b) { return a.second.size > b.second.size; });
    std::size_t count = options.threads > 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
    count = std::min(count, tensors.size());
    try {
        while (threads.size() + 1 < count) {
            threads.emplace_back(work);
        }
    } catch (const std::system_error &) { /* fewer threads then */
    }
    work();
    for (std::thread &thread : threads) {
        thread.join();
    }
    check(error, options);
}

inline std::vector<std::uint8_t> read(const std::filesystem::path &path)
{
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = stream ? static_cast<std::streamoff>(stream.tellg()) : -1;
    std::vector<std::uint8_t> bytes(size > 0 ? static_cast<std::size_t>(size) : 0);

    if (size < 0 || !stream.seekg(0) || (size > 0 && !stream.read(reinterpret_cast<char *>(bytes.data()), size))) {
        throw Error(0, path.string(), "cannot read the file");
    }
    return bytes;
}

} /* namespace detail */

/* Opens a session from the `size` bytes of a file at `file`, which it needs no longer when this function returns.
 * Throws Error if something is wrong with the file, Ort::Exception if onnxruntime cannot load the model, std::bad_alloc. */
inline Session load(const Ort::Env &env, const void *file, std::size_t size,
                    const Ort::SessionOptions &session_options = Ort::SessionOptions(), const Options &options = Options())
{
    cwb_onnx *opened = nullptr;
    detail::check(cwb_onnx_open(&opened, file, size, options.base.empty() ? nullptr : options.base.data(), options.base.size()),
                  options);
    const detail::Model model(opened);
    detail::check(cwb_onnx_apart(opened, "weights", detail::apart_from), options);

    const std::size_t graph_size = cwb_onnx_size(opened), data_size = cwb_onnx_data_size(opened);
    const std::unique_ptr<std::uint8_t[]> graph(new std::uint8_t[graph_size]);
    std::unique_ptr<std::uint8_t[]> weights(new std::uint8_t[data_size + detail::alignment]);
    std::uint8_t *data = weights.get() + detail::alignment - reinterpret_cast<std::uintptr_t>(weights.get()) % detail::alignment;
    std::vector<std::pair<std::size_t, cwb_onnx_tensor>> tensors;
    cwb_onnx_tensor tensor;
    for (std::size_t i = 0; cwb_onnx_tensor_at(opened, i, &tensor) == CWB_OK; i++) {
        tensors.emplace_back(i, tensor);
    }
    detail::check(cwb_onnx_frame(opened, graph.get(), graph_size), options);
    detail::decode(opened, tensors, graph.get(), data, options);

    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<std::string> names;
    std::vector<Ort::Value> values;
    for (const auto &[index, apart] : tensors) {
        if (apart.apart && apart.is_read) { /* onnxruntime refuses what nothing reads */
            names.emplace_back(apart.name, apart.name_length);
            values.push_back(Ort::Value::CreateTensor(memory, data + apart.offset, apart.size, apart.dims, apart.rank,
                                                      static_cast<ONNXTensorElementDataType>(apart.type)));
        }
    }
    Ort::SessionOptions own = session_options.Clone();
    if (!names.empty()) {
        own.AddExternalInitializers(names, values);
    }
    return Session(std::move(weights), Ort::Session(env, graph.get(), graph_size, own));
}

/* The same from a file; of a delta, with its base, if that is not empty. Throws Error, too, if one cannot be read. */
inline Session load(const Ort::Env &env, const std::filesystem::path &path,
                    const Ort::SessionOptions &session_options = Ort::SessionOptions(), const std::filesystem::path &base = {})
{
    const std::vector<std::uint8_t> file = detail::read(path);
    Options options;

    options.name = path.string();
    if (!base.empty()) {
        options.base = detail::read(base);
    }
    return load(env, file.data(), file.size(), session_options, options);
}

} /* namespace cwb */

#endif
