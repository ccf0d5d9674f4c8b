#include "scheduler/filters/constraint.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::scheduler {

bool ConstraintFilter::set_group(const TaskShape& shape, ClusterState& state) {
  shape_ = &shape;
  columns_.clear();
  for (const Constraint& constraint : shape.constraints) {
    columns_.push_back(state.columns().matches(constraint, state.nodes()));
  }
  return !columns_.empty() || !shape.bad_constraint.empty();
}

bool ConstraintFilter::check(const Candidate& candidate) const {
  // The API refuses constraints that do not parse; one that came in otherwise fits no node.
  if (!shape_->bad_constraint.empty()) return false;
  return std::all_of(columns_.begin(), columns_.end(), [&](const NodeColumns::Column& column) {
    return (*column)[candidate.node.index] != 0;
  });
}

std::string ConstraintFilter::why(const Candidate& candidate) const {
  if (!shape_->bad_constraint.empty()) return shape_->bad_constraint;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if ((*columns_[i])[candidate.node.index] != 0) continue;
    const Constraint& constraint = shape_->constraints[i];
    return fmt::format("constraint {}: {}", constraint.words(),
                       constraint.finding(candidate.node.facts));
  }
  return {};
}

std::string ConstraintFilter::explain(size_t nodes) const {
  return "scheduling constraints not satisfied on " + count_nodes(nodes);
}

std::vector<std::string> ConstraintFilter::details(const Candidate& candidate) const {
  if (!shape_->bad_constraint.empty()) return {shape_->bad_constraint};
  std::vector<std::string> failing;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if ((*columns_[i])[candidate.node.index] == 0) {
      failing.push_back(shape_->constraints[i].text() + " does not hold");
    }
  }
  return failing;
}

}  // namespace muster::scheduler
