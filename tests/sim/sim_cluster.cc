#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "tests/sim/sim_certificates.h"
#include "tests/sim/sim_group.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {
namespace {

namespace store = manager::store;

// Longer than any grace, restart delay and wait for a predecessor together.
constexpr Duration kSettle = 150s;
constexpr uint64_t kSmallCapacity = 13;  // addresses of a /28 without its gateway

class Cluster {
 public:
  Cluster(uint64_t seed, const ClusterOptions& options);
  ~Cluster();
  Result<ClusterOutcome> run();

 private:
  void certify();
  void fault();
  void fault_of(SimHost& host);
  void more_fault_of(SimHost& host);
  void back_later(SimHost& host, uint64_t ms_max);
  Duration up_to(uint64_t ms) { return Duration(1ms) * static_cast<int64_t>(rng_.below(ms) + 1); }
  Status advance(Duration d);
  Status until_idle();
  Status until_led();
  Status heal_core();
  Status heal();
  Status clean_up();
  Status check_nothing_leaked();
  Status check_books();
  uint64_t hash() const;
  const store::Snapshot& state() const { return group_.state(); }
  bool has(Trouble trouble) const { return troubles_.has(trouble); }
  void trace(const std::string& what) {
    if (!options_.trace) return;
    options_.trace(fmt::format("{:>7} ms  {}", world_.now().since_start / 1ms, what));
  }
  void broken(std::string what) {
    if (!broken_.ok()) return;
    trace("BROKEN: " + what);
    broken_ = internal_error("at {} ms: {}", world_.now().since_start / 1ms, what);
  }

