// The program's manners: global options, help, output that fails, names that tear tables.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "deploy/cli/listing.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Usage : public testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& words, const std::string& input = "") {
    return run_muster(daemon_, words, input);
  }
  FakeDaemon daemon_;
};

TEST_F(Usage, TheSocketIsAPathAndAManagersPortNeedsACertificate) {
  EXPECT_EQ(run({"--socket"}).err,
            "muster: flag needs an argument: --socket. See 'muster --help'.\n");
  const Outcome remote = run({"--socket", "tcp://10.0.0.1:2377", "service", "ls"});
  EXPECT_EQ(remote.code, 2);
  EXPECT_EQ(remote.err,
            "muster: a manager's port asks for a certificate: give --tlscacert, --tlscert and "
            "--tlskey, or MUSTER_CERT_PATH (--tlscacert is missing)\n");
  EXPECT_EQ(
      run({"--socket=here.sock", "service", "ls"}).err,
      "muster: Cannot connect to musterd at unix:///work-dir/here.sock. Is musterd running?\n");
}

TEST_F(Usage, HelpOfACommand) {
  EXPECT_EQ(run({"help", "service", "scale"}).out, run({"service", "scale", "--help"}).out);
  EXPECT_EQ(run({"help", "service"}).out, run({"service", "--help"}).out);
  EXPECT_THAT(run({"help"}).out,
              StartsWith("Usage:  muster [--socket PATH | --host tcp://HOST:PORT] COMMAND\n"));
  EXPECT_EQ(run({"help", "nonsense"}).code, 2);
}

TEST_F(Usage, OutputThatCannotBeWrittenIsAFailure) {
  daemon_.add_service("web", 1);
  const std::string command =
      "MUSTER_SOCKET=" + daemon_.address() + " " MUSTER_PROGRAM " service ls >/dev/full 2>&1";
  const int status = system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST_F(Usage, TasksOfAService) {
  daemon_.add_service("web", 1);
  daemon_.add_service("worker", 1);
  EXPECT_EQ(run({"task", "ls", "-q", "-f", "service=web"}).out, "taskweb1\n");
  EXPECT_EQ(run({"task", "ls", "-q", "-f", "service=id-worker"}).out, "taskworker1\n");
  v1::Container container;
  container.set_id("c1");
  container.set_task_name("web.1");
  daemon_.containers.push_back(container);
  EXPECT_EQ(run({"ps", "-q", "-f", "service=web"}).out, "c1\n");
  EXPECT_EQ(run({"ps", "-q", "-f", "service=we"}).out, "");
}

TEST_F(Usage, LineBreaksInValuesDoNotTearTables) {
  daemon_.add_service("web", 1);
  daemon_.tasks[0].mutable_status()->set_error("first\nsecond\tthird");
  const std::string table = run({"task", "ls"}).out;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 2) << table;
  EXPECT_THAT(table, HasSubstr("\"first second third\""));
  EXPECT_THAT(run({"task", "ls", "--format", "json"}).out, HasSubstr("first\\nsecond\\tthird"));
}

TEST_F(Usage, EventsOfThePastAreShownWhole) {
  for (const char* name : {"first", "second"}) {
    v1::WatchResponse message;
    message.set_time_ns(kNow - 1'000'000'000);
    auto* event = message.add_events();
    event->set_action(v1::ObjectEvent::CREATE);
    event->mutable_network()->set_id(name);
    daemon_.watch_messages.push_back(message);
  }
  daemon_.end_streams = false;
  EXPECT_EQ(run({"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.ID}}"}).out,
            "first\nsecond\n");
  daemon_.watch_messages[1].set_time_ns(kNow + 1);
  EXPECT_EQ(run({"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.ID}}"}).out,
            "first\n");
  const v1::WatchRequest& asked = daemon_.watch_requests.at(0);
  EXPECT_EQ(asked.since_ns(), kNow - 3'600'000'000'000);
  EXPECT_TRUE(asked.until_present()) << "the server says when that was all";
}

TEST_F(Usage, EventsSayWhatIsNoLongerKept) {
  v1::WatchResponse notice;
  notice.set_incomplete(true);
  daemon_.watch_messages.push_back(notice);
  const Outcome outcome = run({"events", "--since", "1h", "--until", "0s"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "the earliest events are no longer kept\n");
}

TEST_F(Usage, LogsOfATaskByItsName) {
  daemon_.add_service("web", 2);
  v1::Task newer = daemon_.tasks[0];
  newer.set_id("newest");
  newer.mutable_meta()->set_created_at_ns(kNow);
  daemon_.tasks.insert(daemon_.tasks.begin() + 1, newer);
  // The server knows tasks by their ids alone.
  daemon_.tasks_by_name = false;
  EXPECT_EQ(run({"logs", "web.1"}).code, 0);
  ASSERT_EQ(daemon_.log_requests.size(), 1U);
  EXPECT_EQ(daemon_.log_requests[0].task_ids(0), "newest");
  for (const char* name : {"web.3", "worker.1", "web."}) {
    const Outcome outcome = run({"logs", name});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.err, fmt::format("muster: no such task or service: {}\n", name));
  }
}

TEST_F(Usage, ARunningTaskSaysWhatIsWrong) {
  daemon_.add_service("web", 1);
  daemon_.tasks[0].mutable_status()->set_message(
      "started; port 80/tcp is taken by another program of this host");
  daemon_.end_streams = false;
  EXPECT_THAT(run({"service", "ps", "--no-trunc", "web"}).out,
              HasSubstr("\"port 80/tcp is taken by another program of this host\""));
  const Outcome outcome = run({"service", "scale", "--monitor", "0s", "web=1"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err,
            "WARNING: task web.1: port 80/tcp is taken by another program of this host\n");
}

TEST_F(Usage, AServiceNamedTwiceIsWaitedForOnce) {
  daemon_.add_service("web", 1);
  daemon_.end_streams = false;
  EXPECT_EQ(run({"service", "scale", "--monitor", "0s", "web=1", "web=1"}).out,
            "web scaled to 1\nweb scaled to 1\noverall progress: 1 out of 1 tasks\n"
            "verify: Service web converged\n");
}

TEST_F(Usage, ExecTellsWhyItsCommandDidNotStart) {
  daemon_.next_error = Status(StatusCode::kInternal, "chdir: No such file", "exec-start-failed");
  const Outcome outcome = run({"exec", "web.1", "pwd"});
  EXPECT_EQ(outcome.code, 126);
  EXPECT_EQ(outcome.err, "muster: chdir: No such file\n");
}

TEST(Shorten, CutsBetweenCharacters) {
  EXPECT_EQ(shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(shorten("abcdefg", 6), "abcde…");
  EXPECT_EQ(shorten("abcd\u00e4fg", 6), "abcd…");
}

TEST_F(Usage, APipeMayAnswerTheQuestion) {
  const Outcome yes = run({"volume", "prune"}, "y\n");
  EXPECT_EQ(yes.code, 0) << yes.err;
  EXPECT_THAT(yes.out, HasSubstr("Deleted Volumes:\nold\n"));
  EXPECT_EQ(run({"volume", "prune"}, "n\n").code, 1);
  const Outcome nobody = run({"volume", "prune"});
  EXPECT_EQ(nobody.code, 2);
  EXPECT_THAT(nobody.err, HasSubstr("--force"));
}

}  // namespace
}  // namespace muster::deploy::cli
