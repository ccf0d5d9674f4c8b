// What users, guests and intruders do about certificates in the simulator.
#include <algorithm>
#include <utility>

#include "base/security/access.h"
#include "base/security/x509.h"
#include "manager/control/call_gate.h"
#include "manager/dispatcher/connection.h"
#include "tests/sim/sim_certificates.h"
#include "tests/sim/sim_group.h"

namespace muster::sim {

namespace store = manager::store;
using security::Access;

namespace {

constexpr uint64_t kGuestsMax = 5;
constexpr size_t kSpoilsMax = 24;

// What the other end of a session would hear.
class Ear final : public manager::dispatcher::AgentConnection {
 public:
  void send(std::shared_ptr<const std::string> bytes) override {
    v1::ManagerMessage message;
    if (message.ParseFromString(*bytes)) welcome = welcome || message.has_welcome();
  }
  void send_first(std::shared_ptr<const std::string> bytes) override { send(std::move(bytes)); }
  size_t queued_bytes() const override { return 0; }
  void close() override {}

  bool welcome = false;
};

// Judged by those it concerns (control/call_gate.h).
bool judged_elsewhere(std::string_view method) {
  return method.starts_with("muster.v1.Raft.") || method.starts_with("muster.v1.Membership.") ||
         method == "muster.v1.Dispatcher.Session";
}

bool for_managers(Access access) {
  return access != Access::kAnyone && access != Access::kNode;
}

}  // namespace

void SimCertificates::disturb() {
  if (rng_.below(5) != 0) return;
  switch (rng_.below(20)) {
    // What a clock makes that is more than an hour fast is good for nobody else
    // (docs/certificates.md); of a root nobody gets another one before it is.
    case 0: return rotate(has(Trouble::kRootRotation) && !has(Trouble::kHours), false, false);
    case 1:
    case 2: return rotate(false, rng_.below(2) == 0, rng_.below(2) == 0);
    case 3:
    case 4: return invite();
    case 5:
    case 6:
    case 7: return disturb_guest();
    case 8:
    case 9: {
      Machine& machine = *machines_[rng_.below(machines_.size())];
      if (machine.visitor) remove(machine);
      return;
    }
    case 10:
    case 11:
    case 12: {
      const SimIdentity& who = *machines_[rng_.below(machines_.size())]->identity;
      if (!who.has_certificate()) return;
      if (spoils_.size() == kSpoilsMax) spoils_.erase(spoils_.begin());
      spoils_.push_back({who.credentials(), who.facts()});
      return;
    }
    case 13: return come_back();
    default: return intrude();
  }
}

void SimCertificates::rotate(bool root, bool worker_token, bool manager_token) {
  if (!root && !worker_token && !manager_token) return;
  ManagerLife* leader = group_->leader();
  if (leader == nullptr) return;
  leader->strand.post([this, leader, root, worker_token, manager_token] {
    const auto cluster = leader->parts->store.snapshot().cluster();
    if (cluster == nullptr) return;
    manager::control::Principal user;
    user.kind = manager::control::Principal::Kind::kLocalUser;
    v1::UpdateClusterRequest request;
    request.set_version(cluster->meta().version());
    *request.mutable_spec() = cluster->spec();
    // The simulator's certificates end sooner than a user may ask for: longer for a moment.
    request.mutable_spec()->set_node_cert_expiry_ns(
        std::max<int64_t>(cluster->spec().node_cert_expiry_ns(), Duration(1h).count()));
    if (root) request.mutable_rotate_root();
    request.set_rotate_worker_token(worker_token);
    request.set_rotate_manager_token(manager_token);
    deps_.trace(fmt::format("a user rotates{}{}{}", root ? " the root" : "",
                            worker_token ? " the workers' token" : "",
                            manager_token ? " the managers' token" : ""));
    if (root) deps_.probes.hit("root to be rotated");
    leader->parts->api.update_cluster(
        user, request,
        manager::control::Callback<v1::UpdateClusterResponse>(
            [this, leader](const Result<v1::UpdateClusterResponse>& response) {
              if (response) shorten(*leader);
            }));
  });
}

void SimCertificates::shorten(ManagerLife& leader) {
  leader.parts->store.update(
      [life = swarm_.certificate_life](store::Transaction& tx) -> Status {
        const auto known = tx.view().cluster();
        if (known == nullptr) return not_found("there is no cluster");
        v1::Cluster cluster = *known;
        cluster.mutable_spec()->set_node_cert_expiry_ns(life.count());
        return tx.update(std::move(cluster));
      },
      [](const store::Commit&) {});
}

// A node more, by the token of today or by one of before.
void SimCertificates::invite() {
  if (guests_ == kGuestsMax) return;
  Machine& machine = add(fmt::format("g{}", ++guests_), v1::NodeSpec::WORKER, nullptr);
  machine.visitor = true;
  with_guest(machine, machine.clock);
  if (!tokens_.empty() && rng_.below(2) == 0) {
    machine.identity->token = tokens_[rng_.below(tokens_.size())];
  }
  deps_.trace(fmt::format("{} wants to join", machine.identity->name()));
}

void SimCertificates::disturb_guest() {
  Machine& machine = *machines_[rng_.below(machines_.size())];
  if (!machine.visitor || machine.away || machine.gone) return;
  const std::string& id = machine.identity->id();
  const Duration time = up_to(rng_.below(4) == 0 ? 60'000 : 8'000);
  if (rng_.below(2) == 0) {
    deps_.network.cut(id);
    strand_.after(time, [this, id] { deps_.network.mend(id); });
    return;
  }
  machine.away = true;
  machine.kill();
  strand_.after(time, [this, &machine] {
    machine.away = false;
    if (!machine.gone) machine.start();
  });
}

void SimCertificates::remove(Machine& machine) {
  ManagerLife* leader = group_->leader();
  if (leader == nullptr || !machine.identity->has_certificate()) return;
  // Somebody keeps a copy of its key.
  spoils_.push_back({machine.identity->credentials(), machine.identity->facts()});
  leader->strand.post([this, leader, id = machine.identity->id()] {
    manager::control::Principal user;
    user.kind = manager::control::Principal::Kind::kLocalUser;
    v1::RemoveNodeRequest request;
    request.set_node_id(id);
    request.set_force(true);
    leader->parts->api.remove_node(
        user, request,
        manager::control::Callback<v1::RemoveNodeResponse>(
            [this, id](const Result<v1::RemoveNodeResponse>& response) {
              deps_.trace(fmt::format("{} is removed: {}", id,
                                      response ? "done" : response.error().message()));
            }));
  });
}

// Who was removed asks with its old key and the token of today.
void SimCertificates::come_back() {
  const auto cluster = group_->state().cluster();
  SimIdentity& who = *machines_[rng_.below(machines_.size())]->identity;
  if (cluster == nullptr || !removed(who.id())) return;
  v1::IssueCertificateRequest request;
  const auto csr = security::create_signing_request(who.join_key());
  if (!csr) return deps_.broken("no request to join with");
  request.set_signing_request_pem(*csr);
  request.set_join_token(cluster->root_ca().join_tokens().worker());
  request.set_hostname(who.name());
  deps_.probes.hit("removed node asks again");
  ask(who, std::move(request), [](const Result<v1::IssueCertificateResponse>&) {});
}

// It was told that it is removed, and leaves.
void SimCertificates::left(SimIdentity& identity) {
  Machine* machine = machine_of(identity.id());
  if (std::exchange(machine->gone, true)) return;
  deps_.probes.hit("removed node was told");
  deps_.trace(identity.name() + " was told that it is removed");
  if (!removed(identity.id())) deps_.broken(identity.name() + " hears that it is removed (C3)");
  machine->kill();
}

// ---------------------------------------------------------------- intruders

// With a key and a certificate that were somebody's, at any manager, for every method there is.
void SimCertificates::intrude() {
  if (spoils_.empty()) return;
  const Spoil& spoil = spoils_[rng_.below(spoils_.size())];
  const SimIdentity& at = *machines_[rng_.below(machines_.size())]->identity;
  ManagerLife* life = group_->life_of(at.id());
  if (life == nullptr || life->parts == nullptr || !at.has_certificate()) return;
  if (!security::check_certificate(spoil.credentials.node.certificate_pem,
                                   at.credentials().root_pem, {}, at.clock().wall_now())
           .ok()) {
    return deps_.probes.hit("intruder refused for the certificate");
  }
  const security::Principal caller = principal_of(spoil.facts);
  const store::Snapshot view = life->parts->store.snapshot();
  const auto node = view.get<v1::Node>(caller.node_id);
  const bool was_removed = removed_in(view, caller.node_id);
  const bool is_worker = node != nullptr && node->role() == v1::NodeSpec::WORKER;
  const auto gate = manager::control::make_call_gate("c", [&view] { return view; });
  for (const security::AccessRule& rule : security::access_table()) {
    if (!gate(rule.method, caller).ok() || rule.access == Access::kAnyone) continue;
    if (!caller.manager && for_managers(rule.access)) {
      deps_.broken(fmt::format("a worker's certificate opens {} (C2)", rule.method));
    }
    if (judged_elsewhere(rule.method)) continue;
    if (was_removed) {
      deps_.broken(fmt::format("{} was removed and may call {} (C1)", caller.node_id, rule.method));
    }
    if (is_worker && caller.manager && for_managers(rule.access)) {
      deps_.broken(fmt::format("a former manager's certificate opens {} (C2)", rule.method));
    }
  }
  if (!was_removed) return;
  deps_.probes.hit("intruder refused for the node's removal");
  if (life == group_->serving()) intrude_session(*life, spoil);
}

void SimCertificates::intrude_session(ManagerLife& life, const Spoil& spoil) {
  life.strand.post([this, &life, caller = principal_of(spoil.facts)] {
    const auto ear = std::make_shared<Ear>();
    const auto session =
        life.parts->dispatcher.connect(caller.node_id, "ipv4:192.0.2.77:1", ear, caller.manager);
    v1::AgentMessage hello;
    hello.mutable_hello()->mutable_description()->set_hostname("intruder");
    session->received(hello);
    life.strand.after(Duration(100ms), [this, ear, session, caller] {
      session->closed();
      if (!ear->welcome) return deps_.probes.hit("intruder's session refused");
      deps_.broken(fmt::format("{} was removed and opens a session (C1)", caller.node_id));
    });
  });
}

}  // namespace muster::sim
