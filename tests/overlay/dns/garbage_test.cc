// The fuzzer's seeds, spoiled at random: the same in every run, and with every compiler.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace muster::overlay::dns {
namespace {

void spoil(std::string& bytes, Rng& rng) {
  for (uint64_t changes = 1 + rng.below(4); changes > 0 && !bytes.empty(); --changes) {
    const size_t at = rng.below(bytes.size());
    switch (rng.below(4)) {
      case 0: bytes[at] = static_cast<char>(rng.next()); break;
      case 1: bytes.resize(at); break;
      case 2: bytes.insert(at, 1, static_cast<char>(rng.next())); break;
      // Pointers of names are where decoders go wrong.
      case 3: bytes[at] = static_cast<char>(0xc0); break;
    }
  }
}

TEST(GarbageTest, IsEitherUnderstoodOrRefused) {
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/dns")) {
    seeds.push_back(*read_file(entry.path()));
  }
  std::sort(seeds.begin(), seeds.end());
  ASSERT_GE(seeds.size(), 6u);
  SeededRng rng(20);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = seeds[rng.below(seeds.size())];
    spoil(bytes, rng);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
}

}  // namespace
}  // namespace muster::overlay::dns
