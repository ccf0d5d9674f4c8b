#include "tests/bench/report.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <fstream>

namespace muster::bench {
namespace {

struct Summary {
  double median;
  double low;
  double high;
};

Summary summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace

void Report::add(std::string_view name, std::string_view unit, double value) {
  for (Row& row : rows_) {
    if (row.name == name) {
      row.values.push_back(value);
      return;
    }
  }
  rows_.push_back({std::string(name), std::string(unit), {value}});
}

std::string Report::table(std::string_view suite) const {
  std::string out = fmt::format("{} on {}\n{:<36} {:>14} {:<8} {:>5} {:>14} {:>14}\n", suite,
                                describe_machine(), "NAME", "MEDIAN", "UNIT", "RUNS", "MIN", "MAX");
  for (const Row& row : rows_) {
    const Summary s = summarise(row.values);
    out += fmt::format("{:<36} {:>14.6g} {:<8} {:>5} {:>14.6g} {:>14.6g}\n", row.name, s.median,
                       row.unit, row.values.size(), s.low, s.high);
  }
  return out;
}

std::string Report::json(std::string_view suite) const {
  boost::json::array results;
  for (const Row& row : rows_) {
    const Summary s = summarise(row.values);
    results.push_back({{"name", row.name},
                       {"value", s.median},
                       {"unit", row.unit},
                       {"runs", row.values.size()},
                       {"min", s.low},
                       {"max", s.high}});
  }
  const boost::json::object document{{"suite", std::string(suite)},
                                     {"machine", describe_machine()},
                                     {"results", std::move(results)}};
  return boost::json::serialize(document) + "\n";
}

std::string describe_machine() {
  utsname name{};
  uname(&name);
  std::string processor = "unknown processor";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      processor = line.substr(colon + 2);
      break;
    }
  }
  struct sysinfo memory {};
  sysinfo(&memory);
  const double gib = static_cast<double>(memory.totalram) * memory.mem_unit / (1 << 30);
  return fmt::format("{} {} {}, {} cores, {}, {:.1f} GiB", name.sysname, name.release, name.machine,
                     sysconf(_SC_NPROCESSORS_ONLN), processor, gib);
}

}  // namespace muster::bench
