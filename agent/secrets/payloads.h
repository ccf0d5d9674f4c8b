#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::agent {

// The content of a secret or config. Overwritten when its last holder lets go.
struct Payload {
  Payload() = default;
  ~Payload();
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;

  std::string id;
  std::string name;
  bool config = false;
  std::string template_driver;
  std::string data;
};
using PayloadPtr = std::shared_ptr<const Payload>;
// By id.
using PayloadSet = std::map<std::string, PayloadPtr, std::less<>>;

// The secrets and configs this node may have, as the manager's feed says. Lives on the agent's
// strand; only in memory.
class Payloads {
 public:
  // A step of the SECRETS feed, joined from its parts. What of it is no whole payload is left out,
  // and said.
  Status apply(const v1::FeedUpdate& step);

  // nullptr when it is not here.
  PayloadPtr find(std::string_view id) const;
  size_t size() const { return payloads_.size(); }
  void clear() { payloads_.clear(); }

 private:
  PayloadSet payloads_;
};

}  // namespace muster::agent
