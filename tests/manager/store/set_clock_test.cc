// What a store does by time, on a host whose wall clock somebody sets.
#include <gtest/gtest.h>

#include <string>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/fake_proposer.h"

namespace muster::manager::store {
namespace {

// A strand whose wall clock somebody sets.
class SetStrand final : public Executor, private Clock {
 public:
  explicit SetStrand(SimWorld& world) : strand_(world), world_(world) {}
  void post(UniqueFunction<void()> f) override { strand_.post(std::move(f)); }
  TimerId after(Duration d, UniqueFunction<void()> f) override {
    return strand_.after(d, std::move(f));
  }
  void cancel(TimerId timer) override { strand_.cancel(timer); }
  bool is_current() const override { return strand_.is_current(); }
  const Clock& clock() const override { return *this; }
  Duration ahead{0};

 private:
  TimePoint now() const override { return world_.now(); }
  WallTime wall_now() const override { return world_.wall_now() + ahead; }
  SimExecutor strand_;
  SimWorld& world_;
};

class StoreClock : public testing::Test {
 protected:
  StoreClock() { store.lead(proposer.term); }
  void send(const std::string& request) {
    store.update(
        UpdateOptions{request},
        [this, request](Transaction& tx) -> Result<std::string> {
          ++runs;
          v1::Service service;
          service.set_id(std::to_string(runs));
          service.mutable_spec()->mutable_annotations()->set_name(std::to_string(runs));
          MUSTER_TRY(tx.create(std::move(service)));
          return request;
        },
        [](const Commit& c) { EXPECT_TRUE(c.status.ok()); });
    if (proposer.pending() > 0) proposer.commit();
    world.settle();
  }
  size_t ids() const { return store.snapshot().count<v1::AppliedRequest>(); }

  SimWorld world;
  SetStrand strand{world};
  FakeProposer proposer;
  Store store{strand, &proposer, null_log()};
  int runs = 0;
};

TEST_F(StoreClock, RequestIdsOutlastOneThatIsSet) {
  send("before");
  world.advance(2h);
  send("a");
  world.advance(5min);
  for (const Duration step : {Duration(1h), Duration(1000h), Duration(-1000h)}) {
    strand.ahead = step;
    send("other" + format_duration(step));
    const int before = runs;
    send("a");
    EXPECT_EQ(runs, before) << "done twice with a clock set by " << format_duration(step);
  }
  EXPECT_EQ(ids(), 4U);
}

TEST_F(StoreClock, RequestIdsAreForgottenAfterAnHourWhateverItSays) {
  send("a");
  world.advance(59min);
  strand.ahead = Duration(-50min);
  send("b");
  strand.ahead = Duration(0);
  EXPECT_EQ(ids(), 2U);
  world.advance(2min);
  send("c");
  EXPECT_EQ(ids(), 2U) << "the first is an hour old";
  world.advance(58min);
  send("d");
  EXPECT_EQ(ids(), 2U) << "so is the second";
}

}  // namespace
}  // namespace muster::manager::store
