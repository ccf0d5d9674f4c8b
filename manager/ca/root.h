#pragma once

#include <string>
#include <vector>

#include "base/security/x509.h"
#include "base/status.h"
#include "base/time.h"
#include "manager/store/snapshot.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/objects.pb.h"

// The cluster's root certificate, its join tokens and its replacement, as functions of the
// cluster's object. Of all of them none repeats a key in an error.
namespace muster::manager::ca {

// A root that was given in full, checked, or a new one when nothing was given. INVALID_ARGUMENT
// when one half is missing or a check fails.
Result<security::CertificateAndKey> choose_root(std::string_view certificate_pem,
                                                std::string_view key_pem, WallTime now);

// What a new cluster keeps of its root: with digest and join tokens.
Result<v1::RootCa> make_root_ca(const security::CertificateAndKey& root);

// A join token for the root that joiners are shown at present. FAILED_PRECONDITION when the cluster
// has none.
Result<std::string> new_join_token(const v1::RootCa& root_ca);

// ------------------------------------------------------------ rotation

// Begins to replace the root: by the one that `request` gives, or by a new one. During a rotation
// the new root takes the place of the one that was to be next. The present root itself, given once
// more, ends a rotation by going back.
Status begin_rotation(v1::Cluster& cluster, const v1::RotateRoot& request, WallTime now);

// Who signs now, and what goes behind each certificate for those who do not trust the signer yet.
struct Signer {
  security::CertificateAndKey root;
  std::string intermediates_pem;
};
Signer signer(const v1::RootCa& root_ca);

// What every node is to trust: the root, and the next one too during a rotation.
Result<std::string> trust_bundle(const v1::RootCa& root_ca);

// Who is to have issued every node's certificate; nodes with another one renew.
Result<security::CertificateIssuer> wanted_issuer(const v1::RootCa& root_ca);

// Names (host name, or id) of the nodes whose certificate is not by the wanted issuer, as far as
// they have said; sorted. While there is one a rotation cannot end. Empty without a rotation.
std::vector<std::string> nodes_to_renew(const store::Snapshot& view);

// Whether a rotation is under way and nodes_to_renew() is empty; stops at the first that is not.
bool may_finish_rotation(const store::Snapshot& view);

// The next root takes the place of the present one; join tokens are new, since they have the digest
// of the root in them. Only when may_finish_rotation(). Idempotent.
Status finish_rotation(v1::RootCa& root_ca);

}  // namespace muster::manager::ca
