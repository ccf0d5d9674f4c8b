#include "tests/sim/sim_handshakes.h"

#include <algorithm>

#include "base/security/x509.h"

namespace muster::sim {
namespace {

constexpr int64_t kNever = INT64_MAX;

// The time around `now` in which the two see no certificate begin or end.
void narrow(const std::vector<WallTime>& instants, WallTime now, WallTime& from, WallTime& until) {
  for (const WallTime at : instants) {
    if (at <= now) {
      from = std::max(from, at);
    } else {
      until = std::min(until, at);
    }
  }
}

}  // namespace

security::Principal principal_of(const security::CertificateFacts& facts) {
  security::Principal principal;
  principal.kind = security::Principal::Kind::kNode;
  principal.node_id = facts.identity.node_id;
  principal.manager = facts.identity.role == security::CertificateRole::kManager;
  principal.cluster_id = facts.identity.cluster_id;
  return principal;
}

bool is_about_time(const Status& status) {
  return status.reason() == "certificate-expired" || status.reason() == "clock-skew";
}

Status SimHandshakes::verify(const SimIdentity& whose, const SimIdentity& by) {
  if (!whose.has_certificate() || !by.has_certificate()) {
    return Status(StatusCode::kUnauthenticated, "there is no certificate", "certificate-expired");
  }
  const WallTime now = by.clock().wall_now();
  Known& known = known_[{&whose, &by}];
  if (known.whose == whose.generation() && known.by == by.generation() && known.from <= now &&
      now < known.until) {
    return known.status;
  }
  known = {whose.generation(), by.generation(), {0}, {kNever}, ok_status()};
  narrow(whose.instants(), now, known.from, known.until);
  narrow(by.instants(), now, known.from, known.until);
  known.status = security::check_certificate(whose.credentials().node.certificate_pem,
                                             by.credentials().root_pem, {}, now);
  return known.status;
}

Result<security::Principal> SimHandshakes::connect(const SimIdentity& client,
                                                   const SimIdentity& server) {
  MUSTER_TRY(verify(server, client).with_context("the manager's certificate"));
  MUSTER_TRY(verify(client, server).with_context("the caller's certificate"));
  if (!server.manager()) {
    return fail(StatusCode::kUnauthenticated, "who was called is no manager", "not-a-manager");
  }
  return principal_of(client.facts());
}

}  // namespace muster::sim
