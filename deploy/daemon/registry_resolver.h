#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "agent/images/image_store.h"
#include "base/executor.h"
#include "deploy/daemon/work_pool.h"
#include "manager/control/image_resolver.h"

namespace muster::daemon {

// Digests for the control API, through the node's image store: its mirrors, its insecure
// registries, its skopeo. A few questions at a time, each with a limit. `strand` is the control
// API's; the image store outlives it.
class RegistryResolver final : public manager::control::ImageResolver {
 public:
  RegistryResolver(Executor& strand, agent::ImageStore& images);
  // Ends the questions under way; they are not answered any more.
  ~RegistryResolver() override;

  void resolve(const std::string& image, const std::string& registry_auth, Done done) override;

 private:
  Executor& strand_;
  agent::ImageStore& images_;
  std::shared_ptr<std::atomic<bool>> stopped_ = std::make_shared<std::atomic<bool>>(false);
  WorkPool pool_;  // last: its threads use all of the above
};

}  // namespace muster::daemon
