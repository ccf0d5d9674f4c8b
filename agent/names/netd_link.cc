#include "agent/names/netd_link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "overlay/dataplane/host/port_messages.h"
#include "overlay/dns/netd/mended.h"
#include "overlay/dns/netd/records.h"

namespace muster::agent {
namespace {

constexpr Duration kEndTimeout = 5s;
constexpr std::string_view kRelayPrefix = "relay/";

// A netd that is stuck takes nothing: neither what is sent nor, in time, another connection.
Result<UniqueFd> connect_to(const std::string& path, Duration limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(invalid_argument("{} is long", path));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval time{limit / 1s, limit % 1s / 1us};
  if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(errno_status(errno, path));
  }
  return fd;
}

// The processes "PROGRAM netd ... --run-dir RUN_DIR ...", held: one that hangs does not say its
// number, and the number may be another's by now.
std::vector<UniqueFd> netds_of(const std::string& run_dir) {
  std::vector<UniqueFd> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const int64_t pid = std::atoll(entry.path().filename().c_str());
    if (pid <= 0) continue;
    UniqueFd process = open_pidfd(pid);
    if (!process) continue;
    const auto line = read_file(fmt::format("/proc/{}/cmdline", pid), 1 << 16);
    if (!line) continue;
    std::vector<std::string> words;
    for (size_t at = 0; at < line->size();) {
      words.emplace_back(line->c_str() + at);
      at += words.back().size() + 1;
    }
    if (words.size() < 2 || words[1] != "netd") continue;
    const auto option = std::find(words.begin(), words.end(), "--run-dir");
    if (option == words.end() || option + 1 == words.end() || *(option + 1) != run_dir) continue;
    out.push_back(std::move(process));
  }
  return out;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

NetdLink::NetdLink(NetdLinkOptions options, Log log)
    : options_(std::move(options)),
      log_(std::move(log)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      replace_backoff_(options_.replace_again, kReplaceMax),
      thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "netd-link");
}

NetdLink::~NetdLink() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void NetdLink::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

template <class F>
uint64_t NetdLink::change(F f) {
  uint64_t number = 0;
  {
    std::lock_guard lock(mutex_);
    f();
    if (!book_.changed()) return changes_;
    number = ++changes_;
  }
  wake();
  return number;
}

void NetdLink::begin(const std::string& node_id) {
  change([&] {
    book_ = NameBook(node_id, options_.virtual_ips);
    v1::NetdSettings settings;
    settings.set_ttl_ns(options_.ttl.count());
    book_.set_settings(settings);
    failures_.clear();
    if (encapsulation_) book_.set_encapsulation(*encapsulation_, false);
    begun_anew_ = true;
    wanted_ = true;
    serving_ = false;
  });
}

void NetdLink::serve() {
  {
    std::lock_guard lock(mutex_);
    serving_ = wanted_;
  }
  wake();
}

Status NetdLink::attach(const v1::NetdContainer& container) {
  const uint64_t number = change([&] {
    failures_.erase(container.id());
    book_.set_container(container);
  });
  std::unique_lock lock(mutex_);
  const bool done = applied_changed_.wait_for(
      lock, kAttachTimeout, [&] { return applied_ >= number || stopping_ || !wanted_; });
  if (!done || applied_ < number) {
    return Status(StatusCode::kDeadlineExceeded, "the resolver of this node does not answer");
  }
  const auto failure = failures_.find(container.id());
  return failure == failures_.end() ? ok_status()
                                    : failed_precondition("name resolution: {}", failure->second);
}

void NetdLink::adopt(const v1::NetdContainer& container) {
  change([&] { book_.set_container(container); });
}

void NetdLink::detach(const std::string& container_id) {
  change([&] {
    failures_.erase(container_id);
    book_.remove_container(container_id);
  });
}

void NetdLink::set_task(const v1::LocalTask& task) {
  change([&] { book_.set_task(task); });
}

void NetdLink::forget_task(const std::string& task_id) {
  change([&] { book_.remove_task(task_id); });
}

void NetdLink::apply(const overlay::NetworkStep& step) {
  change([&] {
    if (book_.apply(step)) begun_anew_ = true;
  });
}

