#include "overlay/dns/netd/netd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/file.h"
#include "overlay/dns/netd/mended.h"

namespace muster::overlay::dns {
namespace {

bool is_namespace(const std::string& path, int fd) {
  struct stat there {};
  struct stat held {};
  return ::stat(path.c_str(), &there) == 0 && ::fstat(fd, &held) == 0 &&
         there.st_ino == held.st_ino && there.st_dev == held.st_dev;
}

}  // namespace

Netd::Netd(NetdOptions options, Rng& rng, Log log)
    : options_(std::move(options)),
      rng_(rng),
      log_(std::move(log)),
      resolver_(table_, rng),
      node_resolvers_(options_.resolv_conf),
      relays_(loop_, log_) {
  upstream_ = std::make_unique<UpstreamSockets>(loop_, hopper_, [this](const std::string& id) {
    const auto found = containers_.find(id);
    return found == containers_.end() ? -1 : found->second.resolver->namespace_fd();
  });
  forwarder_ = std::make_unique<Forwarder>(*upstream_, rng_);
  upstream_->set_events({[this](uint64_t exchange, std::string_view packet) {
                           forwarder_->received(loop_.now(), exchange, packet);
                           arm_forwarder();
                         },
                         [this](uint64_t exchange) {
                           forwarder_->failed(loop_.now(), exchange);
                           arm_forwarder();
                         }});
}

Netd::~Netd() {
  if (signals_) loop_.unwatch(signals_.get());
}

Status Netd::open() {
  MUSTER_TRY(make_directory(options_.run_dir, 0700));
  if (options_.take_over) {
    auto handover = receive_handover(netd_socket(options_.run_dir));
    if (handover) {
      inherited_ = *std::move(handover);
      kept_ports_.inherit(inherited_.relays);
      log_->info("takes over {} containers, {} relays and relayed connections, {} held ports",
                 inherited_.sockets.size(), inherited_.relays.size(), kept_ports_.size());
    } else {
      log_->info("nothing to take over: {}", handover.error().message());
    }
  }
  const std::string lock = netd_lock(options_.run_dir);
  lock_.reset(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) return errno_status(errno, lock);
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return already_exists("netd runs already in {}", options_.run_dir);
  }
  port_control_ = std::make_unique<PortControl>(loop_, kept_ports_, log_);
  MUSTER_TRY(port_control_->listen(port_socket(options_.run_dir)));
  v1::NetdHello hello;
  hello.set_level(kNetdLevel);
  hello.set_program(MUSTER_VERSION);
  hello.set_build(options_.build);
  control_ = std::make_unique<Control>(
      loop_, hello, [this](const v1::NetdCommand& received) { return command(received); },
      [this](int fd) { hand_over(fd); }, log_);
  return control_->listen(netd_socket(options_.run_dir));
}

Status Netd::watch_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) return errno_status(errno, "signalfd");
  return loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) {
    log_->info("ends on a signal");
    loop_.stop();
  });
}

Status Netd::run() {
  MUSTER_TRY(loop_.open());
  MUSTER_TRY(hopper_.open());
  MUSTER_TRY(watch_signals());
  // Listeners wait for their relays, which then begin with who waits for a backend.
  std::vector<HandedRelay> relays = std::move(inherited_.relays);
  const auto half = std::stable_partition(relays.begin(), relays.end(), is_listener);
  std::vector<HandedRelay> connections(std::make_move_iterator(half),
                                       std::make_move_iterator(relays.end()));
  relays.erase(half, relays.end());
  relays_.inherit(std::move(relays));
  update(inherited_.state);
  relays_.inherit(std::move(connections));
  relays_.settle();
  inherited_ = {};
  MUSTER_TRY(port_control_->start());
  MUSTER_TRY(control_->start());
  check_company();
  log_->info("serves names, pid {}", getpid());
  const Status ended = loop_.run();
  containers_.clear();
  relays_.abandon();
  kept_ports_.clear();
  // While the lock is held, so that a successor's socket is not taken away; and the lock is free
  // when musterd sees its connection end.
  if (!handed_over_) {
    ::unlink(netd_socket(options_.run_dir).c_str());
    ::unlink(port_socket(options_.run_dir).c_str());
  }
  lock_.reset();
  port_control_.reset();
  control_.reset();
  return ended;
}

// Somebody has to be there for whom names are answered, or who may want that soon.
void Netd::check_company() {
  const bool lonely =
      containers_.empty() && relays_.empty() && kept_ports_.empty() && control_->connections() == 0;
  if (lonely && std::exchange(was_lonely_, true)) {
    log_->info("nobody is left to answer to");
    return loop_.stop();
  }
  was_lonely_ = lonely;
  loop_.after(kLonelyMax, [this] { check_company(); });
}

