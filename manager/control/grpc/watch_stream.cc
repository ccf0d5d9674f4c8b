#include "manager/control/grpc/watch_stream.h"

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace muster::manager::control {
namespace {

class Refusal final : public grpc::ServerWriteReactor<v1::WatchResponse> {
 public:
  explicit Refusal(grpc::Status status) { Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

class WatchStream final : public grpc::ServerWriteReactor<v1::WatchResponse> {
 public:
  WatchStream(Executor& strand, std::shared_ptr<ControlApi> api, const v1::WatchRequest& request)
      : strand_(strand), shared_(std::make_shared<Shared>()) {
    shared_->call = this;
    strand_.post([shared = shared_, api = std::move(api), request] {
      auto subscription = api->watch(
          request, [shared](v1::WatchResponse event) { shared->push(std::move(event)); });
      if (!subscription) {
        shared->finish(grpc::Status(static_cast<grpc::StatusCode>(subscription.error().code()),
                                    subscription.error().message()));
        return;
      }
      shared->subscription = *std::move(subscription);
      // Tells the client that nothing from here on will be missed.
      shared->ready();
    });
  }

  void OnSendInitialMetadataDone(bool) override { shared_->initial_metadata_sent(); }
  void OnWriteDone(bool ok) override { shared_->written(ok); }
  void OnCancel() override {
    shared_->finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client is gone"));
  }
  void OnDone() override {
    shared_->detach();
    // The subscription belongs to the strand.
    strand_.post([shared = shared_] { shared->subscription = {}; });
    delete this;
  }

 private:
  struct Shared {
    void ready() {
      std::lock_guard lock(mutex);
      if (call == nullptr || finished) return;
      busy = true;
      call->StartSendInitialMetadata();
    }
    void initial_metadata_sent() {
      std::lock_guard lock(mutex);
      busy = false;
      next();
    }
    void push(v1::WatchResponse event) {
      std::lock_guard lock(mutex);
      if (call == nullptr || finished || outcome) return;
      if (queue.size() >= kWatchQueueMax) {
        queue.clear();
        outcome = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                               "the watch reads too slowly: list again, then watch again");
      } else {
        queue.push_back(std::move(event));
      }
      if (!busy) next();
    }
    void written(bool ok) {
      std::lock_guard lock(mutex);
      busy = false;
      if (!ok && !outcome) {
        outcome = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke");
      }
      next();
    }
    void finish(grpc::Status status) {
      std::lock_guard lock(mutex);
      if (!outcome) outcome = std::move(status);
      queue.clear();
      if (!busy) next();
    }
    void detach() {
      std::lock_guard lock(mutex);
      call = nullptr;
    }
    void next() {  // with the lock held, nothing under way
      if (call == nullptr || finished) return;
      if (!queue.empty()) {
        outgoing = std::move(queue.front());
        queue.pop_front();
        busy = true;
        call->StartWrite(&outgoing);
      } else if (outcome) {
        finished = true;
        call->Finish(*outcome);
      }
    }

    std::mutex mutex;
    WatchStream* call = nullptr;
    bool busy = false;
    bool finished = false;
    std::deque<v1::WatchResponse> queue;
    v1::WatchResponse outgoing;
    std::optional<grpc::Status> outcome;
    store::Store::Subscription subscription;  // strand only
  };

  Executor& strand_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchResponse>* stream_watch(Executor& strand,
                                                          std::shared_ptr<ControlApi> api,
                                                          const v1::WatchRequest& request) {
  return new WatchStream(strand, std::move(api), request);
}

grpc::ServerWriteReactor<v1::WatchResponse>* refuse_watch(grpc::Status status) {
  return new Refusal(std::move(status));
}

}  // namespace muster::manager::control
