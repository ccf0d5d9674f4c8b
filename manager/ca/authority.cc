#include "manager/ca/authority.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "manager/ca/admission.h"
#include "manager/ca/root.h"

namespace muster::manager::ca {
namespace {

Status not_leader() {
  return Status(StatusCode::kUnavailable, "this manager does not lead", "not-leader");
}

// Of tasks, services and the rest there are thousands of commits for each of these.
bool concerns_certificates(const store::CommitEvent& event) {
  return std::any_of(event.changes->begin(), event.changes->end(), [](const auto& change) {
    return std::holds_alternative<store::Change<v1::Node>>(change) ||
           std::holds_alternative<store::Change<v1::Cluster>>(change);
  });
}

}  // namespace

CertificateAuthority::CertificateAuthority(Executor& strand, store::Store& store,
                                           raft::Group& group, Log log)
    : strand_(strand), store_(store), group_(group), log_(std::move(log)) {}

CertificateAuthority::~CertificateAuthority() {
  stop();
}

void CertificateAuthority::start() {
  if (std::exchange(started_, true)) return;
  watch_ = store_.watch([this](const store::CommitEvent& event) {
    if (concerns_certificates(event)) look();
  });
  look();
}

void CertificateAuthority::stop() {
  ++term_;
  started_ = false;
  finishing_ = false;
  watch_ = {};
  strand_.cancel(retry_);
  backoff_.reset();
}

void CertificateAuthority::issue(const security::Principal& caller, const std::string& peer_host,
                                 const v1::IssueCertificateRequest& request,
                                 Callback<v1::IssueCertificateResponse> done) {
  if (!started_) {
    strand_.post([done = std::move(done)]() mutable { done(fail(not_leader())); });
    return;
  }
  auto kept = std::make_shared<const v1::IssueCertificateRequest>(request);
  if (request.join_token().empty()) return renew(caller, std::move(kept), std::move(done));
  join(std::move(kept), peer_host, std::move(done));
}

// Writes nothing; but a manager that was deposed and does not know yet must not give out a role
// that was taken away since.
void CertificateAuthority::renew(const security::Principal& caller,
                                 std::shared_ptr<const v1::IssueCertificateRequest> request,
                                 Callback<v1::IssueCertificateResponse> done) {
  auto sign = [this, alive = std::weak_ptr<int>(alive_), caller, request = std::move(request),
               done = std::move(done)](Status leads) mutable {
    if (alive.expired()) return done(fail(not_leader()));
    if (!leads.ok()) return done(fail(std::move(leads)));
    const store::Snapshot view = store_.snapshot();
    const auto node = renewing_node(view, caller);
    if (!node) return done(fail(node.error()));
    auto issued = ca::issue(*view.cluster(), **node, request->signing_request_pem(),
                            strand_.clock().wall_now());
    if (issued) add_managers(*issued);
    done(std::move(issued));
  };
  group_.read_barrier([sign = std::move(sign)](Result<raft::Index> index) mutable {
    sign(index ? ok_status() : index.error());
  });
}

void CertificateAuthority::join(std::shared_ptr<const v1::IssueCertificateRequest> request,
                                const std::string& peer_host,
                                Callback<v1::IssueCertificateResponse> done) {
  auto answer = std::make_shared<Result<v1::IssueCertificateResponse>>(fail(not_leader()));
  store_.update(
      [request, peer_host, answer](store::Transaction& tx) -> Status {
        v1::Node node;
        bool known = false;
        {
          const store::Snapshot view = tx.view();
          MUSTER_ASSIGN(Admission admission, admit(view, *request, peer_host));
          node = std::move(admission.node);
          known = admission.known;
          *answer = ca::issue(*view.cluster(), node, request->signing_request_pem(), tx.now());
        }
        if (!*answer) return answer->error();
        if (known) return ok_status();
        // It has no other certificate, so no rotation has to wait for its report.
        const v1::IssueCertificateResponse& issued = **answer;
        MUSTER_ASSIGN(*node.mutable_description()->mutable_tls(),
                      describe_certificate(issued.certificate_pem(), issued.trust_root_pem()));
        return tx.create(std::move(node));
      },
      [this, alive = std::weak_ptr<int>(alive_), answer,
       done = std::move(done)](const store::Commit& commit) mutable {
        if (!commit.status.ok()) return done(fail(commit.status));
        if (!alive.expired()) {
          add_managers(**answer);
          log_->info("node {} has a certificate", (*answer)->node_id());
        }
        done(std::move(*answer));
      });
}

// Of the group's members, the leader's first.
void CertificateAuthority::add_managers(v1::IssueCertificateResponse& response) const {
  const raft::GroupView view = group_.view();
  for (const bool leader : {true, false}) {
    for (const raft::MemberView& member : view.members) {
      if (member.leader == leader) response.add_manager_addrs(member.member.address);
    }
  }
}

// ------------------------------------------------------------ rotation

void CertificateAuthority::look() {
  if (!started_ || finishing_) return;
  if (may_finish_rotation(store_.snapshot())) finish();
}

void CertificateAuthority::finish() {
  finishing_ = true;
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [](store::Transaction& tx) -> Status {
        v1::Cluster cluster;
        {
          const store::Snapshot view = tx.view();
          // A node may have joined or fallen back, or another rotation begun, in the meantime.
          if (!may_finish_rotation(view)) return ok_status();
          cluster = *view.cluster();
        }
        MUSTER_TRY(finish_rotation(*cluster.mutable_root_ca()));
        return tx.update(std::move(cluster));
      },
      [this, alive, term = term_](const store::Commit& commit) {
        if (!alive.expired() && term == term_) finished(commit.status);
      });
}

void CertificateAuthority::finished(const Status& status) {
  if (status.ok()) {
    backoff_.reset();
    finishing_ = false;
    const auto cluster = store_.snapshot().cluster();
    if (cluster != nullptr && !cluster->root_ca().has_rotation()) {
      log_->info("every node has a certificate of the new root: the old one is gone");
    }
    look();
    return;
  }
  if (backoff_.fresh()) {
    log_->warn("the end of the root's rotation was not written, trying again: {}",
               status.message());
  }
  const std::weak_ptr<int> alive = alive_;
  retry_ = strand_.after(backoff_.next(), [this, alive] {
    if (alive.expired()) return;
    finishing_ = false;
    look();
  });
}

Result<v1::GetRootCertificateResponse> root_certificate(const store::Snapshot& view) {
  const auto cluster = view.cluster();
  if (cluster == nullptr || cluster->root_ca().certificate_pem().empty()) {
    return fail(StatusCode::kUnavailable, "this manager does not know its swarm yet", "not-ready");
  }
  v1::GetRootCertificateResponse response;
  response.set_certificate_pem(cluster->root_ca().certificate_pem());
  return response;
}

}  // namespace muster::manager::ca
