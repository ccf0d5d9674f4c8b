#include "agent/session/feed_assembler.h"

#include <utility>

namespace muster::agent {

std::string feed_name(const v1::FeedId& feed) {
  switch (feed.kind()) {
    case v1::FeedId::TASKS: return "tasks";
    case v1::FeedId::SECRETS: return "secrets";
    case v1::FeedId::CLUSTER: return "cluster";
    case v1::FeedId::NETWORK: return "network/" + feed.network_id();
    default: return "unknown";
  }
}

Result<std::optional<v1::FeedUpdate>> FeedAssembler::add(v1::FeedUpdate part) {
  const std::string name = feed_name(part.feed());
  Feed& feed = feeds_[name];
  if (!part.complete() && (!feed.begun || part.base_version() != feed.version)) {
    return fail(failed_precondition("feed {}: an increment upon version {} follows version {}",
                                    name, part.base_version(), feed.version));
  }
  if (!feed.parts) {
    feed.parts = std::move(part);
  } else if (feed.parts->version() != part.version() || feed.parts->complete() != part.complete()) {
    return fail(failed_precondition("feed {}: parts of different steps are mixed", name));
  } else {
    // Protobuf's merge appends repeated fields; network bytes are pieces of one message.
    const std::string network = feed.parts->network() + part.network();
    feed.parts->MergeFrom(part);
    if (!network.empty()) feed.parts->set_network(network);
  }
  if (!feed.parts->last()) return std::optional<v1::FeedUpdate>();
  std::optional<v1::FeedUpdate> whole = std::exchange(feed.parts, std::nullopt);
  feed.begun = true;
  feed.version = whole->version();
  return whole;
}

}  // namespace muster::agent