void NetdLink::forget_network(const std::string& network_id) {
  change([&] { book_.forget_network(network_id); });
}

void NetdLink::set_relays(const std::vector<v1::NetdRelay>& relays, bool again) {
  change([&] {
    if (book_.set_relays(relays, again)) begun_anew_ = true;
  });
}

std::map<std::string, std::string> NetdLink::failed_relays() {
  std::lock_guard lock(mutex_);
  std::map<std::string, std::string> out;
  for (const auto& [key, why] : failed_relays_) {
    std::string id = key.substr(kRelayPrefix.size());
    if (!id.starts_with(overlay::dns::kEncapsulation)) out.emplace(std::move(id), why);
  }
  return out;
}

Status NetdLink::hold_encapsulation(uint16_t port) {
  const std::string key = NameBook::encapsulation_key(port);
  bool told = false;
  const uint64_t number = change([&] {
    // One that has failed may be free by now.
    const bool again = failed_relays_.contains(key);
    told = again || encapsulation_ != port;
    encapsulation_ = port;
    if (book_.set_encapsulation(port, again)) begun_anew_ = told = true;
  });
  std::unique_lock lock(mutex_);
  if (told) encapsulation_change_ = number;
  if (port == 0 || !serving_) return ok_status();
  const uint64_t awaited = encapsulation_change_;
  applied_changed_.wait_for(lock, kForceTimeout,
                            [&] { return applied_ >= awaited || stopping_ || !wanted_; });
  const auto failure = failed_relays_.find(key);
  return failure == failed_relays_.end() ? ok_status() : failed_precondition("{}", failure->second);
}

void NetdLink::after_applied(Executor& strand, UniqueFunction<void()> next) {
  {
    std::lock_guard lock(mutex_);
    // Behind those that wait, though what they waited for may have come by now.
    if (wanted_ && (applied_ < changes_ || !waiters_.empty())) {
      waiters_.push_back({changes_, clock_.now() + kForceTimeout, &strand, std::move(next)});
      // Its time-out counts from now: the thread may be asleep for longer.
    }
  }
  if (next) return strand.post(std::move(next));
  wake();
}

// ---------------------------------------------------------------- the thread

void NetdLink::run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    bool wanted = false;
    bool serving = false;
    {
      std::lock_guard lock(mutex_);
      wanted = wanted_;
      serving = serving_;
    }
    if (!wanted && socket_) disconnect();
    // What it says of itself comes with a new connection.
    if (replace_at_ && clock_.now() >= *replace_at_) {
      replace_at_.reset();
      if (socket_) reconnect();
    }
    if (serving && !socket_ && clock_.now() >= retry_at_) {
      if (const Status status = connect(); !status.ok()) {
        if (backoff_.fresh() && status.code() != StatusCode::kCancelled)
          log_->error("netd: {}", status.message());
        retry_at_ = clock_.now() + backoff_.next();
        if (!refused_since_) refused_since_ = clock_.now();
        // One that cannot be connected to keeps others from its place.
        if (clock_.now() - *refused_since_ >= options_.hung_after) end_hung();
      }
    }
    if (socket_ && update_sent_ && clock_.now() - sent_at_ >= options_.hung_after) end_hung();
    if (socket_ && !send_update()) {
      if (clock_.now() - sent_at_ >= options_.hung_after) end_hung();
      if (socket_) disconnect();
    }
    release_waiters();
    wait();
  }
}

Status NetdLink::launch(bool take_over) {
  {
    std::lock_guard lock(mutex_);
    if (!wanted_) return Status(StatusCode::kCancelled, "no longer wanted");
    launching_ = true;
  }
  Status launched = options_.launch(take_over);
  {
    std::lock_guard lock(mutex_);
    launching_ = false;
  }
  applied_changed_.notify_all();
  return launched;
}

Status NetdLink::connect() {
  const std::string path = overlay::dns::netd_socket(options_.run_dir);
  auto fd = connect_to(path, options_.hung_after);
  if (!fd) {
    MUSTER_TRY(launch(false));
    fd = connect_to(path, options_.hung_after);
    if (!fd) return fd.error();
    log_->info("netd was started");
  }
  socket_ = *std::move(fd);
  in_ = {};
  told_ = false;
  update_sent_ = false;
  backoff_.reset();
  refused_since_.reset();
  return ok_status();
}

