#include "tests/sim/sim_certificates.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/security/x509.h"
#include "deploy/daemon/cluster_start.h"
#include "manager/ca/root.h"
#include "tests/sim/sim_group.h"

namespace muster::sim {

namespace ca = manager::ca;
namespace store = manager::store;

namespace {

// So long that a few failures on the way do not matter.
constexpr Duration kGood = 60s;
// After its certificate has ended a node has so long to help itself, as a manager may.
constexpr Duration kLeave = 20s;
constexpr Duration kEarly = 75s;
constexpr Duration kLifeMin = 180s;
constexpr uint64_t kLifeMoreSeconds = 220;

}  // namespace

SimCertificates::SimCertificates(uint64_t seed, Deps deps)
    : deps_(std::move(deps)),
      rng_(seed ^ 0x5851f42d4c957f2d),
      openssl_(seed ^ 0x14057b7ef767814f),
      strand_(deps_.world) {
  swarm_.certificate_life =
      kLifeMin + Duration(1s) * static_cast<int64_t>(rng_.below(kLifeMoreSeconds));
  // Clocks that are hours wrong need certificates that last longer than that.
  if (has(Trouble::kHours)) swarm_.certificate_life = 24h * 90;
}

SimCertificates::~SimCertificates() {
  for (const auto& machine : machines_) {
    if (machine->guest != nullptr) machine->guest->kill();
  }
}

// ---------------------------------------------------------------- who there is

SimIdentity::Deps SimCertificates::identity_deps(const Clock& clock) {
  return {clock,
          rng_,
          [this](SimIdentity& who, v1::IssueCertificateRequest request, SimIdentity::Answer done) {
            ask(who, std::move(request), std::move(done));
          },
          [this](const SimIdentity& who, const std::string& csr) { return sign_own(who, csr); },
          [this](SimIdentity& who) {
            deps_.probes.hit("certificate renewed");
            deps_.trace(fmt::format("{} has another certificate: a {}'s", who.name(),
                                    who.manager() ? "manager" : "worker"));
          },
          [this](SimIdentity& who) { strand_.post([this, &who] { left(who); }); }};
}

SimCertificates::Machine& SimCertificates::add(const std::string& name, v1::NodeSpec::Role role,
                                               const Clock* clock) {
  auto machine = std::make_unique<Machine>(deps_.world, name, role);
  machine->make_identity(identity_deps(clock != nullptr ? *clock : machine->clock));
  return *machines_.emplace_back(std::move(machine));
}

void SimCertificates::with_guest(Machine& machine, const LocalClock& clock) {
  SimIdentity& who = *machine.identity;
  machine.guest = std::make_unique<SimGuest>(
      SimGuest::Deps{deps_.world, deps_.network, rng_, clock, who}, who.id(), who.name());
  machine.start = [guest = machine.guest.get()] { guest->start(); };
  machine.kill = [guest = machine.guest.get()] { guest->kill(); };
}

SimIdentity& SimCertificates::add_host(const std::string& name, std::function<void()> start,
                                       std::function<void()> kill) {
  Machine& machine = add(name, v1::NodeSpec::WORKER, nullptr);
  machine.start = std::move(start);
  machine.kill = std::move(kill);
  return *machine.identity;
}

SimIdentity& SimCertificates::add_manager(const std::string& name, const LocalClock& clock) {
  Machine& machine = add(name, v1::NodeSpec::MANAGER, &clock);
  with_guest(machine, clock);
  if (swarm_.founder.id().empty()) found(*machine.identity);
  return *machine.identity;
}

void SimCertificates::found(SimIdentity& founder) {
  const WallTime now = deps_.world.wall_now();
  const auto root = security::create_root(now);
  MUSTER_CHECK(root, "no root");
  swarm_.root_ca = *ca::make_root_ca(*root);
  daemon::Membership membership;
  membership.node_id = founder.id();
  membership.cluster_id = "c";
  membership.advertise_addr = "192.0.2.1:2377";
  v1::NodeDescription description;
  description.set_hostname(founder.name());
  swarm_.founder = daemon::own_node(membership, v1::NodeSpec::DRAIN, description);
  auto credentials = daemon::issue_own_credentials(*root, membership, swarm_.certificate_life, now);
  MUSTER_CHECK(credentials, "no certificate for the founder");
  founder.keep(*std::move(credentials));
}

SimCertificates::Machine* SimCertificates::machine_of(const std::string& node_id) {
  const auto at = std::find_if(machines_.begin(), machines_.end(),
                               [&](const auto& m) { return m->identity->id() == node_id; });
  return at == machines_.end() ? nullptr : at->get();
}

SimIdentity* SimCertificates::find(const std::string& node_id) {
  Machine* machine = machine_of(node_id);
  return machine == nullptr ? nullptr : machine->identity.get();
}

// ---------------------------------------------------------------- the run

void SimCertificates::begin() {
  look();
}

void SimCertificates::manager_down(const std::string& node_id) {
  Machine* machine = machine_of(node_id);
  machine->away = true;
  machine->kill();
}

void SimCertificates::manager_up(const std::string& node_id) {
  Machine* machine = machine_of(node_id);
  machine->away = false;
  if (machine->identity->has_certificate()) machine->start();
}

void SimCertificates::heal() {
  peace_ = true;
  for (const auto& machine : machines_) {
    machine->away = false;
    deps_.network.mend(machine->identity->id());
    if (machine->guest != nullptr && !machine->gone) machine->start();
  }
}

void SimCertificates::on_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      if (node->after != nullptr) continue;
      deps_.probes.hit("node removed");
      removed_[node->before->id()] = event.version;
    }
    const auto* cluster = std::get_if<store::Change<v1::Cluster>>(&any);
    if (cluster == nullptr || cluster->after == nullptr) continue;
    const v1::JoinTokens& now = cluster->after->root_ca().join_tokens();
    for (const std::string& token : {now.worker(), now.manager()}) {
      if (std::find(tokens_.begin(), tokens_.end(), token) == tokens_.end()) {
        tokens_.push_back(token);
      }
    }
    for (const std::string& token : tokens_) {
      if (token == now.worker() || token == now.manager()) continue;
      if (retired_.try_emplace(token, event.version).second) deps_.probes.hit("token rotated");
    }
    if (cluster->before != nullptr && cluster->before->root_ca().has_rotation() &&
        !cluster->after->root_ca().has_rotation()) {
      deps_.probes.hit("root rotated to the end");
    }
  }
}

