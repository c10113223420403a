/* SPDX-License-Identifier: Apache-2.0
 *
 * classify MODEL.cwb IMAGES.f32 CHANNELS HEIGHT WIDTH: opens a session from a .cwb file and prints the class of each image, one a line.
 * The images are float32 numbers, one image after the other.
 *
 * Exit code: 0 done, 1 onnxruntime failed, 2 wrong usage or a file that cannot be read, 4 the .cwb file is damaged.
 */
#include "cwb_ort.hpp"

#include <cstdio>
#include <cstdlib>

/* The classes of a batch of images. */
static std::vector<std::ptrdiff_t> classify(Ort::Session &session, std::vector<float> &images, const std::int64_t (&size)[3])
{
    const std::int64_t count = static_cast<std::int64_t>(images.size()) / (size[0] * size[1] * size[2]);
    const std::int64_t shape[] = {count, size[0], size[1], size[2]};
    Ort::AllocatorWithDefaultOptions allocator;
    const auto input = session.GetInputNameAllocated(0, allocator), output = session.GetOutputNameAllocated(0, allocator);
    const char *inputs[] = {input.get()}, *outputs[] = {output.get()};
    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value batch = Ort::Value::CreateTensor<float>(memory, images.data(), images.size(), shape, 4);
    const std::vector<Ort::Value> answers = session.Run(Ort::RunOptions{nullptr}, inputs, &batch, 1, outputs, 1);

    const float *scores = answers[0].GetTensorData<float>();
    const std::size_t classes = answers[0].GetTensorTypeAndShapeInfo().GetElementCount() / static_cast<std::size_t>(count);
    std::vector<std::ptrdiff_t> found;
    for (std::int64_t i = 0; i < count; i++, scores += classes) {
        found.push_back(std::max_element(scores, scores + classes) - scores);
    }
    return found;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        std::fprintf(stderr, "usage: classify MODEL.cwb IMAGES.f32 CHANNELS HEIGHT WIDTH\n");
        return 2;
    }
    try {
        Ort::Env env;
        cwb::Session session = cwb::load(env, argv[1]);

        std::ifstream stream(argv[2], std::ios::binary);
        std::vector<float> images;
        for (float pixel; stream.read(reinterpret_cast<char *>(&pixel), sizeof pixel);) {
            images.push_back(pixel);
        }
        if (images.empty()) {
            std::fprintf(stderr, "%s: no images\n", argv[2]);
            return 2;
        }
        const std::int64_t size[] = {std::atoll(argv[3]), std::atoll(argv[4]), std::atoll(argv[5])};
        for (const std::ptrdiff_t found : classify(*session, images, size)) {
            std::printf("%td\n", found);
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
