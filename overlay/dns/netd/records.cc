#include "overlay/dns/netd/records.h"

#include <algorithm>
#include <set>
#include <utility>

namespace muster::overlay::dns {
namespace {

std::string network_of(const v1::NetdRecord& record) {
  if (record.has_service()) return record.service().network_id();
  if (record.has_endpoint()) return record.endpoint().network_id();
  return {};
}

bool same(const v1::NetdRecord& a, const v1::NetdRecord& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

// A musterd that has just started knows its own tasks, and of the rest what the manager has told it
// so far, which may be nothing yet.
bool Records::stays(const v1::NetdRecord& record, const v1::NetdUpdate& complete) const {
  const auto& fed = complete.fed_network_ids();
  if (record.has_relay()) {
    const char* told = is_encapsulation(record.relay()) ? kEncapsulationTold : kRelaysTold;
    return std::find(fed.begin(), fed.end(), told) == fed.end();
  }
  const std::string network = network_of(record);
  if (!record.fed() || network.empty()) return false;
  if (std::find(fed.begin(), fed.end(), network) != fed.end()) return false;
  const auto& told = complete.records();
  return std::any_of(told.begin(), told.end(), [&](const v1::NetdRecord& other) {
    return other.has_network() && other.network().id() == network;
  });
}

Records::Changes Records::apply(const v1::NetdUpdate& update) {
  Changes out;
  std::vector<std::string> gone(update.removed_keys().begin(), update.removed_keys().end());
  if (update.complete()) {
    std::set<std::string> named;
    for (const v1::NetdRecord& record : update.records()) named.insert(record.key());
    for (const auto& [key, record] : records_) {
      if (named.count(key) == 0 && !stays(record, update)) gone.push_back(key);
    }
  }
  for (const std::string& key : gone) {
    auto node = records_.extract(key);
    if (!node.empty()) out.removed.push_back(std::move(node.mapped()));
  }
  for (const v1::NetdRecord& record : update.records()) {
    v1::NetdRecord& known = records_[record.key()];
    if (same(known, record)) continue;
    known = record;
    out.set.push_back(record);
  }
  version_ = update.version();
  return out;
}

v1::NetdUpdate Records::all() const {
  v1::NetdUpdate out;
  out.set_version(version_);
  out.set_complete(true);
  for (const auto& [key, record] : records_) *out.add_records() = record;
  return out;
}

}  // namespace muster::overlay::dns
