#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace muster {
namespace {

// `a="b",c="d"`, with the escapes of the exposition format.
std::string print_labels(const Metrics::Labels& labels) {
  std::string out;
  for (const auto& [key, value] : labels) {
    if (!out.empty()) out += ',';
    out += key + "=\"";
    for (const char c : value) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    out += '"';
  }
  return out;
}

std::string braces(const std::string& labels) {
  return labels.empty() ? "" : "{" + labels + "}";
}

void print_histogram(const std::string& name, const std::string& labels, const Histogram& h,
                     std::string& out) {
  const std::string comma = labels.empty() ? "" : ",";
  const std::vector<uint64_t> counts = h.cumulative();
  for (size_t i = 0; i < counts.size(); ++i) {
    const std::string bound = i < h.bounds().size() ? fmt::format("{}", h.bounds()[i]) : "+Inf";
    out += fmt::format("{}_bucket{{{}{}le=\"{}\"}} {}\n", name, labels, comma, bound, counts[i]);
  }
  out += fmt::format("{}_sum{} {}\n", name, braces(labels), h.sum());
  out += fmt::format("{}_count{} {}\n", name, braces(labels), counts.back());
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
  MUSTER_CHECK(std::is_sorted(bounds_.begin(), bounds_.end()));
  for (size_t i = 0; i <= bounds_.size(); ++i) buckets_.emplace_back(0);
}

void Histogram::observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_nano_.fetch_add(static_cast<uint64_t>(std::llround(std::max(0.0, value) * 1e9)),
                      std::memory_order_relaxed);
}

std::vector<uint64_t> Histogram::cumulative() const {
  std::vector<uint64_t> out;
  uint64_t total = 0;
  for (const auto& bucket : buckets_) {
    total += bucket.load(std::memory_order_relaxed);
    out.push_back(total);
  }
  return out;
}

double Histogram::sum() const {
  return static_cast<double>(sum_nano_.load(std::memory_order_relaxed)) / 1e9;
}

Metrics::Family& Metrics::family(std::string_view name, std::string_view help, Type type) {
  auto it = families_.find(name);
  if (it == families_.end()) {
    it = families_.emplace(std::string(name), Family{type, std::string(help), {}, {}, {}}).first;
  }
  MUSTER_CHECK(it->second.type == type, "one metric name, two types");
  return it->second;
}

Counter& Metrics::counter(std::string_view name, std::string_view help, Labels labels) {
  std::lock_guard lock(mutex_);
  return family(name, help, Type::kCounter).counters[print_labels(labels)];
}

Gauge& Metrics::gauge(std::string_view name, std::string_view help, Labels labels) {
  std::lock_guard lock(mutex_);
  return family(name, help, Type::kGauge).gauges[print_labels(labels)];
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help,
                              std::vector<double> bounds, Labels labels) {
  std::lock_guard lock(mutex_);
  return family(name, help, Type::kHistogram)
      .histograms.try_emplace(print_labels(labels), std::move(bounds))
      .first->second;
}

std::string Metrics::expose() const {
  std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    static constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, family.help, name,
                       kTypes[static_cast<int>(family.type)]);
    for (const auto& [labels, c] : family.counters) {
      out += fmt::format("{}{} {}\n", name, braces(labels), c.value());
    }
    for (const auto& [labels, g] : family.gauges) {
      out += fmt::format("{}{} {}\n", name, braces(labels), g.value());
    }
    for (const auto& [labels, h] : family.histograms) print_histogram(name, labels, h, out);
  }
  return out;
}

}  // namespace muster
