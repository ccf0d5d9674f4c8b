#include "manager/examiner/grpc/examine_call.h"

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "manager/control/grpc/answers.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::examiner {
namespace {

// One client's stream. gRPC deletes the reactor in OnDone; the client that the examiner holds may
// outlive it. What waits is bounded by what an examination can find.
class Answer final : public grpc::ServerWriteReactor<v1::ExamineNetworksResponse> {
 public:
  class Client final : public ExaminationClient {
   public:
    explicit Client(Answer* stream) : stream_(stream) {}
    void send(v1::ExamineNetworksResponse message) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || outcome_) return;
      waiting_.push_back(std::move(message));
      next();
    }
    void end(Status status) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || outcome_) return;
      outcome_ = std::move(status);
      next();
    }
    void written(bool ok) {
      std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) waiting_.clear();
      next();
    }
    void cancelled() {
      std::lock_guard lock(mutex_);
      waiting_.clear();
      if (!outcome_) outcome_ = Status(StatusCode::kCancelled, "the client went away");
      next();
    }
    void detach() {
      std::lock_guard lock(mutex_);
      stream_ = nullptr;
    }

   private:
    // With the lock held: one write at a time, and Finish after the last.
    void next() {
      if (stream_ == nullptr || writing_ || finished_) return;
      if (!waiting_.empty()) {
        outgoing_ = std::move(waiting_.front());
        waiting_.pop_front();
        writing_ = true;
        stream_->StartWrite(&outgoing_);
      } else if (outcome_) {
        finished_ = true;
        control::add_reason(*stream_->context_, *outcome_);
        stream_->Finish(control::to_grpc(*outcome_));
      }
    }

    std::mutex mutex_;
    Answer* stream_;
    bool writing_ = false;
    bool finished_ = false;
    std::deque<v1::ExamineNetworksResponse> waiting_;
    std::optional<Status> outcome_;
    v1::ExamineNetworksResponse outgoing_;
  };

  Answer(std::shared_ptr<Examiner> examiner, grpc::CallbackServerContext* context,
         const v1::ExamineNetworksRequest& request)
      : examiner_(std::move(examiner)), context_(context), client_(std::make_shared<Client>(this)) {
    examiner_->strand().post(
        [examiner = examiner_, client = client_, request] { examiner->examine(request, client); });
  }

  void OnWriteDone(bool ok) override {
    client_->written(ok);
    if (!ok) leave();
  }
  void OnCancel() override {
    client_->cancelled();
    leave();
  }
  void OnDone() override {
    client_->detach();
    leave();
    delete this;
  }

 private:
  void leave() {
    examiner_->strand().post(
        [examiner = examiner_, client = client_] { examiner->client_gone(*client); });
  }

  const std::shared_ptr<Examiner> examiner_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<Client> client_;
};

}  // namespace

control::ExamineNetworksCall make_examine_networks_call(CurrentExaminer current) {
  return [current = std::move(current)](grpc::CallbackServerContext* context,
                                        const v1::ExamineNetworksRequest& request)
             -> grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* {
    auto examiner = current();
    if (examiner == nullptr) return nullptr;
    return new Answer(std::move(examiner), context, request);
  };
}

}  // namespace muster::manager::examiner
