// How nodes of the simulator come by certificates: their calls to the leader's CA.
#include <utility>

#include "base/security/join_token.h"
#include "base/security/x509.h"
#include "manager/ca/admission.h"
#include "manager/ca/authority.h"
#include "manager/ca/enrolment.h"
#include "manager/control/call_gate.h"
#include "tests/sim/sim_certificates.h"
#include "tests/sim/sim_group.h"

namespace muster::sim {

namespace ca = manager::ca;

namespace {

constexpr Duration kLook = 200ms;
constexpr Duration kCallLimit = 5s;
constexpr const char* kIssue = "muster.v1.Ca.IssueCertificate";
constexpr const char* kSession = "muster.v1.Dispatcher.Session";

}  // namespace

struct SimCertificates::Call {
  SimIdentity& caller;
  v1::IssueCertificateRequest request;
  WallTime now;  // by the caller's clock, when it began
  SimIdentity::Answer done;
};

// Whoever has no certificate joins, over and over.
void SimCertificates::look() {
  strand_.after(kLook, [this] { look(); });
  watch_ends();
  for (const auto& machine : machines_) {
    if (machine->identity->has_certificate() || machine->away || machine->gone) continue;
    if (!machine->identity->joining && rng_.below(3) == 0) join(*machine);
  }
}

// As join_swarm() does it; the user looks the token up when there is none, or when the one there
// was is refused.
void SimCertificates::join(Machine& machine) {
  SimIdentity& who = *machine.identity;
  const auto cluster = group_->state().cluster();
  if (cluster == nullptr) return;
  if (who.token.empty()) {
    const v1::JoinTokens& tokens = cluster->root_ca().join_tokens();
    who.token = who.joins_as() == v1::NodeSpec::MANAGER ? tokens.manager() : tokens.worker();
  }
  const auto request = security::create_signing_request(who.join_key());
  if (!request) return deps_.broken("no request to join with");
  v1::IssueCertificateRequest call;
  call.set_signing_request_pem(*request);
  call.set_join_token(who.token);
  call.set_hostname(who.name());
  if (machine.guest != nullptr) call.set_availability(v1::NodeSpec::DRAIN);
  who.joining = true;
  ask(who, std::move(call), [this, &machine](Result<v1::IssueCertificateResponse> answer) {
    joined(machine, std::move(answer));
  });
}

void SimCertificates::joined(Machine& machine, Result<v1::IssueCertificateResponse> answer) {
  SimIdentity& who = *machine.identity;
  who.joining = false;
  if (machine.gone || who.has_certificate()) return;
  auto issued = answer ? ca::accept(*std::move(answer), who.join_key(), who.clock().wall_now())
                       : Result<ca::Issued>(fail(answer.error()));
  if (!issued) {
    const Status& why = issued.error();
    if (why.reason() != "bad-join-token" && why.reason() != "other-root") return;
    deps_.probes.hit("join refused: the token was rotated");
    deps_.trace(fmt::format("{} is not let in: {}", who.name(), why.message()));
    who.token.clear();
    return;
  }
  if (issued->node_id != who.id()) deps_.broken("the id of a node is not that of its key");
  deps_.probes.hit("node joined with a token");
  deps_.trace(fmt::format("{} has joined as {}", who.name(), who.id()));
  who.token.clear();
  who.keep(issued->credentials);
  if (!machine.away) machine.start();
}

void SimCertificates::ask(SimIdentity& caller, v1::IssueCertificateRequest request,
                          SimIdentity::Answer done) {
  auto call = std::make_shared<Call>(
      Call{caller, std::move(request), caller.clock().wall_now(), std::move(done)});
  strand_.after(latency(), [this, call] { arrive(call); });
  strand_.after(kCallLimit,
                [this, call] { answer(call, fail(unavailable("no manager answers"))); });
}

void SimCertificates::answer(const std::shared_ptr<Call>& call,
                             Result<v1::IssueCertificateResponse> result) {
  if (call->done) std::exchange(call->done, nullptr)(std::move(result));
}

void SimCertificates::arrive(const std::shared_ptr<Call>& call) {
  if (deps_.network.is_cut(call->caller.id())) return;
  ManagerLife* life = group_->serving();
  SimIdentity* server = life == nullptr ? nullptr : find(life->node_id());
  if (server == nullptr || life->parts == nullptr) {
    return answer(call, fail(unavailable("connection refused")));
  }
  auto caller = identify(*call, *server, life->parts->store.snapshot());
  if (!caller) return answer(call, fail(caller.error()));
  life->strand.post([this, call, life, caller = *caller] { issue(call, *life, caller); });
}

// Who joins has no certificate: it has the root that its token means.
Result<security::Principal> SimCertificates::identify(const Call& call, const SimIdentity& server,
                                                      const manager::store::Snapshot& view) {
  if (call.request.join_token().empty()) return handshakes_.connect(call.caller, server);
  MUSTER_ASSIGN(const auto token, security::parse_join_token(call.request.join_token()));
  MUSTER_ASSIGN(const auto shown, ca::root_certificate(view));
  MUSTER_ASSIGN(const std::string root, ca::pinned_root(shown, token, call.now));
  MUSTER_TRY(security::check_certificate(server.credentials().node.certificate_pem, root, {},
                                         call.caller.clock().wall_now())
                 .with_context("the manager's certificate"));
  return security::Principal();
}

void SimCertificates::issue(const std::shared_ptr<Call>& call, ManagerLife& life,
                            const security::Principal& caller) {
  const manager::store::Snapshot before = life.parts->store.snapshot();
  const auto gate = manager::control::make_call_gate("c", [&before] { return before; });
  if (const Status may = gate(kIssue, caller); !may.ok()) return answer(call, fail(may));
  auto done = [this, call, &life, floor = before.version()](auto issued) {
    if (issued) {
      const std::string& token = call->request.join_token();
      const auto retired = retired_.find(token);
      if (!token.empty() && retired != retired_.end() && retired->second <= floor) {
        deps_.broken(fmt::format("{} joins with a token that was rotated at {}, at {} (C4)",
                                 call->caller.name(), retired->second, floor));
      }
      if (removed_in(life.parts->store.snapshot(), issued->node_id())) {
        deps_.broken(
            fmt::format("{} was removed and gets a certificate (C1)", call->caller.name()));
      }
    }
    strand_.after(latency(), [this, call, issued = std::move(issued)]() mutable {
      if (!deps_.network.is_cut(call->caller.id())) answer(call, std::move(issued));
    });
  };
  life.parts->ca.issue(caller, "192.0.2.9", call->request, std::move(done));
}

Result<v1::IssueCertificateResponse> SimCertificates::sign_own(const SimIdentity& who,
                                                               const std::string& csr) {
  ManagerLife* life = group_->life_of(who.id());
  if (life == nullptr || life->parts == nullptr) return fail(unavailable("its log is not open"));
  deps_.probes.hit("manager signed its own certificate");
  return ca::sign_own(life->parts->store.snapshot(), who.id(), csr, who.clock().wall_now());
}

// ---------------------------------------------------------------- connections

Result<bool> SimCertificates::admit_session(const std::string& node_id) {
  ManagerLife* life = group_->serving();
  SimIdentity* server = life == nullptr ? nullptr : find(life->node_id());
  SimIdentity* client = find(node_id);
  if (server == nullptr || client == nullptr || life->parts == nullptr) {
    return fail(unavailable("connection refused"));
  }
  const auto caller = handshakes_.connect(*client, *server);
  if (!caller) {
    deps_.probes.hit("session refused for its certificate");
    const bool known = group_->state().get<v1::Node>(node_id) != nullptr && !removed(node_id);
    if (known && !is_about_time(caller.error()) && server->manager()) {
      deps_.broken(fmt::format("{} and {} do not take each other's certificates: {} (C3)",
                               client->name(), server->name(), caller.error().message()));
    }
    return fail(unavailable("{}", caller.error().message()));  // all that TLS tells
  }
  const auto gate =
      manager::control::make_call_gate("c", [life] { return life->parts->store.snapshot(); });
  MUSTER_TRY(gate(kSession, *caller));
  return caller->manager;
}

void SimCertificates::welcomed(const std::string& node_id) {
  ManagerLife* life = group_->serving();
  if (life == nullptr || life->parts == nullptr) return;
  if (!removed_in(life->parts->store.snapshot(), node_id)) return;
  deps_.broken(fmt::format("{} was removed and gets a session (C1)", node_id));
}

bool SimCertificates::admit_lane(const std::string& from, const std::string& to) {
  SimIdentity* client = find(from);
  SimIdentity* server = find(to);
  if (client == nullptr || server == nullptr) return false;
  const auto caller = handshakes_.connect(*client, *server);
  if (!caller) {
    if (is_about_time(caller.error()) || !server->manager() || removed(from) || removed(to)) {
      deps_.probes.hit("lane refused for a certificate");
      std::string& told = refused_[from + to];
      if (std::exchange(told, caller.error().message()) != caller.error().message()) {
        deps_.trace(fmt::format("no lane from {} to {}: {}", client->name(), server->name(), told));
      }
      return false;
    }
    deps_.broken(fmt::format("{} and {} do not take each other's certificates: {} (C3)",
                             client->name(), server->name(), caller.error().message()));
    return false;
  }
  return security::check_access("muster.v1.Raft.Lane", *caller).ok();
}

Status SimCertificates::admit_call(const std::string& node_id, std::string_view method) {
  ManagerLife* life = group_->serving();
  SimIdentity* server = life == nullptr ? nullptr : find(life->node_id());
  SimIdentity* client = find(node_id);
  if (server == nullptr || client == nullptr || life->parts == nullptr) {
    return unavailable("connection refused");
  }
  MUSTER_ASSIGN(const auto caller, handshakes_.connect(*client, *server));
  return manager::control::make_call_gate("c", [life] { return life->parts->store.snapshot(); })(
      method, caller);
}

}  // namespace muster::sim
