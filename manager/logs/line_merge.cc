#include "manager/logs/line_merge.h"

namespace muster::manager::logs {
namespace {

size_t bytes_of(const v1::LogLine& line) {
  return line.line().size() + line.task_id().size() + line.node_id().size() + 24;
}

}  // namespace

void LineMerge::count(const Source& source, int sign) {
  if (!source.open || !source.lines.empty()) return;
  (source.current ? quiet_ : blocking_) += sign;
}

void LineMerge::open(const std::string& node_id) {
  Source& source = sources_[node_id];
  count(source, -1);
  source.open = true;
  source.current = false;
  count(source, +1);
}

void LineMerge::set_current(const std::string& node_id) {
  const auto found = sources_.find(node_id);
  if (found == sources_.end()) return;
  count(found->second, -1);
  found->second.current = true;
  count(found->second, +1);
}

void LineMerge::close(const std::string& node_id) {
  const auto found = sources_.find(node_id);
  if (found == sources_.end()) return;
  count(found->second, -1);
  found->second.open = false;
}

void LineMerge::add(const std::string& node_id, v1::LogLine line, TimePoint now) {
  Source& source = sources_[node_id];
  count(source, -1);
  if (source.lines.empty()) heads_.insert({line.time_ns(), node_id});
  source.bytes += bytes_of(line);
  source.lines.push_back({std::move(line), now});
}

bool LineMerge::has_room(const std::string& node_id) const {
  const auto found = sources_.find(node_id);
  return found == sources_.end() || found->second.bytes < kLowWaterBytes;
}

std::vector<v1::LogLine> LineMerge::take(TimePoint now, size_t bytes_max) {
  std::vector<v1::LogLine> out;
  size_t bytes = 0;
  wake_at_.reset();
  while (!heads_.empty() && bytes < bytes_max && blocking_ == 0) {
    const Head head = *heads_.begin();
    Source& source = sources_.find(head.second)->second;
    Waiting& first = source.lines.front();
    if (quiet_ > 0 && first.since + kWindow > now) {
      wake_at_ = first.since + kWindow;
      break;
    }
    const size_t size = bytes_of(first.line);
    bytes += size;
    source.bytes -= size;
    out.push_back(std::move(first.line));
    source.lines.pop_front();
    heads_.erase(heads_.begin());
    if (source.lines.empty()) {
      count(source, +1);
    } else {
      heads_.insert({source.lines.front().line.time_ns(), head.second});
    }
  }
  return out;
}

}  // namespace muster::manager::logs
