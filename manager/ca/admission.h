#pragma once

#include <string>
#include <string_view>

#include "base/security/principal.h"
#include "base/security/x509.h"
#include "base/status.h"
#include "base/time.h"
#include "manager/store/snapshot.h"
#include "muster/v1/ca.pb.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/objects.pb.h"

// Who gets a certificate, and which: rules over one state of the store.
namespace muster::manager::ca {

// Removed, and its certificate has not ended yet: nothing it says counts.
bool is_removed(const v1::Cluster& cluster, std::string_view node_id);

// The role that the token gives. INVALID_ARGUMENT, reason "bad-join-token": malformed, of another
// swarm, or rotated since. Secrets are compared in constant time; errors never repeat the token.
Result<v1::NodeSpec::Role> role_of_token(const v1::RootCa& root_ca, std::string_view token);

// The id of the node with this signing request: the same for every request with its key, so that a
// join that is repeated, because its answer was lost, ends at the same node.
Result<std::string> node_id_of_request(std::string_view signing_request_pem);

// What a join comes to.
struct Admission {
  v1::Node node;
  bool known = false;  // it is in the store already: nothing to write
};
// INVALID_ARGUMENT for a bad token, request, host name or address; PERMISSION_DENIED, reason
// "node-removed", for the key of a node that was removed. `peer_host` is where the caller was seen.
Result<Admission> admit(const store::Snapshot& view, const v1::IssueCertificateRequest& request,
                        std::string_view peer_host);

// The node that renews: its certificate says who it is, the store which role it has now.
// UNAUTHENTICATED without a certificate; PERMISSION_DENIED for nodes of another swarm (reason
// "wrong-cluster"), that were removed or are unknown (reason "node-removed").
Result<store::Ptr<v1::Node>> renewing_node(const store::Snapshot& view,
                                           const security::Principal& caller);

// A certificate for the node, with all that goes with it but the managers' addresses: for a manager
// also what its keys are to be wrapped with.
Result<v1::IssueCertificateResponse> issue(const v1::Cluster& cluster, const v1::Node& node,
                                           std::string_view signing_request_pem, WallTime now);

// The certificate of the root that sign_own() signs by; empty when it refuses.
std::string own_signer(const store::Snapshot& view, std::string_view node_id);
// A manager's certificate for itself, when nobody else can give it one: its own has ended, and so
// have those of the others, or there are none. UNAVAILABLE without the root's key in `view`;
// PERMISSION_DENIED for a node that is no manager there, or was removed.
Result<v1::IssueCertificateResponse> sign_own(const store::Snapshot& view, std::string_view node_id,
                                              std::string_view signing_request_pem, WallTime now);

// A certificate for a client: somebody who uses the control API from elsewhere. INVALID_ARGUMENT
// for a bad request, name or validity. Nothing is written: it ends by its time, or with the root.
//
// 30 days by default, since one that was lost cannot be taken back by itself; a year at most.
inline constexpr Duration kClientValidity = 24h * 30;
inline constexpr Duration kClientValidityMost = 24h * 365;
Result<v1::IssueClientCertificateResponse> issue_client(
    const store::Snapshot& view, const v1::IssueClientCertificateRequest& request, WallTime now);

// What a node reports about the certificate it uses; also what a certificate that was just issued
// will be reported as.
Result<v1::TlsInfo> describe_certificate(std::string_view certificate_pem,
                                         std::string_view trust_pem);

}  // namespace muster::manager::ca
