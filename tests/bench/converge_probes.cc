#include "tests/bench/converge_probes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <chrono>
#include <utility>

#include "base/unique_fd.h"
#include "tests/bench/sockets.h"

namespace muster::bench {
namespace {

constexpr int kTryMs = 100;  // an answer that takes longer is asked for again
constexpr const char* kResolver = "127.0.0.11";

int64_t wall_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool ready(int fd, short events) {
  pollfd wait{fd, events, 0};
  return poll(&wait, 1, kTryMs) == 1;
}

bool connects(const Question& question) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in to = address_of(question.address, question.port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0 &&
      errno != EINPROGRESS) {
    return false;
  }
  if (!ready(fd.get(), POLLOUT) || !ready(fd.get(), POLLIN)) return false;
  char byte = 0;
  return ::recv(fd.get(), &byte, 1, 0) == 1;
}

// A question for an IPv4 address, RFC 1035.
std::string query_for(const std::string& name) {
  std::string out = {0x4d, 0x55, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    out += static_cast<char>(end - begin);
    out += name.substr(begin, end - begin);
    begin = end + 1;
  }
  out += {0, 0, 1, 0, 1};
  return out;
}

bool resolves(const Question& question) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = address_of(kResolver, 53);
  const std::string query = query_for(question.name);
  if (::sendto(fd.get(), query.data(), query.size(), 0, reinterpret_cast<const sockaddr*>(&to),
               sizeof(to)) < 0 ||
      !ready(fd.get(), POLLIN)) {
    return false;
  }
  char answer[512];
  const ssize_t size = ::recv(fd.get(), answer, sizeof(answer), 0);
  in_addr wanted{};
  inet_pton(AF_INET, question.address.c_str(), &wanted);
  // The address, as the last four bytes of a record of type A.
  return size > 0 &&
         std::string(answer, static_cast<size_t>(size))
                 .find(std::string(reinterpret_cast<const char*>(&wanted), 4)) != std::string::npos;
}

}  // namespace

Probes::Probes(std::vector<Question> questions)
    : questions_(std::move(questions)), answered_(questions_.size()) {
  for (size_t i = 0; i < questions_.size(); ++i) threads_.emplace_back([this, i] { ask(i); });
}

Probes::~Probes() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void Probes::ask(size_t index) {
  const Question& question = questions_[index];
  if (question.ns >= 0 && setns(question.ns, CLONE_NEWNET) != 0) return;
  while (!stopping_) {
    const bool right =
        question.kind == Question::Kind::kName ? resolves(question) : connects(question);
    if (right) {
      answered_[index] = wall_now_ns();
      return;
    }
    poll(nullptr, 0, kPauseMs);
  }
}

Result<std::vector<WallTime>> Probes::await(Duration patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::vector<WallTime> out;
  for (size_t i = 0; i < questions_.size(); ++i) {
    while (answered_[i] == 0) {
      if (std::chrono::steady_clock::now() > deadline) {
        const Question& question = questions_[i];
        return fail(unavailable("question {} ({} {}:{}) is not answered within {}", i,
                                question.name, question.address, question.port,
                                format_duration(patience)));
      }
      poll(nullptr, 0, kPauseMs);
    }
    out.push_back({answered_[i]});
  }
  return out;
}

}  // namespace muster::bench