void NetdLink::disconnect() {
  socket_.reset();
  bool wanted = false;
  {
    std::lock_guard lock(mutex_);
    wanted = wanted_;
  }
  if (wanted) log_->warn("netd is gone and is started anew");
  retry_at_ = clock_.now();
}

void NetdLink::end_hung() {
  refused_since_.reset();
  const std::vector<UniqueFd> hung = netds_of(options_.run_dir);
  if (!hung.empty()) {
    log_->warn("netd has not answered for {} and is killed", format_duration(options_.hung_after));
  }
  for (const UniqueFd& process : hung) {
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
  }
  // Its place is free when it is gone.
  for (const UniqueFd& process : hung) {
    struct pollfd gone {
      process.get(), POLLIN, 0
    };
    (void)::poll(&gone, 1, kEndTimeout / 1ms);
  }
  if (socket_) disconnect();
}

bool NetdLink::send_update() {
  if (update_sent_) return true;
  v1::NetdCommand command;
  {
    std::lock_guard lock(mutex_);
    if (!serving_) return true;
    if (std::exchange(begun_anew_, false)) told_ = false;
    if (told_ && !book_.changed()) return true;
    *command.mutable_update() = told_ ? book_.increment() : book_.complete();
    under_way_ = changes_;
  }
  command.mutable_update()->set_version(under_way_);
  relays_sent_.clear();
  for (const v1::NetdRecord& record : command.update().records()) {
    if (record.has_relay()) relays_sent_.push_back(record.key());
  }
  for (const std::string& key : command.update().removed_keys()) relays_sent_.push_back(key);
  all_relays_sent_ = command.update().complete();
  told_ = true;
  update_sent_ = true;
  sent_at_ = clock_.now();
  return send_all(socket_.get(), overlay::dns::encode_frame(command));
}

bool NetdLink::receive() {
  std::array<char, 16384> buffer;
  const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  in_.add({buffer.data(), static_cast<size_t>(got)});
  while (true) {
    const auto frame = in_.next();
    if (!frame) return false;
    if (!*frame) return true;
    v1::NetdReply reply;
    if (!reply.ParseFromString(**frame)) return false;
    if (!heard(reply)) return true;
  }
}

// False when the connection is another one now.
bool NetdLink::heard(const v1::NetdReply& reply) {
  if (reply.has_ack()) acknowledged(reply.ack());
  if (reply.has_state()) mended(reply.state());
  if (!reply.has_hello() || reply.hello().build() == options_.build) return true;
  if (replaced_ || replace_at_) return true;
  replace(reply.hello().program());
  return false;
}

void NetdLink::replace(const std::string& program) {
  log_->info("netd is of another program ({}) and is replaced", program);
  const Status launched = launch(true);
  replaced_ = launched.ok();
  if (!replaced_) {
    const Duration again = replace_backoff_.next();
    replace_at_ = clock_.now() + again;
    log_->warn("replacing netd: {}; trying again in {}", launched.message(),
               format_duration(again));
  }
  reconnect();
}

// Whoever serves now is found at the same place, and is told everything.
void NetdLink::reconnect() {
  socket_.reset();
  retry_at_ = clock_.now();
}

void NetdLink::acknowledged(const v1::NetdAck& ack) {
  update_sent_ = false;
  {
    std::lock_guard lock(mutex_);
    applied_ = std::max(applied_, under_way_);
    if (all_relays_sent_) failed_relays_.clear();
    for (const std::string& key : relays_sent_) failed_relays_.erase(key);
    for (const v1::NetdFailure& failure : ack.failures()) {
      if (failure.container_id().starts_with(kRelayPrefix)) {
        failed_relays_[failure.container_id()] = failure.message();
      } else {
        failures_[failure.container_id()] = failure.message();
      }
    }
  }
  for (const v1::NetdFailure& failure : ack.failures()) {
    if (failure.container_id().starts_with(kRelayPrefix)) continue;  // whoever asks is told
    log_->warn("container {} has no resolver: {}", failure.container_id(), failure.message());
  }
  applied_changed_.notify_all();
}