v1::NetdReply Netd::command(const v1::NetdCommand& received) {
  v1::NetdReply reply;
  switch (received.command_case()) {
    case v1::NetdCommand::kUpdate: return update(received.update());
    case v1::NetdCommand::kDump: *reply.mutable_state() = records_.all(); break;
    case v1::NetdCommand::kShutdown:
      log_->info("ends, as musterd wants it");
      containers_.clear();
      relays_.abandon();
      kept_ports_.clear();
      reply.mutable_ack()->set_version(records_.version());
      loop_.stop();
      break;
    case v1::NetdCommand::kHandover:               // Control sees to it
    case v1::NetdCommand::COMMAND_NOT_SET: break;  // of a newer musterd
  }
  return reply;
}

v1::NetdReply Netd::update(const v1::NetdUpdate& update) {
  v1::NetdReply reply;
  v1::NetdAck& ack = *reply.mutable_ack();
  const Records::Changes changes = records_.apply(update);
  for (const v1::NetdRecord& record : changes.removed) remove(record);
  for (const v1::NetdRecord& record : changes.set) set(record);
  // Those named again, too: what failed is tried anew, and a namespace may have been made anew.
  for (const v1::NetdRecord& record : update.records()) {
    if (record.has_container()) set_container(record.container(), ack);
    if (record.has_relay()) set_relay(record, ack);
  }
  ack.set_version(update.version());
  log_->debug("version {}: {} changed, {} removed", update.version(), changes.set.size(),
              changes.removed.size());
  return reply;
}

// What waits in the sockets meanwhile is the successor's to answer. When it breaks off, nothing has
// happened.
void Netd::hand_over(int fd) {
  std::map<std::string, HandedSockets> sockets;
  for (const auto& [id, container] : containers_) {
    const auto& held = container.resolver->sockets();
    sockets[id] = {held.ns.get(), held.udp.get(), held.tcp.get()};
  }
  std::vector<HandedRelay> relays = relays_.hand_over();
  const size_t relayed = relays.size();
  kept_ports_.hand_over(relays);
  if (const Status sent = send_handover(fd, records_.all(), sockets, relays); !sent.ok()) {
    return log_->warn("handing over: {}", sent.message());
  }
  handed_over_ = true;
  lock_.reset();
  (void)send_handover_end(fd);
  log_->info("handed over {} containers, {} relays and relayed connections, {} held ports",
             sockets.size(), relayed, kept_ports_.size());
  loop_.stop();
}

void Netd::remove(const v1::NetdRecord& record) {
  switch (record.record_case()) {
    case v1::NetdRecord::kContainer: return remove_container(record.container().id());
    case v1::NetdRecord::kNetwork: return table_.remove_network(record.network().id());
    case v1::NetdRecord::kService:
      return table_.remove_service(record.service().network_id(), record.service().id());
    case v1::NetdRecord::kEndpoint:
      return table_.remove_endpoint(record.endpoint().network_id(), record.endpoint().task_id());
    case v1::NetdRecord::kSettings: return resolver_.set_ttl(Resolver::kDefaultTtl);
    case v1::NetdRecord::kRelay: return relays_.remove(record.relay().id());
    case v1::NetdRecord::RECORD_NOT_SET: return;
  }
}

void Netd::set(const v1::NetdRecord& record) {
  switch (record.record_case()) {
    case v1::NetdRecord::kNetwork: return table_.set(record.network());
    case v1::NetdRecord::kService: return table_.set(record.service());
    case v1::NetdRecord::kEndpoint: return table_.set(record.endpoint());
    case v1::NetdRecord::kSettings: return resolver_.set_ttl(Duration(record.settings().ttl_ns()));
    case v1::NetdRecord::kRelay:
    case v1::NetdRecord::kContainer:              // update() sees to them
    case v1::NetdRecord::RECORD_NOT_SET: return;  // of a newer musterd
  }
}

void Netd::set_relay(const v1::NetdRecord& record, v1::NetdAck& ack) {
  const Status set = relays_.set(record.relay());
  if (set.ok()) return;
  v1::NetdFailure& failure = *ack.add_failures();
  failure.set_container_id(record.key());
  failure.set_message(set.message());
}

void Netd::set_container(const v1::NetdContainer& record, v1::NetdAck& ack) {
  const auto known = containers_.find(record.id());
  if (known != containers_.end() &&
      is_namespace(record.namespace_path(), known->second.resolver->namespace_fd())) {
    known->second.record = record;
    known->second.networks.assign(record.network_ids().begin(), record.network_ids().end());
    return;
  }
  remove_container(record.id());
  if (const Status opened = open_container(record); !opened.ok()) {
    log_->warn("container {}: {}", record.id(), opened.message());
    remove_container(record.id());
    v1::NetdFailure& failure = *ack.add_failures();
    failure.set_container_id(record.id());
    failure.set_message(opened.message());
  }
}

