#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::agent {

// Joins the parts of feed steps, and refuses a step that does not follow what came before it. One
// per session.
class FeedAssembler {
 public:
  // A whole step once its last part is here, nothing while parts are missing. FAILED_PRECONDITION
  // for an increment whose base is not the version reached: the session must start anew.
  Result<std::optional<v1::FeedUpdate>> add(v1::FeedUpdate part);

 private:
  struct Feed {
    bool begun = false;    // a complete step has been received
    uint64_t version = 0;  // reached
    std::optional<v1::FeedUpdate> parts;
  };
  std::map<std::string, Feed> feeds_;
};

// Names a feed in maps and messages: "tasks", "network/<id>".
std::string feed_name(const v1::FeedId& feed);

}  // namespace muster::agent
