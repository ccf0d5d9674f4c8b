#include "agent/images/pull_flights.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>

namespace muster::agent {
namespace {

using Flag = std::shared_ptr<std::atomic<bool>>;

// A pull that waits until it is let go on, or is cancelled.
class Gate {
 public:
  PullFlights::Work work() {
    return [this](const Puller::Watch& watch) -> Result<ImageHandle> {
      ++started;
      watch.progress({PullProgress::Step::kDownloading, 1, 2});
      begun_.set_value();
      while (go_on_future_.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
        if (*watch.cancelled) return fail(StatusCode::kCancelled, "the pull ended");
      }
      ImageHandle image;
      image.digest = "sha256:1";
      return image;
    };
  }
  void wait_begun() { begun_.get_future().wait(); }
  void go_on() { go_on_.set_value(); }

  std::atomic<int> started{0};

 private:
  std::promise<void> begun_;
  std::promise<void> go_on_;
  std::future<void> go_on_future_ = go_on_.get_future();
};

// Somebody who wants the image, on a thread of his own.
class Caller {
 public:
  Caller(PullFlights& flights, Gate& gate) {
    PullRequest request;
    request.reference = "web";
    request.cancelled = cancelled_;
    // The first news of a pull come as soon as one waits for it.
    request.progress = [this](const PullProgress&) {
      if (!std::exchange(told_, true)) waits_.set_value();
    };
    result_ = std::async(std::launch::async, [&flights, request, work = gate.work()] {
      return flights.run("web", request, work);
    });
  }
  void until_it_waits() { waits_.get_future().wait(); }
  void cancel() { *cancelled_ = true; }
  Result<ImageHandle> result() { return result_.get(); }

 private:
  Flag cancelled_ = std::make_shared<std::atomic<bool>>(false);
  bool told_ = false;
  std::promise<void> waits_;
  std::future<Result<ImageHandle>> result_;
};

TEST(PullFlights, OnePullServesAllWhoWait) {
  Gate gate;
  PullFlights flights;
  Caller one(flights, gate);
  gate.wait_begun();
  Caller two(flights, gate);
  two.until_it_waits();
  const auto other = flights.run("other", {}, [](const Puller::Watch&) -> Result<ImageHandle> {
    return fail(not_found("none"));
  });
  EXPECT_EQ(other.error().code(), StatusCode::kNotFound);
  gate.go_on();
  EXPECT_EQ(one.result()->digest, "sha256:1");
  EXPECT_EQ(two.result()->digest, "sha256:1");
  EXPECT_EQ(gate.started, 1);
}

TEST(PullFlights, WhoGivesUpDoesNotEndThePullOfAnother) {
  Gate gate;
  PullFlights flights;
  Caller quits(flights, gate);
  gate.wait_begun();
  Caller stays(flights, gate);
  stays.until_it_waits();
  quits.cancel();
  EXPECT_EQ(quits.result().error().message(), "the pull of web was cancelled");
  gate.go_on();
  EXPECT_EQ(stays.result()->digest, "sha256:1");
}

TEST(PullFlights, TheLastWhoGivesUpEndsIt) {
  Gate first;
  Gate second;
  PullFlights flights;
  Caller quits(flights, first);
  first.wait_begun();
  quits.cancel();
  EXPECT_EQ(quits.result().error().code(), StatusCode::kCancelled);
  // The next one does not get the cancelled pull's end.
  second.go_on();
  Caller next(flights, second);
  EXPECT_EQ(next.result()->digest, "sha256:1");
}

TEST(PullFlights, TheEndWaitsForAPullThatWasGivenUpAndReplaced) {
  std::promise<void> begun;
  std::promise<void> may_end;
  std::atomic<bool> ended{false};
  auto flights = std::make_unique<PullFlights>();
  PullRequest request;
  request.reference = "web";
  const Flag cancelled = std::make_shared<std::atomic<bool>>(false);
  request.cancelled = cancelled;
  auto given_up = std::async(std::launch::async, [&] {
    return flights->run("web", request, [&](const Puller::Watch&) -> Result<ImageHandle> {
      begun.set_value();
      may_end.get_future().wait();  // slow to notice that it was cancelled
      ended = true;
      return fail(StatusCode::kCancelled, "the pull ended");
    });
  });
  begun.get_future().wait();
  *cancelled = true;
  EXPECT_EQ(given_up.get().error().code(), StatusCode::kCancelled);
  const auto next = flights->run("web", {}, [](const Puller::Watch&) -> Result<ImageHandle> {
    return fail(not_found("none"));
  });
  EXPECT_EQ(next.error().code(), StatusCode::kNotFound);
  std::thread later([&] { may_end.set_value(); });
  flights.reset();
  EXPECT_TRUE(ended);
  later.join();
}

}  // namespace
}  // namespace muster::agent
