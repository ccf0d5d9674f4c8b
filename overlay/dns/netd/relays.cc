#include "overlay/dns/netd/relays.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/balancer/slots.h"
#include "overlay/dataplane/esp/esp_socket.h"
#include "overlay/dns/netd/records.h"

namespace muster::overlay::dns {
namespace {

constexpr uint32_t kEdges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
constexpr int kAcceptsMax = 64;    // until others have their turn
constexpr int kWaitingMax = 4096;  // in a listener's queue, at most (relay_sockets.cc)
constexpr Duration kPause = 100ms;
constexpr Duration kSweepPeriod = 30s;

// How handed things begin. A relay's id has no blank.
constexpr std::string_view kListener = "listener ";
constexpr std::string_view kConnection = "connection ";
constexpr std::string_view kWaiting = "waiting ";
constexpr std::string_view kFlow = "flow ";

std::string key_of(const std::string& id, const std::string& where) {
  return id + " " + where;
}

// The upper bits of a hash, as slots are resized (MurmurHash3's finalizer). The same in every
// process, so that a successor leads a client where its predecessor did.
size_t slot_of_client(const Ip& ip, size_t slots) {
  uint64_t hash = static_cast<uint64_t>(ip.value) ^ static_cast<uint64_t>(ip.value >> 64);
  for (const uint64_t factor : {0xff51afd7ed558ccdull, 0xc4ceb9fe1a85ec53ull}) {
    hash ^= hash >> 33;
    hash *= factor;
  }
  hash ^= hash >> 33;
  return static_cast<size_t>((hash >> 32) * slots >> 32);
}

}  // namespace

bool is_listener(const HandedRelay& handed) {
  return handed.text.starts_with(kListener);
}

struct Relays::Connection {
  UniqueFd client;
  UniqueFd backend;
  std::string relay;  // its id, while a backend is looked for
  std::string header;
  std::vector<SocketAddress> backends;  // to be tried, last first
  bool up = false;
  RelayStream forth;  // from the client
  RelayStream back;
  TimePoint moved_at;
  EventLoop::TimerId timer = 0;
  bool queued = false;  // for another turn
  Connections::iterator place;
  bool listed = false;
};

Relays::Relays(EventLoop& loop, Log log)
    : loop_(loop),
      log_(std::move(log)),
      flows_(loop, log_),
      self_(std::make_shared<Relays*>(this)) {}

Relays::~Relays() {
  *self_ = nullptr;
  abandon();
}

void Relays::abandon() {
  loop_.cancel(std::exchange(retry_, 0));
  loop_.cancel(std::exchange(sweep_, 0));
  for (const auto& connection : connections_) {
    loop_.cancel(connection->timer);
    connection->listed = false;
    loop_.unwatch(connection->client.get());
    if (connection->backend) loop_.unwatch(connection->backend.get());
  }
  connections_.clear();
  flows_.abandon();
  for (const auto& [id, relay] : relays_) {
    for (const auto& [where, listener] : relay->listeners) {
      if (listener.fd) loop_.unwatch(listener.fd.get());
    }
  }
  relays_.clear();
  inherited_.clear();
}

// ---------------------------------------------------------------- listeners

Status Relays::set(const v1::NetdRelay& record) {
  std::vector<SocketAddress> backends;
  for (const std::string& text : record.backends()) {
    MUSTER_ASSIGN(const ListenAddress backend, parse_listen_address(text));
    backends.push_back(backend.at);
  }
  auto& slot = relays_[record.id()];
  if (slot == nullptr) slot = std::make_unique<Relay>();
  Relay& relay = *slot;
  relay.record = record;
  relay.backends = std::move(backends);
  spread(relay);
  for (auto it = relay.listeners.begin(); it != relay.listeners.end();) {
    const auto& wanted = record.listen();
    if (std::find(wanted.begin(), wanted.end(), it->first) != wanted.end()) {
      ++it;
      continue;
    }
    close(relay, it->second);
    it = relay.listeners.erase(it);
  }
  if (is_datagrams(record)) {
    for (const auto& [where, listener] : relay.listeners) {
      if (listener.fd) flows_.keep_only(listener.fd.get(), relay.backends);
    }
  }
  for (const std::string& where : record.listen()) relay.listeners.try_emplace(where);
  const Status opened = open(relay);
  if (!opened.ok() && relay.said != opened.message()) {
    log_->warn("relay {}: {}", record.id(), opened.message());
  }
  relay.said = opened.message();
  return opened;
}

void Relays::spread(Relay& relay) {
  const v1::NetdRelay& record = relay.record;
  const std::vector<std::string> names(record.backends().begin(), record.backends().end());
  std::vector<uint32_t> weights(record.weights().begin(), record.weights().end());
  weights.resize(names.size(), 1);
  size_t count = slot_count(weights);
  // Slots that are too many are no harm, and a change of their number moves clients.
  if (relay.slots.size() > count && relay.slots.size() < count * 4) count = relay.slots.size();
  const auto old = relay.slots.size() == count ? relay.slots : resize_slots(relay.slots, count);
  relay.slots = assign_slots(old, names, count, weights);
  std::map<std::string_view, size_t> numbers;
  for (size_t i = 0; i < names.size(); ++i) numbers[names[i]] = i;
  relay.slot_backends.clear();
  for (const std::string& name : relay.slots) relay.slot_backends.push_back(numbers.at(name));
}

// Whose turn it is, or whose client; behind it others, for when it does not answer. Last first.
std::vector<SocketAddress> Relays::candidates(Relay& relay, const SocketAddress& client) {
  const auto& slots = relay.slot_backends;
  if (slots.empty()) return {};
  const size_t first =
      relay.record.by_client() ? slot_of_client(client.ip, slots.size()) : relay.next++;
  std::vector<size_t> chosen;
  for (size_t i = 0; i < slots.size() && chosen.size() < kBackendsTried; ++i) {
    const size_t backend = slots[(first + i) % slots.size()];
    if (std::find(chosen.begin(), chosen.end(), backend) == chosen.end()) chosen.push_back(backend);
  }
  std::vector<SocketAddress> out;
  for (auto it = chosen.rbegin(); it != chosen.rend(); ++it) out.push_back(relay.backends[*it]);
  return out;
}

// The first failure that somebody can do something about. An interface or a family that is not
// there is no failure, but may come.
Status Relays::open(Relay& relay) {
  Status outcome;
  bool missing = false;
  for (auto& [where, listener] : relay.listeners) {
    if (listener.fd) continue;
    const Status opened = open(relay, where, listener);
    missing = missing || !opened.ok();
    if (outcome.ok() && opened.code() != StatusCode::kNotFound) outcome = opened;
  }
  if (missing && retry_ == 0) retry_ = loop_.after(kRetryAfter, [this] { retry(); });
  return outcome;
}

Status Relays::open(Relay& relay, const std::string& where, Listener& listener) {
  const std::string& id = relay.record.id();
  if (auto handed = inherited_.extract(key_of(id, where)); !handed.empty()) {
    listener.fd = std::move(handed.mapped());
  } else {
    MUSTER_ASSIGN(const ListenAddress address, parse_listen_address(where));
    MUSTER_ASSIGN(listener.fd,
                  is_encapsulation(relay.record)
                      ? open_encapsulation(address.at.ip.v6, address.at.port)
                      : open_listener(address, is_datagrams(relay.record) ? Transport::kUdp
                                                                          : Transport::kTcp));
  }
  if (is_encapsulation(relay.record)) return ok_status();
  Status watched = loop_.watch(listener.fd.get(), EPOLLIN,
                               [this, id, where, datagrams = is_datagrams(relay.record)](uint32_t) {
                                 datagrams ? datagrams_from(id, where) : accept_from(id, where);
                               });
  if (!watched.ok()) listener.fd.reset();  // to be tried again, instead of keeping clients waiting
  return watched;
}

void Relays::retry() {
  retry_ = 0;
  for (const auto& [id, relay] : relays_) {
    const Status opened = open(*relay);
    if (opened.ok() && !relay->said.empty()) log_->info("relay {} listens now", id);
    relay->said = opened.message();
  }
}

void Relays::remove(const std::string& id) {
  const auto found = relays_.find(id);
  if (found == relays_.end()) return;
  for (auto& [where, listener] : found->second->listeners) close(*found->second, listener);
  relays_.erase(found);
}

void Relays::close(Relay& relay, Listener& listener) {
  if (!listener.fd) return;
  if (is_datagrams(relay.record)) {
    flows_.close(listener.fd.get(), chooser(relay));
  } else if (!is_encapsulation(relay.record)) {
    for (int i = 0; i < kWaitingMax && accept_one(relay, listener); ++i) {
    }
  }
  loop_.unwatch(listener.fd.get());
  listener.fd.reset();
}

// Its relay, null if it does not listen there.
Relays::Relay* Relays::find(const std::string& id, const std::string& where, Listener*& listener) {
  const auto relay = relays_.find(id);
  if (relay == relays_.end()) return nullptr;
  const auto found = relay->second->listeners.find(where);
  if (found == relay->second->listeners.end() || !found->second.fd) return nullptr;
  listener = &found->second;
  return relay->second.get();
}

void Relays::accept_from(const std::string& id, const std::string& where) {
  Listener* listener = nullptr;
  Relay* const relay = find(id, where, listener);
  if (relay == nullptr) return;
  for (int i = 0; i < kAcceptsMax && accept_one(*relay, *listener); ++i) {
  }
  if (listener->paused) pause(id, where);
}

void Relays::datagrams_from(const std::string& id, const std::string& where) {
  Listener* listener = nullptr;
  Relay* const relay = find(id, where, listener);
  if (relay != nullptr) flows_.serve(listener->fd.get(), chooser(*relay));
}

DatagramFlows::Choose Relays::chooser(Relay& relay) {
  return [&relay](const SocketAddress& client) { return candidates(relay, client); };
}

bool Relays::accept_one(Relay& relay, Listener& listener) {
  UniqueFd client(accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client) {
    // One that has gone meanwhile is no reason to stop.
    if (errno == ECONNABORTED || errno == EINTR || errno == EPERM) return true;
    listener.paused = errno != EAGAIN;
    return false;
  }
  if (connections_.size() >= kConnectionsMax) {
    if (!std::exchange(full_said_, true)) {
      log_->warn("{} relayed connections are as many as there may be; new ones are reset",
                 kConnectionsMax);
    }
    close_hard(std::move(client));
    return true;
  }
  begin(relay, std::move(client));
  return true;
}

// Whoever waits in the queue would wake the loop all the time.
void Relays::pause(const std::string& id, const std::string& where) {
  Listener* listener = nullptr;
  if (find(id, where, listener) != nullptr) loop_.change(listener->fd.get(), 0);
  loop_.after(kPause, [self = self_, id, where] {
    Listener* again = nullptr;
    if (*self == nullptr || (*self)->find(id, where, again) == nullptr) return;
    again->paused = false;
    (*self)->loop_.change(again->fd.get(), EPOLLIN);
  });
}

// ---------------------------------------------------------------- connections

void Relays::begin(Relay& relay, UniqueFd client) {
  auto connection = std::make_shared<Connection>();
  tune_stream(client.get());
  connection->relay = relay.record.id();
  const SocketAddress from = remote_end(client.get());
  connection->header =
      proxy_header(relay.record.proxy_protocol(), from, original_destination(client.get()));
  connection->client = std::move(client);
  connection->backends = candidates(relay, from);
  add(connection);
  try_backend(connection);
}

void Relays::add(const std::shared_ptr<Connection>& connection) {
  connection->moved_at = loop_.now();
  connection->place = connections_.insert(connections_.end(), connection);
  connection->listed = true;
  if (sweep_ == 0) sweep_ = loop_.after(kSweepPeriod, [this] { sweep(); });
}

void Relays::try_backend(const std::shared_ptr<Connection>& connection) {
  loop_.cancel(std::exchange(connection->timer, 0));
  if (connection->backend) loop_.unwatch(connection->backend.get());
  connection->backend.reset();
  while (!connection->backends.empty()) {
    const SocketAddress to = connection->backends.back();
    connection->backends.pop_back();
    auto fd = start_connecting(to);
    if (!fd) continue;
    connection->backend = *std::move(fd);
    const Status watched =
        loop_.watch(connection->backend.get(), EPOLLOUT, [this, connection](uint32_t) {
          int error = 0;
          socklen_t length = sizeof error;
          getsockopt(connection->backend.get(), SOL_SOCKET, SO_ERROR, &error, &length);
          return error == 0 ? connected(connection) : try_backend(connection);
        });
    if (!watched.ok()) continue;
    connection->timer = loop_.after(kConnectMax, [this, connection] {
      connection->timer = 0;
      try_backend(connection);
    });
    return;
  }
  end(connection, true);
}

void Relays::connected(const std::shared_ptr<Connection>& connection) {
  loop_.cancel(std::exchange(connection->timer, 0));
  loop_.unwatch(connection->backend.get());
  connection->up = true;
  connection->backends.clear();
  watch_both(connection);
}

void Relays::watch_both(const std::shared_ptr<Connection>& connection) {
  for (const int fd : {connection->client.get(), connection->backend.get()}) {
    const Status watched = loop_.watch(fd, kEdges, [this, connection](uint32_t events) {
      // What had come before a reset is passed on, as far as it goes.
      pump(connection);
      if ((events & EPOLLERR) != 0) end(connection, true);
    });
    if (!watched.ok()) return end(connection, true);
  }
  pump(connection);
}

// True once it is through.
bool Relays::send_header(Connection& connection) {
  while (!connection.header.empty()) {
    const ssize_t sent = send(connection.backend.get(), connection.header.data(),
                              connection.header.size(), MSG_NOSIGNAL);
    if (sent < 0) return false;
    connection.header.erase(0, static_cast<size_t>(sent));
  }
  return true;
}

void Relays::pump(const std::shared_ptr<Connection>& connection) {
  Connection& c = *connection;
  if (!c.listed) return;
  if (!send_header(c)) {
    if (errno == EAGAIN || errno == EINTR) return;
    return end(connection, true);
  }
  bool moved = false;
  const auto forth = c.forth.pump(c.client.get(), c.backend.get(), pipes_, &moved);
  const auto back = c.back.pump(c.backend.get(), c.client.get(), pipes_, &moved);
  using Outcome = RelayStream::Outcome;
  if (moved) c.moved_at = loop_.now();
  if (forth == Outcome::kBroken || back == Outcome::kBroken) return end(connection, true);
  if (forth == Outcome::kDone && back == Outcome::kDone) return end(connection, false);
  if ((forth == Outcome::kMore || back == Outcome::kMore) && !std::exchange(c.queued, true)) {
    c.timer = loop_.after(Duration(0), [this, connection] {
      connection->timer = 0;
      connection->queued = false;
      pump(connection);
    });
  }
}

void Relays::end(const std::shared_ptr<Connection>& connection, bool broken) {
  // The handlers that hold it go with the watches.
  const std::shared_ptr<Connection> keep = connection;
  if (!std::exchange(keep->listed, false)) return;
  loop_.cancel(std::exchange(keep->timer, 0));
  if (keep->client) loop_.unwatch(keep->client.get());
  if (keep->backend) loop_.unwatch(keep->backend.get());
  if (broken) {
    close_hard(std::move(keep->client));
    close_hard(std::move(keep->backend));
  }
  keep->client.reset();
  keep->backend.reset();
  connections_.erase(keep->place);
  if (connections_.size() < kConnectionsMax / 2) full_said_ = false;
}

void Relays::sweep() {
  sweep_ = 0;
  const TimePoint now = loop_.now();
  for (auto it = connections_.begin(); it != connections_.end();) {
    const std::shared_ptr<Connection> connection = *it++;
    const bool half = connection->forth.done() || connection->back.done();
    if (half && now - connection->moved_at >= kHalfClosedMax) end(connection, true);
  }
  if (!connections_.empty()) sweep_ = loop_.after(kSweepPeriod, [this] { sweep(); });
}

// ---------------------------------------------------------------- to a successor

// Nothing of the client's has been read before the header is through: until then a successor can
// begin anew.
std::vector<HandedRelay> Relays::hand_over() const {
  std::vector<HandedRelay> out;
  for (const auto& [id, relay] : relays_) {
    for (const auto& [where, listener] : relay->listeners) {
      if (!listener.fd) continue;
      HandedRelay& handed = out.emplace_back();
      handed.text = std::string(kListener) + key_of(id, where);
      handed.descriptors = {listener.fd.get()};
      if (!is_datagrams(relay->record)) continue;
      for (const auto& [client, backend] : flows_.flows_of(listener.fd.get())) {
        HandedRelay& flow = out.emplace_back();
        flow.text = fmt::format("{}{} {}", kFlow, key_of(id, where), text_of(client));
        flow.descriptors = {backend};
      }
    }
  }
  for (const auto& connection : connections_) {
    HandedRelay& handed = out.emplace_back();
    handed.descriptors = {connection->client.get()};
    if (!connection->up || !connection->header.empty()) {
      handed.text = std::string(kWaiting) + connection->relay;
      continue;
    }
    handed.text =
        fmt::format("{}{} {}", kConnection, connection->forth.state(), connection->back.state());
    handed.descriptors.push_back(connection->backend.get());
    for (const RelayStream* stream : {&connection->forth, &connection->back}) {
      if (!stream->pipe()) continue;
      handed.descriptors.push_back(stream->pipe().out.get());
      handed.descriptors.push_back(stream->pipe().in.get());
    }
  }
  return out;
}

void Relays::inherit(std::vector<HandedRelay> all) {
  for (HandedRelay& handed : all) {
    std::string_view text = handed.text;
    auto& fds = handed.owned;
    if (fds.empty()) continue;
    if (text.starts_with(kListener)) {
      inherited_[std::string(text.substr(kListener.size()))] = std::move(fds[0]);
      continue;
    }
    if (text.starts_with(kWaiting)) {
      const auto relay = relays_.find(std::string(text.substr(kWaiting.size())));
      if (relay != relays_.end()) begin(*relay->second, std::move(fds[0]));
      continue;
    }
    if (text.starts_with(kFlow)) {
      restore_flow(text.substr(kFlow.size()), std::move(fds[0]));
      continue;
    }
    if (!text.starts_with(kConnection) || fds.size() < 2) continue;
    text.remove_prefix(kConnection.size());
    const std::string_view forth = text.substr(0, text.find(' '));
    const std::string_view back = text.substr(std::min(text.size(), forth.size() + 1));
    auto connection = std::make_shared<Connection>();
    connection->client = std::move(fds[0]);
    connection->backend = std::move(fds[1]);
    connection->up = true;
    size_t next = 2;
    const auto pipe_of = [&](std::string_view state) -> PipePool::Pipe {
      if (state.empty() || state.front() == '0' || next + 1 >= fds.size()) return {};
      PipePool::Pipe pipe{std::move(fds[next]), std::move(fds[next + 1])};
      next += 2;
      return pipe;
    };
    connection->forth = RelayStream::restored(forth, pipe_of(forth));
    connection->back = RelayStream::restored(back, pipe_of(back));
    add(connection);
    watch_both(connection);
  }
}

// "ID WHERE CLIENT"
void Relays::restore_flow(std::string_view text, UniqueFd backend) {
  const size_t first = text.find(' ');
  const size_t last = text.rfind(' ');
  if (first == std::string_view::npos || last == first) return;
  const auto client = parse_listen_address(text.substr(last + 1));
  Listener* listener = nullptr;
  if (!client || find(std::string(text.substr(0, first)),
                      std::string(text.substr(first + 1, last - first - 1)), listener) == nullptr) {
    return;
  }
  flows_.restore(listener->fd.get(), client->at, std::move(backend));
}

}  // namespace muster::overlay::dns
