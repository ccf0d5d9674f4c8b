#include "tests/bench/memory.h"

#include <malloc.h>
#include <sys/resource.h>

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