  const ClusterOptions options_;
  const Troubles troubles_;
  SeededRng rng_;
  SeededRng extra_;  // for what was added later: older seeds stay what they were
  SimWorld world_;
  SimExecutor strand_{world_};  // outlives managers and agents: what happens to them
  HostTroubles host_troubles_{has(Trouble::kTaskFails), has(Trouble::kSlowPulls),
                              has(Trouble::kUnhealthy)};
  Probes probes_;
  SeededRng network_rng_;
  SimNetwork network_{world_, network_rng_};
  std::unique_ptr<SimCertificates> certificates_;  // null: nobody has one
  SeededRng hours_;
  std::vector<std::string> node_ids_;
  SimGroup group_{{world_, rng_, extra_, network_, node_ids_, troubles_, options_.mutant, probes_,
                   [this](const store::CommitEvent& event) {
                     probes_.on_commit(event);
                     if (certificates_ != nullptr) certificates_->on_commit(event);
                     rules_.on_commit(event);
                   },
                   [this](std::string what) { broken(std::move(what)); },
                   [this](const std::string& what) { trace(what); }, certificates_.get()},
                  std::min(1 + 2 * rng_.below(3), options_.managers_max)};
  SimClient client_{{world_, rng_,
                     [this]() -> manager::control::ControlApi* {
                       ManagerLife* leader = group_.leader();
                       return leader == nullptr ? nullptr : &leader->parts->api;
                     },
                     node_ids_, options_.services, probes_,
                     [this](std::string what) { broken(std::move(what)); },
                     [this](const std::string& what) { trace(what); }}};
  Hosts hosts_;
  SimRules rules_{world_, hosts_, client_, [this](std::string what) { broken(std::move(what)); }};
  Status broken_;
};

Cluster::Cluster(uint64_t seed, const ClusterOptions& options)
    : options_(options),
      troubles_(troubles_of(seed, options)),
      rng_(seed),
      extra_(seed ^ 0x9e3779b97f4a7c15),
      network_rng_(seed ^ 0xbf58476d1ce4e5b9),
      certificates_(has(Trouble::kCertificates)
                        ? std::make_unique<SimCertificates>(
                              seed, SimCertificates::Deps{
                                        world_, network_, troubles_, probes_,
                                        [this](std::string what) { broken(std::move(what)); },
                                        [this](const std::string& what) { trace(what); }})
                        : nullptr),
      hours_(seed ^ 0x2545f4914f6cdd1d) {
  network_.on_heard = [this](const std::string& id) { rules_.on_heard(id); };
  network_.broken = [this](std::string what) { broken(std::move(what)); };
  if (certificates_ != nullptr) certify();
  if (has(Trouble::kHours)) rules_.clocks_differ();
  for (int i = 0; i < options_.hosts; ++i) {
    const std::string name = fmt::format("n{}", i);
    SimIdentity* identity = certificates_ == nullptr
                                ? nullptr
                                : &certificates_->add_host(
                                      name, [this, i] { hosts_[i]->start_agent(); },
                                      [this, i] { hosts_[i]->kill_agent(); });
    const std::string& id = node_ids_.emplace_back(identity == nullptr ? name : identity->id());
    SimHost::Deps deps{
        world_,
        network_,
        host_troubles_,
        probes_,
        [this](const SimHost& host, const SimHost::Container& container) {
          rules_.on_start(host, container, state());
        },
        [this](const SimHost& host, const std::string& payload_id) {
          return rules_.entitled(host, payload_id);
        },
        [this](const std::string& task_id) {
          const auto task = state().get<v1::Task>(task_id);
          return task == nullptr ? v1::TASK_NEW : task->status().state();
        },
        [this](std::string what) { broken(std::move(what)); },
        identity,
        [this](const SimHost& host, const SimHost::Container& container) {
          rules_.on_stop(host, container, [this](const std::string& node, const std::string& in) {
            ManagerLife* leader = group_.leader();
            return leader != nullptr && leader->parts->dispatcher.routers(in).contains(node);
          });
        },
        [this](const SimHost& host, const std::string& network_id, const std::string& task_id) {
          rules_.on_passed_by(host, network_id, task_id);
        },
        [this](const SimHost& host, const overlay::PublishedPort& port) {
          rules_.on_port_closed(host, port);
        }};
    hosts_.push_back(std::make_unique<SimHost>(std::move(deps), id,
                                               seed ^ (0x94d049bb133111eb * (hosts_.size() + 1))));
  }
}

void Cluster::certify() {
  certificates_->attach(group_);
  network_.admit = [this](const std::string& id) { return certificates_->admit_session(id); };
  network_.on_welcome = [this](const std::string& id) { certificates_->welcomed(id); };
}

Cluster::~Cluster() {
  for (const auto& host : hosts_) host->kill_agent();
  network_.manager_gone();
}

// ---------------------------------------------------------------- what goes wrong

void Cluster::back_later(SimHost& host, uint64_t ms_max) {
  strand_.after(up_to(ms_max), [&host] { host.start_agent(); });
}

void Cluster::fault_of(SimHost& host) {
  static constexpr Trouble kKinds[] = {Trouble::kAgentKilled, Trouble::kAgentRestarts,
                                       Trouble::kAgentCut,    Trouble::kReboot,
                                       Trouble::kMemory,      Trouble::kContainerEnds};
  const Trouble kind = kKinds[rng_.below(6)];
  if (!has(kind)) return;
  trace(fmt::format("{} has trouble: {}", host.id(), name_of(kind)));
  switch (kind) {
    case Trouble::kAgentKilled:
      host.kill_agent();
      return back_later(host, rng_.below(4) == 0 ? 45'000 : 5'000);
    case Trouble::kAgentRestarts: return host.restart_agent(up_to(5'000));
    case Trouble::kAgentCut:
      network_.cut(host.id());
      strand_.after(up_to(15'000), [this, &host] { network_.mend(host.id()); });
      return;
    case Trouble::kReboot: host.reboot(); return back_later(host, 8'000);
    // From room for four of the tasks that reserve memory to room for one.
    case Trouble::kMemory: return host.resize((1 << 30) >> rng_.below(3));
    default: return host.end_a_container();
  }
}

// What came later.
void Cluster::more_fault_of(SimHost& host) {
  const Trouble kind = extra_.below(2) == 0 ? Trouble::kAgentMidway : Trouble::kAgentFrozen;
  if (!has(kind)) return;
  trace(fmt::format("{} has trouble: {}", host.id(), name_of(kind)));
  const auto most = Duration(1ms) * static_cast<int64_t>(1 + extra_.below(20'000));
  if (kind == Trouble::kAgentFrozen) return host.freeze(most);
  host.kill_midway(1 + extra_.below(60), most / 4);
}

void Cluster::fault() {
  if (rng_.below(3) == 0) return group_.disturb();
  fault_of(*hosts_[rng_.below(hosts_.size())]);
}

// ---------------------------------------------------------------- the run

// Some thousands of events in 300 ms are usual. A storm of messages that feed each other would
// otherwise look like a test that takes long.
Status Cluster::advance(Duration d) {
  constexpr uint64_t kStorm = 2'000'000;
  world_.advance(d, kStorm);
  return broken_;
}

Status Cluster::until_idle() {
  for (int i = 0; !client_.idle(); ++i) {
    if (i > 1'000) return internal_error("the client gets no answer{}", group_.describe());
    MUSTER_TRY(advance(100ms));
  }
  return broken_;
}

// A majority that works has a leader within twenty election time-outs.
Status Cluster::until_led() {
  for (int i = 0; group_.leader() == nullptr; ++i) {
    if (i > 200) return internal_error("the managers find no leader{}", group_.describe());
    MUSTER_TRY(advance(100ms));
  }
  return broken_;
}

// Of the managers a majority works, and that is enough.
Status Cluster::heal_core() {
  if (!options_.draw || !group_.heal_core()) return ok_status();
  trace("a majority of the managers is healed");
  MUSTER_TRY(until_led());
  return until_idle();
}

Status Cluster::heal() {
  trace("no more trouble");
  host_troubles_ = {};
  for (const auto& host : hosts_) {
    network_.mend(host->id());
    host->heal();
  }
  MUSTER_TRY(heal_core());
  MUSTER_TRY(advance(50s));  // whoever was to come back is back
  group_.heal();
  if (certificates_ != nullptr) certificates_->heal();
  for (const auto& host : hosts_) host->start_agent();
  // Managers whose certificates are of a time to come look once a minute.
  if (certificates_ != nullptr && has(Trouble::kHours)) MUSTER_TRY(advance(70s));
  MUSTER_TRY(until_led());
  MUSTER_TRY(until_idle());
  while (client_.heal_one(node_ids_)) MUSTER_TRY(until_idle());
  return advance(kSettle);
}

Status Cluster::clean_up() {
  while (client_.clean_up_one()) MUSTER_TRY(until_idle());
  return advance(kSettle);
}

// What the leader's allocator holds is what the state says, whatever it went through.
Status Cluster::check_books() {
  ManagerLife* leader = group_.leader();
  if (leader == nullptr) return internal_error("nobody leads");
  const std::string wrong = leader->parts->allocator.audit();
  return wrong.empty() ? ok_status() : internal_error("{} (M10)", wrong);
}

// Every address of the small network and every port can be had again.
Status Cluster::check_nothing_leaked() {
  const auto small = state().find<v1::Network>("small");
  if (small == nullptr) return ok_status();
  // As large again with every further subnet.
  const uint64_t capacity = kSmallCapacity * static_cast<uint64_t>(small->state().pools_size());
  v1::ServiceSpec full;
  full.mutable_annotations()->set_name("full");
  full.mutable_task()->mutable_container()->set_image("image");
  full.mutable_task()->add_networks()->set_target("small");
  full.mutable_endpoint()->set_mode(v1::EndpointSpec::DNSRR);
  full.mutable_replicated()->set_replicas(capacity + 2);
  client_.create(full);
  MUSTER_TRY(until_idle());
  for (uint32_t port = 8000; port < 8003; ++port) {
    v1::ServiceSpec spec;
    spec.mutable_annotations()->set_name(fmt::format("p{}", port));
    spec.mutable_task()->mutable_container()->set_image("image");
    spec.mutable_replicated()->set_replicas(1);
    v1::PortConfig& published = *spec.mutable_endpoint()->add_ports();
    published.set_target_port(80);
    published.set_published_port(port);
    client_.create(spec);
    MUSTER_TRY(until_idle());
  }
  MUSTER_TRY(advance(20s));
  MUSTER_TRY(rules_.check_settled(state()));
  std::map<std::string, uint64_t> running;
  state().each<v1::Task>([&](const auto& task) {
    if (task->status().state() == v1::TASK_RUNNING) ++running[task->name().substr(0, 4)];
    return true;
  });
  if (running["full"] != capacity) {
    return internal_error("{} of {} addresses can be had", running["full"], capacity);
  }
  // p800.1 and so on: "p800" counts the three.
  if (running["p800"] != 3) return internal_error("a published port was not given back");
  return ok_status();
}

// FNV-1a over everything stored.
uint64_t Cluster::hash() const {
  uint64_t value = 14695981039346656037u;
  const auto add = [&](const auto& object) {
    for (const char c : object->SerializeAsString()) {
      value = (value ^ static_cast<unsigned char>(c)) * 1099511628211u;
    }
    return true;
  };
  state().each<v1::Service>(add);
  state().each<v1::Task>(add);
  state().each<v1::Node>(add);
  state().each<v1::Network>(add);
  return value;
}

Result<ClusterOutcome> Cluster::run() {
  group_.found();
  if (certificates_ != nullptr) certificates_->begin();
  MUSTER_TRY(advance(1s));
  for (const auto& host : hosts_) host->start_agent();
  MUSTER_TRY(advance(2s));
  const TimePoint end = world_.now() + options_.chaos;
  while (world_.now() < end) {
    if (client_.idle() && rng_.below(3) == 0) client_.act();
    if (rng_.below(12) == 0) fault();
    if (extra_.below(25) == 0) group_.disturb_more();
    if (extra_.below(12) == 0) more_fault_of(*hosts_[extra_.below(hosts_.size())]);
    if (extra_.below(4) == 0) group_.read();
    if (certificates_ != nullptr) certificates_->disturb();
    if (has(Trouble::kHours) && hours_.below(60) == 0) group_.step_clock(hours_);
    MUSTER_TRY(advance(up_to(300)));
  }
  MUSTER_TRY(heal());
  MUSTER_TRY(rules_.check_settled(state()));
  MUSTER_TRY(check_books());
  if (certificates_ != nullptr) MUSTER_TRY(certificates_->check_end());
  const uint64_t term = group_.newest_term();
  ClusterOutcome outcome;
  outcome.state_hash = hash();
  MUSTER_TRY(clean_up());
  MUSTER_TRY(rules_.check_empty(state()));
  MUSTER_TRY(check_books());
  MUSTER_TRY(check_nothing_leaked());
  // An entry may be under way: certificates are renewed in peace, too.
  for (int i = 0; i < 20 && !group_.level(); ++i) MUSTER_TRY(advance(50ms));
  MUSTER_TRY(group_.check_equal());
  if (certificates_ != nullptr) MUSTER_TRY(certificates_->check_end());
  if (group_.newest_term() != term) {
    return fail(
        internal_error("in peace the term went from {} to {} (L2)", term, group_.newest_term()));
  }
  outcome.commits = state().version();
  outcome.managers = group_.lives();
  outcome.terms = group_.terms();
  outcome.operations = client_.operations();
  outcome.probes = probes_;
  return outcome;
}

}  // namespace

Troubles troubles_of(uint64_t seed, const ClusterOptions& options) {
  if (!options.draw) return options.troubles;
  SeededRng rng(seed ^ 0xd1b54a32d192ed03);
  // A quarter of the seeds has everything; of the others each kind is in most of them.
  const bool everything = rng.below(4) == 0;
  Troubles out = options.troubles;
  for (size_t i = 0; i < Troubles::kCount; ++i) {
    const auto kind = static_cast<Trouble>(i);
    const bool first = Troubles::first_ones().has(kind);
    const bool on = rng.below(first ? 4 : 2) != 0 || everything;
    // Clocks hours apart: only where they are asked for, since not all rules hold then (README.md).
    if (!on || kind == Trouble::kHours) out.put(kind, false);
  }
  return out;
}

Result<ClusterOutcome> run_cluster(uint64_t seed, const ClusterOptions& options) {
  return Cluster(seed, options).run();
}

}  // namespace muster::sim
