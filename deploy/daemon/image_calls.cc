#include "deploy/daemon/image_calls.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>

#include "base/rng.h"
#include "base/unique_fd.h"
#include "deploy/daemon/grpc_status.h"

namespace muster::daemon {
namespace {

const grpc::Status kBusy(grpc::StatusCode::RESOURCE_EXHAUSTED,
                         "too many requests wait on this node; try again later");

std::string step_name(agent::PullProgress::Step step) {
  switch (step) {
    case agent::PullProgress::Step::kResolving: return "resolving";
    case agent::PullProgress::Step::kDownloading: return "downloading";
    case agent::PullProgress::Step::kUnpacking: return "unpacking";
    case agent::PullProgress::Step::kDone: return "done";
  }
  return {};
}

// Progress is a state, not a log: of several reports between two writes the last is sent.
class PullCall final : public grpc::ServerWriteReactor<v1::PullProgress> {
 public:
  PullCall(WorkPool& pool, agent::ImageStore& images, const v1::PullImageRequest& request)
      : shared_(std::make_shared<Shared>()) {
    shared_->call = this;
    agent::PullRequest pull;
    pull.reference = request.reference();
    pull.registry_auth = request.registry_auth();
    pull.refresh = true;  // a user who says "pull" wants what the registry has now
    pull.cancelled = std::shared_ptr<const std::atomic<bool>>(shared_, &shared_->cancelled);
    pull.progress = [shared = shared_](const agent::PullProgress& progress) {
      v1::PullProgress message;
      message.set_bytes_done(progress.bytes_done);
      message.set_bytes_total(progress.bytes_total);
      message.set_step(step_name(progress.step));
      shared->report(std::move(message));
    };
    const bool queued = pool.post([shared = shared_, &images, pull = std::move(pull)] {
      shared->finish(run(images, pull, *shared));
    });
    if (!queued) Finish(kBusy);
  }

  void OnWriteDone(bool) override { shared_->written(); }
  void OnCancel() override { shared_->cancelled = true; }
  void OnDone() override {
    shared_->detach();
    delete this;
  }

 private:
  struct Shared {
    void report(v1::PullProgress message) {
      std::lock_guard lock(mutex);
      if (call == nullptr) return;
      next = std::move(message);
      if (!writing) write_next();
    }
    void written() {
      std::lock_guard lock(mutex);
      writing = false;
      if (next) {
        write_next();
      } else if (outcome) {
        call->Finish(*outcome);
      }
    }
    void finish(grpc::Status status) {
      std::lock_guard lock(mutex);
      if (call == nullptr) return;
      outcome = std::move(status);
      if (!writing) call->Finish(*outcome);
    }
    void detach() {
      std::lock_guard lock(mutex);
      call = nullptr;
    }
    void write_next() {
      outgoing = *std::exchange(next, std::nullopt);
      writing = true;
      call->StartWrite(&outgoing);
    }

    std::atomic<bool> cancelled{false};
    std::mutex mutex;
    PullCall* call = nullptr;
    bool writing = false;
    v1::PullProgress outgoing;
    std::optional<v1::PullProgress> next;
    std::optional<grpc::Status> outcome;
  };

  static grpc::Status run(agent::ImageStore& images, const agent::PullRequest& pull,
                          Shared& shared) {
    const auto handle = images.ensure(pull);
    if (!handle) return to_grpc(handle.error());
    const auto list = images.list();
    if (!list) return to_grpc(list.error());
    v1::PullProgress done;
    done.set_step("done");
    for (const auto& image : *list) {
      if (image.digest() == handle->digest) *done.mutable_image() = image;
    }
    shared.report(std::move(done));
    return grpc::Status::OK;
  }

  std::shared_ptr<Shared> shared_;
};

// A file that is gone with its last descriptor, so that a killed daemon leaves nothing.
UniqueFd open_unnamed(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / ("load-" + SystemRng().id() + ".tar");
  UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file) unlink(path.c_str());
  return file;
}

class LoadCall final : public grpc::ServerReadReactor<v1::LoadImageRequest> {
 public:
  LoadCall(WorkPool& pool, agent::ImageStore& images, const std::filesystem::path& scratch,
           v1::LoadImageResponse* response)
      : pool_(pool), images_(images), response_(response), file_(open_unnamed(scratch)) {
    if (!file_) {
      Finish(to_grpc(errno_status(errno, "cannot store the archive")));
      return;
    }
    StartRead(&piece_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      if (!pool_.post([this] { load(); })) Finish(kBusy);
      return;
    }
    std::string_view data = piece_.data();
    while (!data.empty()) {
      const ssize_t n = write(file_.get(), data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        Finish(to_grpc(errno_status(errno, "cannot store the archive")));
        return;
      }
      data.remove_prefix(static_cast<size_t>(n));
    }
    StartRead(&piece_);
  }
  void OnDone() override { delete this; }

 private:
  void load() {
    auto loaded = images_.load(fmt::format("/proc/self/fd/{}", file_.get()));
    if (!loaded) {
      Finish(to_grpc(loaded.error()));
      return;
    }
    for (auto& image : *loaded) *response_->add_images() = std::move(image);
    Finish(grpc::Status::OK);
  }

  WorkPool& pool_;
  agent::ImageStore& images_;
  v1::LoadImageResponse* response_;
  UniqueFd file_;
  v1::LoadImageRequest piece_;
};

template <class Base>
class Refusal final : public Base {
 public:
  explicit Refusal(const Status& why) { this->Finish(to_grpc(why)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<v1::PullProgress>* refuse_pull(const Status& why) {
  return new Refusal<grpc::ServerWriteReactor<v1::PullProgress>>(why);
}

grpc::ServerReadReactor<v1::LoadImageRequest>* refuse_load(const Status& why) {
  return new Refusal<grpc::ServerReadReactor<v1::LoadImageRequest>>(why);
}

grpc::ServerWriteReactor<v1::PullProgress>* pull_image(WorkPool& pool, agent::ImageStore& images,
                                                       const v1::PullImageRequest& request) {
  return new PullCall(pool, images, request);
}

grpc::ServerReadReactor<v1::LoadImageRequest>* load_image(WorkPool& pool, agent::ImageStore& images,
                                                          const std::filesystem::path& scratch,
                                                          v1::LoadImageResponse* response) {
  return new LoadCall(pool, images, scratch, response);
}

}  // namespace muster::daemon
