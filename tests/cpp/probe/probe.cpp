/* SPDX-License-Identifier: Apache-2.0
 *
 * probe run MODEL BASE INPUT.f32 DIM...: the first output of a model, as float32 bytes. MODEL is a .cwb file or an ONNX model, BASE
 *     that of a delta, else "-"; the file is read from memory, and forgotten before the session runs.
 * probe time MODEL.cwb MODEL.onnx TIMES: opens sessions of both in turn, and prints the least seconds of each, of the
 *     clock and then of the processor.
 * probe memory MODEL: opens a session and prints the most kilobytes that the process has taken (Linux).
 *
 * Exit code: that of classify.
 */
#include "cwb_ort.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>

static bool is_cwb(const std::string &path)
{
    return std::filesystem::path(path).extension() == ".cwb";
}

static Ort::Session of_onnx(const Ort::Env &env, const std::string &path)
{
    return Ort::Session(env, std::filesystem::path(path).c_str(), Ort::SessionOptions());
}

static void run(const Ort::Env &env, char **argv, int dims)
{
    std::optional<cwb::Session> ours;
    std::optional<Ort::Session> plain;

    if (is_cwb(argv[0])) {
        std::vector<std::uint8_t> file = cwb::detail::read(argv[0]);
        cwb::Options options;

        options.threads = 3;
        if (std::strcmp(argv[1], "-") != 0) {
            options.base = cwb::detail::read(argv[1]);
        }
        ours.emplace(cwb::load(env, file.data(), file.size(), Ort::SessionOptions(), options));
        std::fill(file.begin(), file.end(), std::uint8_t{0});
    } else {
        plain.emplace(of_onnx(env, argv[0]));
    }
    Ort::Session &session = ours ? **ours : *plain;
    std::vector<std::uint8_t> bytes = cwb::detail::read(argv[2]);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::vector<std::int64_t> shape;

    std::memcpy(values.data(), bytes.data(), bytes.size());
    for (int i = 0; i < dims; i++) {
        shape.push_back(std::atoll(argv[3 + i]));
    }
    Ort::AllocatorWithDefaultOptions allocator;
    const auto input = session.GetInputNameAllocated(0, allocator), output = session.GetOutputNameAllocated(0, allocator);
    const char *inputs[] = {input.get()}, *outputs[] = {output.get()};
    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value batch = Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
    const std::vector<Ort::Value> answers = session.Run(Ort::RunOptions{nullptr}, inputs, &batch, 1, outputs, 1);

    std::fwrite(answers[0].GetTensorData<float>(), sizeof(float), answers[0].GetTensorTypeAndShapeInfo().GetElementCount(), stdout);
}

/* The least seconds of several times: of the clock, and of the processor, all threads together. */
struct Best {
    double clock = 1e9, processor = 1e9;

    template <typename Open>
    void add(const Open &open)
    {
        const auto start = std::chrono::steady_clock::now();
        const std::clock_t before = std::clock();
        const auto session = open();

        (void)session;
        clock = std::min(clock, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        processor = std::min(processor, static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
    }
};

static void time_both(const Ort::Env &env, const std::string &ours, const std::string &plain, int times)
{
    Best best[2];

    for (int i = 0; i < times; i++) {
        best[0].add([&] { return cwb::load(env, ours); });
        best[1].add([&] { return of_onnx(env, plain); });
    }
    std::printf("%.6f %.6f %.6f %.6f\n", best[0].clock, best[1].clock, best[0].processor, best[1].processor);
}

static void print_memory()
{
    std::ifstream status("/proc/self/status");

    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmHWM:", 0) == 0) {
            std::printf("%ld\n", std::atol(line.c_str() + 6));
        }
    }
}

int main(int argc, char **argv)
{
    const std::string command = argc > 2 ? argv[1] : "";

    try {
        Ort::Env env;

        if (command == "run" && argc > 5) {
            run(env, argv + 2, argc - 5);
        } else if (command == "time" && argc == 5) {
            time_both(env, argv[2], argv[3], std::atoi(argv[4]));
        } else if (command == "memory" && argc == 3 && is_cwb(argv[2])) {
            const cwb::Session session = cwb::load(env, argv[2]);
            print_memory();
        } else if (command == "memory" && argc == 3) {
            const Ort::Session session = of_onnx(env, argv[2]);
            print_memory();
        } else {
            return 2;
        }
    } catch (const cwb::Error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return error.code() == 0 ? 2 : 4;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
