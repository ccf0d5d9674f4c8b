#include "scheduler/node_columns.h"

#include <algorithm>

namespace muster::scheduler {
namespace {

struct Range {
  size_t begin;
  size_t end;
};

// Splits the sorted nodes level by level, breadth first, so that siblings end up side by side.
SpreadLayout build_layout(const std::vector<std::string>& descriptors,
                          const std::vector<NodeInfo>& nodes) {
  const size_t depth = descriptors.size();
  struct Row {
    NodeIndex node;
    std::vector<std::string_view> values;
  };
  std::vector<Row> rows;
  for (const NodeInfo& node : nodes) {
    if (!node.present) continue;
    Row& row = rows.emplace_back(Row{node.index, {}});
    row.values.reserve(depth);
    for (const auto& d : descriptors) row.values.push_back(spread_value(d, node.facts));
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.values != b.values ? a.values < b.values : a.node < b.node;
  });

  SpreadLayout layout;
  layout.leaf_of_node.assign(nodes.size(), kNoIndex);
  layout.branches.emplace_back();
  std::vector<Range> ranges{{0, rows.size()}};
  size_t level_begin = 0;
  for (size_t level = 0; level < depth; ++level) {
    const size_t level_end = layout.branches.size();
    for (size_t b = level_begin; b < level_end; ++b) {
      const Range range = ranges[b];
      layout.branches[b].first_child = static_cast<uint32_t>(layout.branches.size());
      for (size_t at = range.begin; at < range.end;) {
        size_t end = at;
        while (end < range.end && rows[end].values[level] == rows[at].values[level]) ++end;
        layout.branches.emplace_back().parent = static_cast<uint32_t>(b);
        ranges.push_back({at, end});
        at = end;
      }
      layout.branches[b].end_child = static_cast<uint32_t>(layout.branches.size());
    }
    level_begin = level_end;
  }
  for (size_t b = level_begin; b < layout.branches.size(); ++b) {
    for (size_t at = ranges[b].begin; at < ranges[b].end; ++at) {
      layout.leaf_of_node[rows[at].node] = static_cast<uint32_t>(b);
    }
  }
  return layout;
}

}  // namespace

NodeColumns::Column NodeColumns::matches(const Constraint& constraint,
                                         const std::vector<NodeInfo>& nodes) {
  std::string key = constraint.text();
  auto found = columns_.find(key);
  if (found == columns_.end()) {
    if (columns_.size() >= kColumnsMax) columns_.clear();
    auto column = std::make_shared<std::vector<uint8_t>>();
    column->reserve(nodes.size());
    for (const NodeInfo& node : nodes) {
      column->push_back(node.present && constraint.matches(node.facts));
    }
    found = columns_.emplace(std::move(key), Entry{constraint, std::move(column)}).first;
  }
  return found->second.column;
}

std::shared_ptr<const SpreadLayout> NodeColumns::layout(const std::vector<std::string>& descriptors,
                                                        const std::vector<NodeInfo>& nodes) {
  std::string key;
  for (const std::string& d : descriptors) key.append(d).push_back('\n');
  auto found = layouts_.find(key);
  if (found == layouts_.end()) {
    if (layouts_.size() >= kLayoutsMax) layouts_.clear();
    auto layout = std::make_shared<const SpreadLayout>(build_layout(descriptors, nodes));
    found = layouts_.emplace(std::move(key), std::move(layout)).first;
  }
  return found->second;
}

void NodeColumns::node_changed(const NodeInfo& node) {
  for (auto& [key, entry] : columns_) {
    if (entry.column->size() <= node.index) entry.column->resize(node.index + 1, 0);
    (*entry.column)[node.index] = node.present && entry.constraint.matches(node.facts);
  }
  layouts_.clear();
}

}  // namespace muster::scheduler
