/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for the header of this name, which comes with onnxruntime's releases but not with its Python wheel: as much of
 * it as cwb_ort.hpp and the example use, so that both can be built wherever the library alone is at hand. Use the real one if
 * you have it: nothing else changes.
 *
 * onnxruntime's C interface is a table of functions whose order never changes; later versions append to it. The numbers below are
 * places in that table, as of version 12 (onnxruntime 1.12).
 */
#ifndef CWB_STAND_IN_ONNXRUNTIME_CXX_API_H
#define CWB_STAND_IN_ONNXRUNTIME_CXX_API_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtMemoryInfo;
struct OrtValue;
struct OrtAllocator;
struct OrtTensorTypeAndShapeInfo;

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_VERBOSE, ORT_LOGGING_LEVEL_INFO, ORT_LOGGING_LEVEL_WARNING, ORT_LOGGING_LEVEL_ERROR };
enum OrtAllocatorType { OrtDeviceAllocator = 0, OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum ONNXTensorElementDataType { ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT };

#if defined(_WIN32)
#define CWB_ORT_CALL __stdcall
#define ORTCHAR_T wchar_t
#else
#define CWB_ORT_CALL
#define ORTCHAR_T char
#endif

struct OrtApiBase {
    const void *const *(CWB_ORT_CALL *GetApi)(std::uint32_t version);
    const char *(CWB_ORT_CALL *GetVersionString)();
};

extern "C" const OrtApiBase *CWB_ORT_CALL OrtGetApiBase();

namespace Ort {

class Exception : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace detail {

constexpr std::uint32_t version = 12;

enum Place : std::size_t {
    get_error_message = 2,
    create_env = 3,
    create_session = 7,
    create_session_from_array = 8,
    run = 9,
    create_session_options = 10,
    clone_session_options = 12,
    set_intra_op_num_threads = 24,
    session_get_input_name = 36,
    session_get_output_name = 37,
    create_tensor_with_data = 49,
    get_tensor_mutable_data = 51,
    get_tensor_shape_element_count = 64,
    get_tensor_type_and_shape = 65,
    create_cpu_memory_info = 69,
    allocator_free = 76,
    get_allocator_with_default_options = 78,
    release_env = 92,
    release_status = 93,
    release_memory_info = 94,
    release_session = 95,
    release_value = 96,
    release_tensor_type_and_shape_info = 99,
    release_session_options = 100,
    add_external_initializers = 210
};

inline void *function(Place place)
{
    static const void *const *const table = OrtGetApiBase()->GetApi(version);

    if (table == nullptr) {
        throw Exception("this onnxruntime is older than 1.12");
    }
    return const_cast<void *>(table[place]);
}

/* Calls a function that returns a status. */
template <typename... Parameters>
void call(Place place, Parameters... arguments)
{
    OrtStatus *status = reinterpret_cast<OrtStatus *(CWB_ORT_CALL *)(Parameters...)>(function(place))(arguments...);

    if (status != nullptr) {
        const char *text = reinterpret_cast<const char *(CWB_ORT_CALL *)(const OrtStatus *)>(function(get_error_message))(status);
        const std::string message(text);

        reinterpret_cast<void(CWB_ORT_CALL *)(OrtStatus *)>(function(release_status))(status);
        throw Exception(message);
    }
}

/* Owns an object of onnxruntime. */
template <typename T, Place release>
class Owner {
public:
    Owner() = default;
    Owner(Owner &&other) noexcept : p_(std::exchange(other.p_, nullptr))
    {
    }
    Owner &operator=(Owner &&other) noexcept
    {
        std::swap(p_, other.p_);
        return *this;
    }
    ~Owner()
    {
        if (p_ != nullptr) {
            reinterpret_cast<void(CWB_ORT_CALL *)(T *)>(function(release))(p_);
        }
    }
    operator T *() const noexcept
    {
        return p_;
    }

protected:
    T *p_ = nullptr;
};

} /* namespace detail */

struct Env : detail::Owner<OrtEnv, detail::release_env> {
    explicit Env(OrtLoggingLevel level = ORT_LOGGING_LEVEL_WARNING, const char *name = "")
    {
        detail::call<int, const char *, OrtEnv **>(detail::create_env, static_cast<int>(level), name, &p_);
    }
};

struct MemoryInfo : detail::Owner<OrtMemoryInfo, detail::release_memory_info> {
    static MemoryInfo CreateCpu(OrtAllocatorType allocator, OrtMemType type)
    {
        MemoryInfo info;
        detail::call<int, int, OrtMemoryInfo **>(detail::create_cpu_memory_info, static_cast<int>(allocator), static_cast<int>(type),
                                                 &info.p_);
        return info;
    }
};

struct TensorTypeAndShapeInfo : detail::Owner<OrtTensorTypeAndShapeInfo, detail::release_tensor_type_and_shape_info> {
    explicit TensorTypeAndShapeInfo(const OrtValue *value)
    {
        detail::call<const OrtValue *, OrtTensorTypeAndShapeInfo **>(detail::get_tensor_type_and_shape, value, &p_);
    }
    std::size_t GetElementCount() const
    {
        std::size_t count = 0;
        detail::call<const OrtTensorTypeAndShapeInfo *, std::size_t *>(detail::get_tensor_shape_element_count, p_, &count);
        return count;
    }
};

struct Value : detail::Owner<OrtValue, detail::release_value> {
    explicit Value(OrtValue *value = nullptr)
    {
        p_ = value;
    }
    static Value CreateTensor(const OrtMemoryInfo *info, void *data, std::size_t bytes, const std::int64_t *shape, std::size_t rank,
                              ONNXTensorElementDataType type)
    {
        Value value;
        detail::call<const OrtMemoryInfo *, void *, std::size_t, const std::int64_t *, std::size_t, int, OrtValue **>(
            detail::create_tensor_with_data, info, data, bytes, shape, rank, static_cast<int>(type), &value.p_);
        return value;
    }
    template <typename T>
    static Value CreateTensor(const OrtMemoryInfo *info, T *data, std::size_t count, const std::int64_t *shape, std::size_t rank)
    {
        static_assert(std::is_same<T, float>::value, "the stand-in knows float alone");
        return CreateTensor(info, data, count * sizeof(T), shape, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    }
    template <typename T>
    const T *GetTensorData() const
    {
        void *data = nullptr;
        detail::call<OrtValue *, void **>(detail::get_tensor_mutable_data, p_, &data);
        return static_cast<const T *>(data);
    }
    TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const
    {
        return TensorTypeAndShapeInfo(p_);
    }
};

struct SessionOptions : detail::Owner<OrtSessionOptions, detail::release_session_options> {
    SessionOptions()
    {
        detail::call<OrtSessionOptions **>(detail::create_session_options, &p_);
    }
    explicit SessionOptions(std::nullptr_t)
    {
    }
    SessionOptions Clone() const
    {
        SessionOptions copy(nullptr);
        detail::call<const OrtSessionOptions *, OrtSessionOptions **>(detail::clone_session_options, p_, &copy.p_);
        return copy;
    }
    SessionOptions &SetIntraOpNumThreads(int threads)
    {
        detail::call<OrtSessionOptions *, int>(detail::set_intra_op_num_threads, p_, threads);
        return *this;
    }
    SessionOptions &AddExternalInitializers(const std::vector<std::string> &names, const std::vector<Value> &values)
    {
        std::vector<const char *> texts;
        std::vector<const OrtValue *> given;

        for (std::size_t i = 0; i < names.size(); i++) {
            texts.push_back(names[i].c_str());
            given.push_back(values[i]);
        }
        detail::call<OrtSessionOptions *, const char *const *, const OrtValue *const *, std::size_t>(
            detail::add_external_initializers, p_, texts.data(), given.data(), names.size());
        return *this;
    }
};

struct RunOptions {
    explicit RunOptions(std::nullptr_t)
    {
    }
};

struct AllocatorWithDefaultOptions {
    AllocatorWithDefaultOptions()
    {
        detail::call<OrtAllocator **>(detail::get_allocator_with_default_options, &p_);
    }
    operator OrtAllocator *() const noexcept
    {
        return p_;
    }

private:
    OrtAllocator *p_ = nullptr;
};

struct FreeByAllocator {
    OrtAllocator *allocator;

