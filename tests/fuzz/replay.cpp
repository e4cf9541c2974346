// replay.cpp - runs a fuzz target over files and over the files of folders, without libFuzzer.
#include "fuzz.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

int main(int argc, char **argv) {
    std::vector<std::string> files;
    for (int i = 1; i < argc; i++) {
        if (!std::filesystem::is_directory(argv[i])) {
            files.emplace_back(argv[i]);
            continue;
        }
        for (const auto &entry : std::filesystem::directory_iterator(argv[i])) {
            if (entry.is_regular_file()) files.push_back(entry.path().string());
        }
    }
    std::sort(files.begin(), files.end());
    for (const std::string &file : files) {
        std::ifstream stream(file, std::ios::binary);
        CHECK(stream);
        const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
        if (argc == 2) printf("%s\n", file.c_str()), fflush(stdout);
        // A copy of its own size, so that reading past it is seen.
        const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
        LLVMFuzzerTestOneInput(copy.data(), copy.size());
    }
    printf("%zu inputs\n", files.size());
    return files.empty();
}
