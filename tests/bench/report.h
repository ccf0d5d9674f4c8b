#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::bench {

struct SuiteOptions {
  int runs = 5;
  bool peer = false;   // measure the peer beside muster where it can be installed
  bool smoke = false;  // small sizes, for tests: the figures mean nothing
  std::string only;    // the case to run, by its name; empty = all (suites of separate cases)
  std::string balancer = "nftables";  // what leads virtual addresses (mesh, endpoints): or "ipvs"
};

// Collects the figures of a suite: one value a run, under the names of the design's table.
class Report {
 public:
  void add(std::string_view name, std::string_view unit, double value);

  // The median with the lowest and the highest run, a line a name, in the order of first adding.
  std::string table(std::string_view suite) const;
  // {"suite": ..., "machine": ..., "results": [{"name", "value", "unit", "runs", "min", "max"}]}
  std::string json(std::string_view suite) const;

 private:
  struct Row {
    std::string name;
    std::string unit;
    std::vector<double> values;
  };
  std::vector<Row> rows_;
};

struct Suite {
  std::string_view name;
  std::string_view what;
  std::function<Status(const SuiteOptions&, Report&)> run;
};

// "Linux 6.1.0 x86_64, 2 cores, <processor>, 3.9 GiB".
std::string describe_machine();

}  // namespace muster::bench
