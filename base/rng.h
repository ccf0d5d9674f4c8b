#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace muster {

// Random numbers as a port: seeded and reproducible in pure code and the simulator, from the
// kernel where unpredictability matters.
class Rng {
 public:
  virtual ~Rng() = default;
  virtual uint64_t next() = 0;

  // Uniform in [0, bound). `bound` must be positive. The same on every compiler, unlike
  // std::uniform_int_distribution.
  uint64_t below(uint64_t bound);
  // Fisher-Yates.
  template <class T>
  void shuffle(std::span<T> items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }
  // 25 characters of base 36, about 129 bits: the form of every object id.
  std::string id();
};

// xoshiro256** (Blackman and Vigna): fast, reproducible, not for secrets.
class SeededRng final : public Rng {
 public:
  explicit SeededRng(uint64_t seed);
  uint64_t next() override;

 private:
  uint64_t state_[4];
};

// getrandom(2). Thread-safe.
class SystemRng final : public Rng {
 public:
  uint64_t next() override;
};

}  // namespace muster
