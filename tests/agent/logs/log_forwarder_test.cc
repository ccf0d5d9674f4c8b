#include "agent/logs/log_forwarder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/descriptor_messages.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

// A datagram socket that takes what is sent, as a journal or syslog does.
class Receiver {
 public:
  explicit Receiver(const std::string& path)
      : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    struct sockaddr_un address {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address), 0);
  }
  // The next message; empty when none comes within `limit_ms`.
  std::string next(int limit_ms = 20'000) {
    struct pollfd ready {
      fd_.get(), POLLIN, 0
    };
    if (::poll(&ready, 1, limit_ms) != 1) return {};
    char buffer[65536];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : std::string();
  }
  // What is in the file of the next message, which has nothing else; empty when it has none.
  std::string next_file() {
    DescriptorMessage got;
    EXPECT_EQ(receive_descriptors(fd_.get(), {1, 1}, got), 0);
    EXPECT_EQ(got.bytes, "");
    if (got.descriptors.empty()) return {};
    const int file = got.descriptors.front().get();
    EXPECT_NE(::fcntl(file, F_GET_SEALS) & F_SEAL_WRITE, 0);
    std::string text(8 << 20, '\0');
    const ssize_t size = ::pread(file, text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return text;
  }

 private:
  UniqueFd fd_;
};

class LogForwarderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    char path[] = "/tmp/muster-fwd-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    dir_ = path;
    std::filesystem::create_directory(dir_ + "/c1");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void append(const std::string& text, char tag = 'F') {
    std::ofstream(dir_ + "/c1/container.log", std::ios::app)
        << fmt::format("2026-01-31T08:05:{:02}Z stdout {} {}\n", serial_++ % 60, tag, text);
  }
  ForwardTarget target(const std::string& driver) const {
    ForwardTarget out;
    out.task_id = "t1";
    out.bundle_dir = dir_ + "/c1";
    out.driver.set_name(driver);
    if (driver == "syslog") {
      v1::KeyValue& address = *out.driver.add_options();
      address.set_key("syslog-address");
      address.set_value("unixgram://" + dir_ + "/log");
    }
    out.identity.tag = "web";
    out.identity.name = "web.1";
    out.identity.pid = 1;
    return out;
  }
  static std::string text_of(const std::string& message) {
    const size_t at = message.find("]: ");
    return at == std::string::npos ? message : message.substr(at + 3);
  }

  std::string dir_;
  int serial_ = 0;
};

TEST_F(LogForwarderTest, GoesOnWhereAnEarlierOneEnded) {
  Receiver receiver(dir_ + "/log");
  append("a");
  append("b");
  {
    LogForwarder forwarder(dir_ + "/journal", null_log());
    forwarder.set_targets({target("syslog")});
    EXPECT_EQ(text_of(receiver.next()), "a");
    EXPECT_EQ(text_of(receiver.next()), "b");
    append("c");
    EXPECT_EQ(text_of(receiver.next()), "c");
  }
  append("d");
  std::filesystem::rename(dir_ + "/c1/container.log", dir_ + "/c1/container.log.1");
  append("e");
  append("tail without an end", 'P');
  LogForwarder forwarder(dir_ + "/journal", null_log());
  ForwardTarget last = target("syslog");
  forwarder.set_targets({last});
  EXPECT_EQ(text_of(receiver.next()), "d");
  EXPECT_EQ(text_of(receiver.next()), "e");
  last.ended = true;
  forwarder.set_targets({last});
  EXPECT_EQ(text_of(receiver.next()), "tail without an end");
  EXPECT_EQ(receiver.next(50), "");
}

TEST_F(LogForwarderTest, LinesWaitForAServerThatIsNotThere) {
  append("a");
  LogForwarder forwarder(dir_ + "/journal", null_log());
  forwarder.set_targets({target("syslog")});
  append("b");
  Receiver receiver(dir_ + "/log");
  EXPECT_EQ(text_of(receiver.next()), "a");
  EXPECT_EQ(text_of(receiver.next()), "b");
}

TEST_F(LogForwarderTest, TheJournalGetsItsOwnProtocol) {
  Receiver receiver(dir_ + "/journal");
  append("hello");
  LogForwarder forwarder(dir_ + "/journal", null_log());
  forwarder.set_targets({target("journald")});
  const std::string entry = receiver.next();
  EXPECT_EQ(entry.rfind("MESSAGE=hello\n", 0), 0U) << entry;
  EXPECT_NE(entry.find("CONTAINER_NAME=web.1\n"), std::string::npos);
}

TEST_F(LogForwarderTest, WhatIsTooLargeForADatagramGetsToTheJournalInASealedFile) {
  Receiver receiver(dir_ + "/journal");
  const auto sink = make_journal_sink(dir_ + "/journal");
  const std::string large(4 << 20, 'x');
  ASSERT_TRUE(sink->send(large).ok());
  EXPECT_TRUE(receiver.next_file() == large);
  ASSERT_TRUE(sink->send("small again").ok());
  EXPECT_EQ(receiver.next(), "small again");
}

TEST_F(LogForwarderTest, AStreamThatWasClosedIsOpenedAnew) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_in address {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<struct sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), any, size), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  ASSERT_EQ(::getsockname(listener.get(), any, &size), 0);
  const auto sink = make_syslog_sink(
      *parse_syslog_address(fmt::format("tcp://127.0.0.1:{}", ntohs(address.sin_port))));
  const auto received = [](const UniqueFd& from) {
    char buffer[256];
    const ssize_t got = ::recv(from.get(), buffer, sizeof buffer, 0);
    return std::string(buffer, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  };
  ASSERT_TRUE(sink->send("<30>one").ok());
  UniqueFd first(::accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(received(first), "<30>one\n");
  ::shutdown(first.get(), SHUT_RDWR);
  first.reset();
  ASSERT_TRUE(sink->send("<30>two").ok());
  const UniqueFd second(::accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(received(second), "<30>two\n");
}

TEST_F(LogForwarderTest, WhatIsNotNamedAnyMoreIsLeft) {
  Receiver receiver(dir_ + "/log");
  append("a");
  LogForwarder forwarder(dir_ + "/journal", null_log());
  forwarder.set_targets({target("syslog")});
  EXPECT_EQ(text_of(receiver.next()), "a");
  forwarder.set_targets({});
  // It may be writing down right now how far it is.
  while (!remove_tree(dir_ + "/c1").ok()) {
  }
  EXPECT_EQ(receiver.next(50), "");
}

}  // namespace
}  // namespace muster::agent
