// What commands say while nobody leads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/time.h"
#include "deploy/cli/leader_watch.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kNone = "the swarm does not have a leader";
constexpr const char* kAgain = "muster: the swarm has a leader again\n";

v1::GetInfoResponse led_by(const std::string& leader) {
  v1::GetInfoResponse info;
  info.set_control_available(true);
  info.set_leader_node_id(leader);
  return info;
}

TEST(LeaderRecord, TellsALossOnceItLastsAndAFindAtOnce) {
  using Change = LeaderRecord::Change;
  LeaderRecord from_the_start;
  EXPECT_EQ(from_the_start.take(v1::GetInfoResponse()), Change::kNone) << "no manager";
  EXPECT_EQ(from_the_start.take(led_by("")), Change::kLost);
  EXPECT_EQ(from_the_start.take(led_by("")), Change::kNone) << "told already";
  EXPECT_EQ(from_the_start.take(led_by("n1")), Change::kFound);
  LeaderRecord later;
  EXPECT_EQ(later.take(led_by("n1")), Change::kNone);
  for (int i = 1; i < LeaderRecord::kLostAfter; ++i) {
    EXPECT_EQ(later.take(led_by("")), Change::kNone) << "an election";
    EXPECT_TRUE(later.doubtful());
  }
  EXPECT_EQ(later.take(led_by("n2")), Change::kNone);
  EXPECT_FALSE(later.doubtful());
  for (int i = 1; i < LeaderRecord::kLostAfter; ++i) later.take(led_by(""));
  EXPECT_EQ(later.take(led_by("")), Change::kLost);
  EXPECT_TRUE(later.lost());
}

class Leaderless : public testing::Test {
 protected:
  Leaderless() {
    char name[] = "/tmp/muster-cli-XXXXXX";
    dir_ = mkdtemp(name);
    v1::WatchResponse message;
    message.set_version(5);
    message.set_time_ns(kNow - 1'000'000'000);
    auto* event = message.add_events();
    event->set_action(v1::ObjectEvent::CREATE);
    event->mutable_network()->set_id("net1");
    daemon_.watch_messages.push_back(message);
  }
  ~Leaderless() override { std::filesystem::remove_all(dir_); }
  FakeDaemon daemon_;
  std::filesystem::path dir_;
};

TEST_F(Leaderless, OldEventsAreShownWithAWarning) {
  daemon_.info = led_by("");
  const Outcome past = run_muster(
      daemon_, {"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.ID}}"});
  EXPECT_EQ(past.code, 0);
  EXPECT_EQ(past.out, "net1\n");
  EXPECT_THAT(past.err, HasSubstr(kNone));
  EXPECT_THAT(past.err, HasSubstr("may be old"));
  EXPECT_THAT(past.err, Not(HasSubstr("new ones come")));
  daemon_.info = led_by("n1");
  EXPECT_EQ(run_muster(daemon_, {"events", "--since", "1h", "--until", "0s"}).err, "");
}

TEST_F(Leaderless, FollowersOfEventsHearOfALeaderThatComes) {
  daemon_.info_script = {led_by("")};
  daemon_.info = led_by("n1");
  daemon_.end_streams = false;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto until = std::chrono::ceil<std::chrono::seconds>(now).count() + 5;
  const Outcome outcome =
      run_muster(daemon_, {"events", "--until", std::to_string(until)}, "", true);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(kNone));
  EXPECT_THAT(outcome.err, HasSubstr("new ones come when there is one again"));
  EXPECT_THAT(outcome.err, HasSubstr(kAgain));
}

// What runs is no success before there is somebody to hear of it.
TEST_F(Leaderless, WhoWaitsForAServiceIsTold) {
  daemon_.add_service("web", 2);
  // Found after two seconds: twice the time that the tasks have to stay up.
  daemon_.info_script.assign(4, led_by(""));
  daemon_.info = led_by("n1");
  daemon_.watch_messages.clear();
  daemon_.end_streams = false;
  daemon_.tasks[1].mutable_status()->set_state(v1::TASK_PREPARING);
  v1::WatchResponse message;
  auto* event = message.add_events();
  event->set_action(v1::ObjectEvent::UPDATE);
  *event->mutable_task() = daemon_.tasks[1];
  event->mutable_task()->mutable_meta()->set_version(50);
  event->mutable_task()->mutable_status()->set_state(v1::TASK_RUNNING);
  daemon_.watch_messages.push_back(message);
  const Outcome outcome =
      run_muster(daemon_, {"service", "scale", "--monitor", "1s", "web=2"}, "", true);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(std::string("muster: ") + kNone + ": nothing changes"));
  EXPECT_THAT(outcome.err, HasSubstr(kAgain));
}

TEST_F(Leaderless, ABackupSaysThatNobodyConfirmsIt) {
  daemon_.backup_chunks = {"all"};
  daemon_.info = led_by("");
  const std::string file = (dir_ / "backup").string();
  const Outcome without = run_muster(daemon_, {"swarm", "backup", file}, "pass\n");
  EXPECT_EQ(without.code, 0);
  EXPECT_THAT(without.err, HasSubstr("WARNING: the swarm does not have a leader"));
  EXPECT_EQ(*read_file(file), "all");

  daemon_.info = led_by("n1");
  daemon_.backup_chunks = {"newer"};
  const Outcome again = run_muster(daemon_, {"swarm", "backup", file}, "pass\n");
  EXPECT_EQ(again.code, 1);
  EXPECT_EQ(again.err, "muster: " + file +
                           " exists already: name another file, or give --force to replace it\n");
  EXPECT_EQ(*read_file(file), "all");
  EXPECT_EQ(run_muster(daemon_, {"swarm", "backup", "--force", file}, "pass\n").err, "");
  EXPECT_EQ(*read_file(file), "newer");
  EXPECT_EQ(run_muster(daemon_, {"swarm", "backup", "/nodir/x"}, "pass\n").err,
            "muster: /nodir/x: No such file or directory\n");
}

// A musterd that is stopped (SIGSTOP) has its socket, and the kernel takes connections for it.
TEST_F(Leaderless, AMusterdThatDoesNotAnswerIsToldFromOneThatIsNotThere) {
  const std::string path = (dir_ / "sock").string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  const UniqueFd silent(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(silent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(silent.get(), 8), 0);
  const Outcome outcome = run_muster(daemon_, {"--socket", path, "service", "ls"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: musterd at unix://" + path +
                             " does not answer: its process is there, but stopped, or too busy\n");
}

}  // namespace
}  // namespace muster::deploy::cli
