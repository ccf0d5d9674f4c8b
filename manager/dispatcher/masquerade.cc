#include "manager/dispatcher/masquerade.h"

#include <algorithm>
#include <variant>

#include "overlay/ipam/port_options.h"

namespace muster::manager::dispatcher {

void Masquerade::count(const v1::Node& node, int change) {
  const auto& limitations = node.description().limitations();
  const bool hides = std::any_of(limitations.begin(), limitations.end(), [](const auto& text) {
    return text.starts_with(overlay::kHidesClients);
  });
  nodes_ += static_cast<size_t>(change);
  if (hides) hiding_ += static_cast<size_t>(change);
}

bool Masquerade::wanted(const store::Snapshot& view) {
  if (!known_) {
    nodes_ = hiding_ = 0;
    view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
      count(*node, 1);
      return true;
    });
    version_ = view.version();
    known_ = true;
  }
  return now();
}

bool Masquerade::follow(const store::CommitEvent& event) {
  if (!known_ || event.version <= version_) return false;
  const bool before = now();
  for (const store::AnyChange& any : *event.changes) {
    const auto* node = std::get_if<store::Change<v1::Node>>(&any);
    if (node == nullptr) continue;
    if (node->before) count(*node->before, -1);
    if (node->after) count(*node->after, 1);
  }
  return now() != before;
}

}  // namespace muster::manager::dispatcher