bool SimCertificates::removed_in(const store::Snapshot& view, const std::string& node_id) const {
  const auto at = removed_.find(node_id);
  return at != removed_.end() && at->second <= view.version();
}

// Nobody's certificate ends while it could have been renewed (C5).
void SimCertificates::watch_ends() {
  const TimePoint now = deps_.world.now();
  const bool served = group_->serving() != nullptr;
  for (const auto& machine : machines_) {
    SimIdentity& who = *machine->identity;
    const bool good = served && who.running() && !deps_.network.is_cut(who.id());
    if (!good) machine->good_since.reset();
    if (good && !machine->good_since) machine->good_since = now;
    if (!who.has_certificate() || machine->gone) continue;
    const Duration over = who.clock().wall_now() - who.facts().not_after;
    if (over < Duration(0)) {
      // Made when its clock and the leader's were hours fast: once they are right again a manager
      // signs itself another one within two minutes, of a worker nobody takes it.
      const bool early = peace_ && who.clock().wall_now() < who.facts().not_before;
      if (!early || !who.running()) machine->early_since.reset();
      if (early && !machine->early_since) machine->early_since = now;
      if (early && now - *machine->early_since > kEarly) rejoin(*machine);
      continue;
    }
    if (good && now - *machine->good_since >= kGood + over && !removed(who.id())) {
      return deps_.broken(fmt::format(
          "the certificate of {} ended, and nothing kept it from another one (C5)", who.name()));
    }
    if (over < kLeave || machine->away) continue;
    deps_.probes.hit("certificate ran out");
    rejoin(*machine);
  }
}

// As "swarm leave" and "swarm join" do it, but that the node is known by its key.
void SimCertificates::rejoin(Machine& machine) {
  deps_.trace(fmt::format("the certificate of {} is good for nobody: it joins anew",
                          machine.identity->name()));
  machine.early_since.reset();
  machine.kill();
  machine.identity->forget();
}

// ---------------------------------------------------------------- at the end

Status SimCertificates::check_end() {
  const store::Snapshot view = group_->state();
  const auto cluster = view.cluster();
  if (cluster == nullptr) return internal_error("there is no cluster");
  if (cluster->root_ca().has_rotation()) {
    std::string waits;
    for (const std::string& name : ca::nodes_to_renew(view)) waits += " " + name;
    return internal_error("the root's rotation does not end; it waits for{} (C3)", waits);
  }
  const auto trust = ca::trust_bundle(cluster->root_ca());
  const auto issuer = ca::wanted_issuer(cluster->root_ca());
  if (!trust || !issuer) return internal_error("the cluster's root is none");
  for (const auto& machine : machines_) {
    if (machine->gone) continue;
    const SimIdentity& who = *machine->identity;
    if (removed(who.id())) {
      // One that was away may never hear of it: it knows nobody any more.
      if (!machine->guest->established()) continue;
      return internal_error("{} was removed and has a session at the end (C1)", who.name());
    }
    const auto node = view.get<v1::Node>(who.id());
    if (node == nullptr) return internal_error("{} is not in the swarm", who.name());
    if (!who.has_certificate()) return internal_error("{} has no certificate (C5)", who.name());
    if (who.credentials().root_pem != *trust) {
      return internal_error("{} trusts another root than the swarm's (C3)", who.name());
    }
    if (who.tls().issuer_public_key_der() != issuer->public_key_der) {
      return internal_error("{} has a certificate of another root (C3)", who.name());
    }
    if (who.manager() != (node->role() == v1::NodeSpec::MANAGER)) {
      return internal_error(
          "the certificate of {} says {}, its node in version {} says {} and is to be {} (C2)",
          who.name(), who.manager() ? "manager" : "worker", node->meta().version(),
          v1::NodeSpec::Role_Name(node->role()),
          v1::NodeSpec::Role_Name(node->spec().desired_role()));
    }
    if (machine->guest != nullptr && !machine->guest->established()) {
      return internal_error("{} has no session at the end (C3)", who.name());
    }
  }
  return ok_status();
}

}  // namespace muster::sim