void NetdLink::mended(const v1::NetdUpdate& news) {
  std::vector<std::string> sentences;
  for (const v1::NetdRecord& record : news.records()) {
    if (!record.key().starts_with(overlay::dns::kMendedPrefix)) continue;
    sentences.push_back(fmt::format("container {} was not led to its resolver as it should",
                                    record.key().substr(overlay::dns::kMendedPrefix.size())));
    log_->warn("repaired: {}", sentences.back());
  }
  if (sentences.empty()) return;
  std::lock_guard lock(mutex_);
  if (tell_mended_) tell_mended_(sentences);
}

void NetdLink::on_mended(std::function<void(const std::vector<std::string>&)> tell) {
  std::lock_guard lock(mutex_);
  tell_mended_ = std::move(tell);
}

void NetdLink::release_waiters() {
  std::list<Waiter> due;
  {
    std::lock_guard lock(mutex_);
    const TimePoint at = clock_.now();
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      const auto next = std::next(it);
      if (!wanted_ || it->change <= applied_ || it->until <= at) {
        due.splice(due.end(), waiters_, it);
      }
      it = next;
    }
  }
  for (Waiter& waiter : due) waiter.strand->post(std::move(waiter.next));
}

int NetdLink::wait_ms() {
  std::lock_guard lock(mutex_);
  TimePoint next{Duration::max()};
  // They are in the order of their time-outs.
  if (!waiters_.empty()) next = waiters_.front().until;
  if (serving_ && !socket_) next = std::min(next, retry_at_);
  if (replace_at_) next = std::min(next, *replace_at_);
  if (socket_ && update_sent_) next = std::min(next, sent_at_ + options_.hung_after);
  if (next.since_start == Duration::max()) return -1;
  return static_cast<int>(std::max<int64_t>((next - clock_.now()) / 1ms + 1, 0));
}

void NetdLink::wait() {
  struct pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
  if (::poll(fds, socket_ ? 2 : 1, wait_ms()) < 0) return;
  if (fds[0].revents != 0) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  }
  if (socket_ && fds[1].revents != 0 && !receive()) disconnect();
}

// ---------------------------------------------------------------- the end

Status NetdLink::end() {
  {
    std::lock_guard lock(mutex_);
    wanted_ = false;
    serving_ = false;
    book_ = NameBook();
    encapsulation_.reset();
  }
  applied_changed_.notify_all();
  wake();
  {
    // One that is being started is to be ended, too.
    std::unique_lock started(mutex_);
    applied_changed_.wait(started, [&] { return !launching_; });
  }
  const UniqueFd lock(
      ::open(overlay::dns::netd_lock(options_.run_dir).c_str(), O_RDWR | O_CLOEXEC));
  if (!lock) return ok_status();  // there never was one
  auto fd = connect_to(overlay::dns::netd_socket(options_.run_dir), options_.hung_after);
  if (fd) {
    v1::NetdCommand command;
    command.mutable_shutdown();
    (void)send_all(fd->get(), overlay::dns::encode_frame(command));
    // It closes the connection when it ends.
    const TimePoint until = clock_.now() + kEndTimeout;
    std::array<char, 4096> buffer;
    while (clock_.now() < until) {
      struct pollfd ended {
        fd->get(), POLLIN, 0
      };
      const auto left = static_cast<int>(std::max<int64_t>((until - clock_.now()) / 1ms, 1));
      if (::poll(&ended, 1, left) > 0 && ::recv(fd->get(), buffer.data(), buffer.size(), 0) <= 0) {
        break;
      }
    }
  }
  // The lock goes with the process.
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Status(StatusCode::kDeadlineExceeded, "netd did not end in time");
  }
  ::unlink(overlay::dns::netd_socket(options_.run_dir).c_str());
  ::unlink(overlay::port_socket(options_.run_dir).c_str());
  ::unlink(overlay::dns::netd_lock(options_.run_dir).c_str());
  return ok_status();
}

}  // namespace muster::agent
