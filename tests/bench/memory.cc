#include "tests/bench/memory.h"

#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

namespace muster::bench {
namespace {

double sum_of(const char* file, std::initializer_list<std::string_view> keys) {
  std::ifstream in(file);
  double sum = 0;
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    for (const std::string_view key : keys) {
      if (std::string_view(line).substr(0, colon) == key) sum += std::stod(line.substr(colon + 1));
    }
  }
  return sum;
}

double ms_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
}

}  // namespace

double kernel_kib() {
  return sum_of("/proc/meminfo", {"Slab", "Percpu", "VmallocUsed"});
}

double settled_kernel_kib() {
  constexpr int kStepMs = 100, kQuietSteps = 20, kSteps = 600;
  constexpr double kNoiseKib = 256;
  double least = kernel_kib();
  for (int step = 0, quiet = 0; step < kSteps && quiet < kQuietSteps; ++step, ++quiet) {
    (void)::poll(nullptr, 0, kStepMs);
    const double now = kernel_kib();
    if (now < least - kNoiseKib) quiet = 0;
    least = std::min(least, now);
  }
  return kernel_kib();
}

double own_pss_kib() {
  malloc_trim(0);
  return sum_of("/proc/self/smaps_rollup", {"Pss"});
}

double own_cpu_ms() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return ms_of(used.ru_utime) + ms_of(used.ru_stime);
}

}  // namespace muster::bench
