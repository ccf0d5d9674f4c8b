#pragma once

#include <memory>
#include <string>
#include <vector>

#include "scheduler/filter.h"

namespace muster::scheduler {

// All filters in Swarm's order: Ready, Resource, Plugin, Constraint, Platform, HostPort,
// MaxReplicas, Volumes. The first one that turns a node away is the reason.
class Pipeline {
 public:
  Pipeline();

  void set_group(const TaskShape& shape, ClusterState& state);
  bool check(const Candidate& candidate) const {
    for (const Filter* filter : active_) {
      if (!filter->check(candidate)) return false;
    }
    return true;
  }

  // The first filter that turns the candidate away; null when none does.
  const Filter* first_against(const Candidate& candidate) const {
    for (const Filter* filter : active_) {
      if (!filter->check(candidate)) return filter;
    }
    return nullptr;
  }

  // Collects why nodes turn the group away and says it in one line.
  //
  // Swarm's text comes first and whole: "no suitable node (<reason>; <reason>)", most nodes first,
  // equal numbers in the filters' order, just "no suitable node" when there is no node at all.
  // After it, what scripts written for Swarm do not expect but people need: ": <detail> on N
  // nodes; ...".
  class Explanation {
   public:
    explicit Explanation(const Pipeline& pipeline);
    void add(const Candidate& rejected);
    std::string text() const;

   private:
    const Pipeline& pipeline_;
    std::vector<size_t> nodes_;  // by position in active_
    std::vector<std::pair<std::string, size_t>> details_;
  };

 private:
  std::vector<std::unique_ptr<Filter>> filters_;
  std::vector<const Filter*> active_;
};

}  // namespace muster::scheduler
