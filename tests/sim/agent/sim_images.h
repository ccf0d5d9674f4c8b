#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "agent/images/image_store.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's images and the roots of its containers, which are on its disk. A pull takes its time,
// and may end with no image.
class SimImages final : public agent::ImageStore {
 public:
  explicit SimImages(SimMachine& machine) : machine_(machine) {}

  Result<agent::ImageHandle> ensure(const agent::PullRequest& request) override {
    if (const Status pulled = pull(request); !pulled.ok()) return fail(pulled);
    agent::ImageHandle image;
    image.digest = "sha256:" + request.reference;
    image.config.cmd = {"serve"};
    // One of the images keeps what it writes in a volume.
    if (request.reference.ends_with("3")) image.config.volumes = {"/var/data"};
    return image;
  }
  Result<std::string> mount_root(const agent::ImageHandle&, const std::string& id) override {
    if (!machine_.step(3ms)) return fail(process_is_dead());
    roots_.insert(id);
    return "/roots/" + id;
  }
  Status unmount_root(const std::string& id) override {
    if (!machine_.step(3ms)) return process_is_dead();
    roots_.erase(id);
    return {};
  }
  Result<std::vector<std::string>> mounted_roots() override {
    return std::vector<std::string>(roots_.begin(), roots_.end());
  }
  const std::set<std::string>& roots() const { return roots_; }

  // Of no concern to a worker.
  Result<agent::ImageHandle> find(const std::string& name) override {
    return fail(not_found("No such image: {}", name));
  }
  Result<agent::RemoteImage> inspect_remote(const agent::PullRequest&, Duration) override {
    return agent::RemoteImage();
  }
  Result<std::vector<v1::Image>> list() override { return std::vector<v1::Image>(); }
  Result<std::vector<v1::Image>> load(const std::string&) override {
    return std::vector<v1::Image>();
  }
  Result<v1::RemoveImageResponse> remove(const std::string&, bool) override {
    return v1::RemoveImageResponse();
  }
  Result<v1::PruneImagesResponse> prune(bool) override { return v1::PruneImagesResponse(); }

 private:
  static constexpr Duration kSlice = 400ms;

  Status pull(const agent::PullRequest& request) {
    Duration left = machine_.up_to(machine_.one_in(3) ? Duration(300ms) : Duration(5ms));
    if (machine_.troubles.slow_pulls && machine_.one_in(8)) left = machine_.up_to(25s);
    uint64_t done = 0;
    for (; left > Duration(0); left -= kSlice) {
      SimPool::wait(std::min(left, kSlice));
      if (!machine_.process.alive()) return process_is_dead();
      if (request.cancelled && request.cancelled->load()) {
        machine_.met("pull cancelled");
        return Status(StatusCode::kCancelled, "the pull was cancelled");
      }
      if (request.progress) {
        request.progress({agent::PullProgress::Step::kDownloading, ++done, 100});
      }
    }
    if (machine_.troubles.task_fails && machine_.one_in(40)) {
      return not_found("No such image: {}", request.reference);
    }
    return {};
  }

  SimMachine& machine_;
  std::set<std::string> roots_;
};

}  // namespace muster::sim
