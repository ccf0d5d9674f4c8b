#include "tests/sim/sim_identity.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/security/renewal.h"
#include "base/security/x509.h"
#include "manager/ca/admission.h"
#include "manager/ca/enrolment.h"

namespace muster::sim {
namespace {

WallTime wall_time(const ASN1_TIME* time) {
  tm broken_down{};
  MUSTER_CHECK(ASN1_TIME_to_tm(time, &broken_down) == 1, "no time");
  return {static_cast<int64_t>(timegm(&broken_down)) * 1'000'000'000};
}

// The begin and the end of each certificate of the text.
void add_instants(const std::string& pem, std::vector<WallTime>& out) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  while (X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
    out.push_back(wall_time(X509_get0_notBefore(certificate)));
    out.push_back(wall_time(X509_get0_notAfter(certificate)));
    X509_free(certificate);
  }
  BIO_free(bio);
}

std::string value_of(Result<std::string> made) {
  MUSTER_CHECK(made, "a key or a request cannot be made");
  return *std::move(made);
}

}  // namespace

SimIdentity::SimIdentity(Deps deps, std::string name, v1::NodeSpec::Role role)
    : deps_(std::move(deps)),
      name_(std::move(name)),
      role_(role),
      join_key_(value_of(security::generate_key())),
      id_(value_of(
          manager::ca::node_id_of_request(value_of(security::create_signing_request(join_key_))))) {
}

SimIdentity::~SimIdentity() = default;

bool SimIdentity::manager() const {
  return disk_ && facts_.identity.role == security::CertificateRole::kManager;
}

void SimIdentity::keep(security::NodeCredentials credentials) {
  const auto facts = security::read_certificate(credentials.node.certificate_pem);
  MUSTER_CHECK(facts, "a certificate that is none");
  facts_ = *facts;
  instants_.clear();
  add_instants(credentials.node.certificate_pem, instants_);
  add_instants(credentials.root_pem, instants_);
  std::sort(instants_.begin(), instants_.end(),
            [](WallTime a, WallTime b) { return a.unix_ns < b.unix_ns; });
  disk_ = std::move(credentials);
  described_.reset();
  ++generation_;
}

void SimIdentity::forget() {
  disk_.reset();
  ++generation_;
}

// ---------------------------------------------------------------- the process

v1::TlsInfo SimIdentity::tls() const {
  if (!disk_) return {};
  if (!described_) {
    auto described =
        manager::ca::describe_certificate(disk_->node.certificate_pem, disk_->root_pem);
    described_ = described ? *std::move(described) : v1::TlsInfo();
  }
  return *described_;
}

void SimIdentity::started(Executor& strand, std::function<void()> certificate_changed) {
  MUSTER_CHECK(disk_ && identity_ == nullptr, "no certificate to start with");
  auto tls = security::TlsIdentity::create(*disk_);
  MUSTER_CHECK(tls, "credentials that are none");
  process_ = std::make_shared<int>(0);
  using Lock = daemon::NodeIdentity::Lock;
  daemon::NodeIdentity::Deps deps{
      strand,
      deps_.rng,
      null_log(),
      [this, &strand](const auto& identity, WallTime now, daemon::NodeIdentity::Renewed done) {
        renew(strand, *identity, now, std::move(done));
      },
      [this](const security::NodeCredentials& credentials, const Lock&) {
        keep(credentials);
        return ok_status();
      },
      [](const Lock&, const Lock&) { return ok_status(); },
      [this, changed = std::move(certificate_changed)] {
        deps_.on_changed(*this);
        changed();
      },
      [](const std::string&) {},
      [this](const std::string& why) { removed(why); },
      [this](const std::string& request) { return deps_.sign_own(*this, request); }};
  identity_ = std::make_unique<daemon::NodeIdentity>(std::move(deps), *std::move(tls), Lock());
  identity_->start();
}

void SimIdentity::ended() {
  identity_.reset();
  process_.reset();
}

void SimIdentity::heard(const v1::ClusterFeed& feed) {
  if (identity_ != nullptr) identity_->heard(feed);
}

void SimIdentity::outdated(const std::string& why) {
  if (identity_ != nullptr) identity_->renew_soon(why);
}

void SimIdentity::removed(const std::string&) {
  deps_.on_removed(*this);
}

// As renew_certificate() does it, but for the way to the managers.
void SimIdentity::renew(Executor& strand, const security::TlsIdentity& identity, WallTime now,
                        daemon::NodeIdentity::Renewed done) {
  const auto kept = std::make_shared<daemon::NodeIdentity::Renewed>(std::move(done));
  const auto finish = [kept, &strand,
                       alive = std::weak_ptr<int>(process_)](Result<manager::ca::Issued> issued) {
    if (alive.expired()) return;
    strand.post([kept, issued = std::move(issued)]() mutable { (*kept)(std::move(issued)); });
  };
  const Status valid = security::check_validity(identity.current()->facts, now);
  if (!valid.ok()) return finish(fail(valid));
  const std::string key = value_of(security::generate_key());
  v1::IssueCertificateRequest request;
  request.set_signing_request_pem(value_of(security::create_signing_request(key)));
  deps_.ask(*this, std::move(request), [finish, key, now](auto response) {
    if (!response) return finish(fail(response.error()));
    finish(manager::ca::accept(*std::move(response), key, now));
  });
}

}  // namespace muster::sim
