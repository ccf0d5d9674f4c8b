#include "scheduler/words.h"

#include <fmt/format.h>

#include <cmath>

namespace muster::scheduler {

std::string bytes_text(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  const char* const* unit = kUnits;
  double amount = static_cast<double>(bytes);
  while (std::abs(amount) >= 1024 && unit != kUnits + 5) {
    amount /= 1024;
    ++unit;
  }
  return fmt::format("{:.4g}{}", amount, *unit);
}

std::string cpus_text(int64_t nano_cpus) {
  return fmt::format("{:.4g}", static_cast<double>(nano_cpus) / 1e9);
}

}  // namespace muster::scheduler
