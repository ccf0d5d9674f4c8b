#pragma once

#include <memory>
#include <string>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/security/principal.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/store/store.h"
#include "muster/v1/ca.pb.h"
#include "raft/node/group.h"

namespace muster::manager::ca {

// The cluster's CA as the leader runs it: issues certificates to those who join and renew, and ends
// a rotation of the root as soon as the last node has a certificate of the new one. What it decides
// by is all in the store, so a new leader goes on where the last one was.
//
// Lives on the store's strand.
class CertificateAuthority {
 public:
  template <class T>
  using Callback = UniqueFunction<void(Result<T>)>;

  // All outlive it. `group` says whether this manager still leads when a certificate is renewed,
  // and where the managers are.
  CertificateAuthority(Executor& strand, store::Store& store, raft::Group& group, Log log);
  ~CertificateAuthority();

  // With the start and the end of leadership.
  void start();
  void stop();

  // By the token in the request, or, when it has none, by the caller's certificate. `peer_host` is
  // where the caller was seen. UNAVAILABLE, reason "not-leader", from others than the leader; the
  // rest as in admission.h. Calls back on the strand, exactly once, never from inside the call.
  void issue(const security::Principal& caller, const std::string& peer_host,
             const v1::IssueCertificateRequest& request,
             Callback<v1::IssueCertificateResponse> done);

 private:
  void join(std::shared_ptr<const v1::IssueCertificateRequest> request,
            const std::string& peer_host, Callback<v1::IssueCertificateResponse> done);
  void renew(const security::Principal& caller,
             std::shared_ptr<const v1::IssueCertificateRequest> request,
             Callback<v1::IssueCertificateResponse> done);
  void add_managers(v1::IssueCertificateResponse& response) const;
  // Whether there is something to do about the root; does it.
  void look();
  void finish();
  void finished(const Status& status);

  Executor& strand_;
  store::Store& store_;
  raft::Group& group_;
  Log log_;
  bool started_ = false;
  bool finishing_ = false;  // a write is under way, or the time to try again
  uint64_t term_ = 0;       // counts stop()
  Backoff backoff_{100ms, 10s};
  Executor::TimerId retry_ = 0;
  store::Store::Subscription watch_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// The root that joiners are to compare with the digest in their token; any manager, any thread.
// UNAVAILABLE while this one knows none.
Result<v1::GetRootCertificateResponse> root_certificate(const store::Snapshot& view);

}  // namespace muster::manager::ca
