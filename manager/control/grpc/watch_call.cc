#include "manager/control/grpc/watch_call.h"

#include <deque>
#include <mutex>
#include <utility>

#include "manager/control/grpc/answers.h"

namespace muster::manager::control {
namespace {

// One watcher. Written to from the strand, finished by gRPC's threads: the lock covers both.
class Watcher final : public grpc::ServerWriteReactor<v1::WatchResponse> {
 public:
  // What the strand holds; the reactor is gRPC's to end.
  struct Link {
    std::mutex mutex;
    Watcher* watcher = nullptr;
    store::Store::Subscription subscription;  // the strand's alone
  };

  Watcher(ControlApi& api, grpc::CallbackServerContext* context, security::Principal principal,
          const v1::WatchRequest* request, size_t bytes_max)
      : strand_(api.strand()), context_(context), bytes_max_(bytes_max) {
    link_ = std::make_shared<Link>();
    link_->watcher = this;
    strand_.post([&api, link = link_, principal = std::move(principal), request = *request,
                  &strand = strand_] {
      auto subscription =
          api.watch(principal, request, [weak = std::weak_ptr(link)](const auto& response) {
            const auto alive = weak.lock();
            if (alive == nullptr) return;
            std::lock_guard lock(alive->mutex);
            if (alive->watcher == nullptr) return;
            if (response) {
              alive->watcher->send(*response);
            } else {
              alive->watcher->end(response.error());
            }
          });
      std::lock_guard lock(link->mutex);
      if (link->watcher == nullptr) return;
      if (subscription) {
        // One that has ended already has nothing to say; its OnDone comes to the strand, too.
        if (!link->watcher->open()) return;
        link->subscription = *std::move(subscription);
        // What is kept is delivered by a closure that was posted before this one.
        if (request.until_present()) strand.post([link] { complete(*link); });
      } else {
        link->watcher->end(subscription.error());
      }
    });
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(link_->mutex);
    bytes_ -= queue_.front().ByteSizeLong();
    queue_.pop_front();
    if (ended_) {
      finish();
    } else if (!ok) {
      end(Status(StatusCode::kCancelled, "the stream broke"));
    } else if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (completed_) {
      end(ok_status());
    }
  }

  void OnCancel() override {
    std::lock_guard lock(link_->mutex);
    end(Status(StatusCode::kCancelled, "the watcher went away"));
  }

  void OnDone() override {
    {
      std::lock_guard lock(link_->mutex);
      link_->watcher = nullptr;
    }
    strand_.post([link = std::move(link_)] { link->subscription = {}; });
    delete this;
  }

 private:
  // Everything was queued that there will be.
  static void complete(Link& link) {
    link.subscription = {};
    std::lock_guard lock(link.mutex);
    if (link.watcher == nullptr) return;
    link.watcher->completed_ = true;
    if (link.watcher->queue_.empty()) link.watcher->end(ok_status());
  }
  // These under the lock.
  // So that the client knows that from now on nothing escapes it. gRPC aborts when that comes after
  // a write or the end, which bring it along. False: it ends.
  bool open() {
    if (!ended_ && !std::exchange(opened_, true)) StartSendInitialMetadata();
    return !ended_;
  }
  void send(const v1::WatchResponse& response) {
    if (ended_ || completed_) return;
    const size_t bytes = response.ByteSizeLong();
    if (bytes_ + bytes > bytes_max_) {
      end(Status(StatusCode::kResourceExhausted,
                 "the watcher is too slow: list again, then watch from there", "slow-watcher"));
      return;
    }
    bytes_ += bytes;
    queue_.push_back(response);
    opened_ = true;
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }
  void end(Status status) {
    if (ended_) return;
    ended_ = true;
    status_ = std::move(status);
    if (queue_.empty()) finish();  // else when the write under way is done
  }
  void finish() {
    if (finished_) return;
    finished_ = true;
    add_reason(*context_, status_);
    Finish(to_grpc(status_));
  }

  Executor& strand_;
  grpc::CallbackServerContext* context_;
  size_t bytes_max_;
  std::shared_ptr<Link> link_;
  std::deque<v1::WatchResponse> queue_;
  size_t bytes_ = 0;
  bool opened_ = false;
  bool completed_ = false;
  bool ended_ = false;
  bool finished_ = false;
  Status status_;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchResponse>* make_watch_call(ControlApi& api,
                                                             grpc::CallbackServerContext* context,
                                                             security::Principal caller,
                                                             const v1::WatchRequest* request,
                                                             size_t bytes_max) {
  return new Watcher(api, context, std::move(caller), request, bytes_max);
}

}  // namespace muster::manager::control
