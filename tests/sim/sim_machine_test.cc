// The simulated machine under an agent.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/sim/agent/sim_host_files.h"
#include "tests/sim/agent/sim_machine.h"
#include "tests/sim/agent/sim_pool.h"

namespace muster::sim {
namespace {

class SimMachineTest : public ::testing::Test {
 protected:
  SimMachineTest() { machine_.process.begin(); }

  SimWorld world_;
  SimExecutor strand_{world_};
  SeededRng rng_{3};
  HostTroubles troubles_;
  SimMachine machine_{world_, strand_, rng_, troubles_, [](std::string) {}, [](std::string_view) {},
                      {},     {}};
  std::vector<std::string> log_;
};

TEST_F(SimMachineTest, AStepThatWaitsLetsOthersGoOn) {
  SimPool pool(world_, machine_.stacks, 2);
  for (const int ms : {30, 10, 1}) {
    pool.post([this, ms] {
      log_.push_back(fmt::format("{} begins", ms));
      SimPool::wait(Duration(1ms) * ms);
      log_.push_back(fmt::format("{} ends at {}", ms, world_.now().since_start / 1ms));
    });
  }
  world_.advance(100ms);
  EXPECT_EQ(log_, (std::vector<std::string>{"30 begins", "10 begins", "10 ends at 10", "1 begins",
                                            "1 ends at 11", "30 ends at 30"}));
}

TEST_F(SimMachineTest, TheStepsOfADeadProcessHaveNoEffect) {
  auto pool = std::make_unique<SimPool>(world_, machine_.stacks, 2);
  for (int i = 0; i < 3; ++i) {
    pool->post([this] {
      log_.push_back(machine_.step(5ms) ? "did" : "came too late");
      log_.push_back(machine_.step(50s) ? "did" : "came too late");
    });
  }
  world_.advance(20ms);
  EXPECT_EQ(log_, (std::vector<std::string>{"did", "did"}));
  machine_.process.end();
  pool.reset();
  EXPECT_EQ(log_, (std::vector<std::string>{"did", "did", "came too late", "came too late"}));
}

TEST_F(SimMachineTest, AProcessDiesBeforeWhatItWasAboutToDo) {
  int deaths = 0;
  machine_.process.died = [&] { ++deaths; };
  machine_.process.die_at(2);
  EXPECT_TRUE(machine_.process.effect());
  EXPECT_FALSE(machine_.process.effect());
  EXPECT_FALSE(machine_.process.effect());
  EXPECT_EQ(deaths, 1);
  machine_.process.begin();
  EXPECT_TRUE(machine_.process.effect());
}

TEST_F(SimMachineTest, APowerCutTakesOnlyWhatWasNotSynced) {
  std::set<std::string> fates;
  for (int i = 0; i < 60; ++i) {
    SimHostFiles files(machine_);
    const auto write = [&](const char* path, const char* text, Durability durability) {
      EXPECT_TRUE(files.write(path, text, 0600, durability).ok());
    };
    write("/d/old", "before", Durability::kNone);
    write("/d/gone", "before", Durability::kNone);
    world_.advance(SimHostFiles::kWriteBack);
    write("/d/old", "after!", Durability::kNone);
    write("/d/new", "after!", Durability::kNone);
    write("/d/synced", "after!", Durability::kFsync);
    EXPECT_TRUE(files.remove("/d/gone").ok());
    EXPECT_EQ(files.names("/d"), (std::set<std::string>{"new", "old", "synced"}));
    files.power_off();
    EXPECT_EQ(files.read("/d/synced", 100).value_or("none"), "after!");
    for (const char* name : {"old", "new", "gone"}) {
      const auto text = files.read(std::string("/d/") + name, 100);
      fates.insert(std::string(name) + " " + text.value_or("none"));
    }
  }
  EXPECT_EQ(fates, (std::set<std::string>{"gone before", "gone none", "new aft", "new after!",
                                          "new none", "old aft", "old after!", "old before"}));
}

}  // namespace
}  // namespace muster::sim
