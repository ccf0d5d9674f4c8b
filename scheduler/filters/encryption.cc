#include "scheduler/filters/encryption.h"

namespace muster::scheduler {

bool EncryptionFilter::set_group(const TaskShape& shape, ClusterState& state) {
  return state.encrypts(shape);
}

bool EncryptionFilter::check(const Candidate& candidate) const {
  return candidate.node.no_encryption.empty();
}

std::string EncryptionFilter::why(const Candidate& candidate) const {
  return "cannot encrypt: " + candidate.node.no_encryption;
}

std::string EncryptionFilter::explain(size_t nodes) const {
  return "encrypted networks not possible on " + count_nodes(nodes);
}

std::vector<std::string> EncryptionFilter::details(const Candidate& candidate) const {
  return {why(candidate)};
}

}  // namespace muster::scheduler