    void operator()(char *text) const
    {
        detail::call<OrtAllocator *, void *>(detail::allocator_free, allocator, text);
    }
};

using AllocatedStringPtr = std::unique_ptr<char, FreeByAllocator>;

struct Session : detail::Owner<OrtSession, detail::release_session> {
    Session(const Env &env, const void *model, std::size_t size, const SessionOptions &options)
    {
        detail::call<const OrtEnv *, const void *, std::size_t, const OrtSessionOptions *, OrtSession **>(
            detail::create_session_from_array, env, model, size, options, &p_);
    }
    Session(const Env &env, const ORTCHAR_T *path, const SessionOptions &options)
    {
        detail::call<const OrtEnv *, const ORTCHAR_T *, const OrtSessionOptions *, OrtSession **>(detail::create_session, env, path,
                                                                                                  options, &p_);
    }
    AllocatedStringPtr GetInputNameAllocated(std::size_t index, OrtAllocator *allocator) const
    {
        return name(detail::session_get_input_name, index, allocator);
    }
    AllocatedStringPtr GetOutputNameAllocated(std::size_t index, OrtAllocator *allocator) const
    {
        return name(detail::session_get_output_name, index, allocator);
    }
    std::vector<Value> Run(const RunOptions &, const char *const *input_names, const Value *inputs, std::size_t input_count,
                           const char *const *output_names, std::size_t output_count)
    {
        std::vector<const OrtValue *> given(inputs, inputs + input_count);
        std::vector<OrtValue *> made(output_count, nullptr);
        std::vector<Value> outputs;

        detail::call<OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, std::size_t, const char *const *,
                     std::size_t, OrtValue **>(detail::run, p_, nullptr, input_names, given.data(), input_count, output_names,
                                               output_count, made.data());
        for (OrtValue *value : made) {
            outputs.emplace_back(value);
        }
        return outputs;
    }

private:
    AllocatedStringPtr name(detail::Place place, std::size_t index, OrtAllocator *allocator) const
    {
        char *text = nullptr;
        detail::call<const OrtSession *, std::size_t, OrtAllocator *, char **>(place, p_, index, allocator, &text);
        return AllocatedStringPtr(text, FreeByAllocator{allocator});
    }
};

} /* namespace Ort */

#endif