Status Netd::open_container(const v1::NetdContainer& record) {
  NamespaceHopper::ResolverSockets sockets;
  if (auto inherited = inherited_.sockets.extract(record.id()); !inherited.empty()) {
    sockets = std::move(inherited.mapped());
  } else {
    MUSTER_ASSIGN(sockets, hopper_.open_resolver(record.namespace_path()));
  }
  Container& container = containers_[record.id()];
  container.record = record;
  container.networks.assign(record.network_ids().begin(), record.network_ids().end());
  container.resolver = std::make_unique<ContainerResolver>(
      loop_, std::move(sockets),
      [this, id = record.id()](std::string_view packet, bool tcp, ContainerResolver::Reply reply) {
        question(id, packet, tcp, std::move(reply));
      });
  if (look_timer_ == 0) look_timer_ = loop_.after(kLookStep, [this] { look_at_some(); });
  return container.resolver->start();
}

// Whatever musterd does: a container without our rules has no names.
void Netd::look_at(const std::string& id, Container& container) {
  const auto mended = hopper_.mend_resolver(container.resolver->sockets());
  if (mended && !*mended) return;
  if (mended && mended_.size() < kMendedMax) mended_.push_back(id);
  const std::string sentence =
      mended ? "its rules that lead to the resolver were gone or changed, and were made anew"
             : mended.error().message();
  // One that does so again and again is not told of again and again.
  if (std::exchange(container.told, sentence) == sentence) return;
  log_->warn("container {}: {}", id, sentence);
}

// musterd counts it among what was repaired on this node.
void Netd::tell_mended() {
  if (mended_.empty()) return;
  v1::NetdReply news;
  for (const std::string& id : mended_) {
    news.mutable_state()->add_records()->set_key(std::string(kMendedPrefix) + id);
  }
  if (control_->tell(news)) mended_.clear();
}

void Netd::look_at_some() {
  look_timer_ = 0;
  constexpr size_t kSteps = kLookPeriod / kLookStep;
  auto next = containers_.upper_bound(looked_at_);
  for (size_t left = (containers_.size() + kSteps - 1) / kSteps; left > 0; --left) {
    if (next == containers_.end()) next = containers_.begin();
    looked_at_ = next->first;
    look_at(next->first, next->second);
    ++next;
  }
  tell_mended();
  if (!containers_.empty()) look_timer_ = loop_.after(kLookStep, [this] { look_at_some(); });
}

void Netd::remove_container(const std::string& id) {
  forwarder_->forget(id);
  containers_.erase(id);
}

std::vector<Upstream> Netd::servers_of(const v1::NetdContainer& container) {
  std::vector<Upstream> out;
  for (const std::string& text : container.nameservers()) {
    // Those of the service are the container's own choice, loopback means the container.
    if (const auto ip = Ip::parse(text)) out.push_back({*ip, false});
  }
  if (container.nameservers_size() > 0) return out;
  out = node_resolvers_.get(loop_.now());
  // A container that nothing leads out of must not speak to the world through the node.
  if (container.internal()) {
    std::erase_if(out, [](const Upstream& server) { return server.from_node; });
  }
  return out;
}

void Netd::question(const std::string& id, std::string_view packet, bool tcp,
                    ContainerResolver::Reply reply) {
  ParsedQuery parsed = parse_query(packet);
  if (!parsed.query) {
    if (!parsed.complaint.empty()) reply(std::move(parsed.complaint));
    return;
  }
  const auto found = containers_.find(id);
  if (found == containers_.end()) return;
  const size_t bytes_max = tcp ? kTcpAnswerMax : parsed.query->udp_answer_max;
  if (auto answer = resolver_.answer(found->second.networks, *parsed.query, bytes_max)) {
    return reply(*std::move(answer));
  }
  forwarder_->ask(loop_.now(),
                  {id, servers_of(found->second.record), *std::move(parsed.query), bytes_max},
                  std::move(reply));
  arm_forwarder();
}

void Netd::arm_forwarder() {
  const auto due = forwarder_->next_deadline();
  if (!due) {
    loop_.cancel(std::exchange(forwarder_timer_, 0));
    return;
  }
  // A timer that comes too early is cheaper than one set anew for every question.
  if (forwarder_timer_ != 0 && forwarder_due_ <= *due) return;
  loop_.cancel(forwarder_timer_);
  forwarder_due_ = *due;
  forwarder_timer_ = loop_.after(*due - loop_.now(), [this] { forwarder_due(); });
}

void Netd::forwarder_due() {
  forwarder_timer_ = 0;
  forwarder_->tick(loop_.now());
  arm_forwarder();
}

}  // namespace muster::overlay::dns
