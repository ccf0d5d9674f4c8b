#include "deploy/cli/cluster_flags.h"

#include <algorithm>

#include "base/file.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"

namespace muster::deploy::cli {
namespace {

constexpr int64_t kCertExpiryMinNs = 3600LL * 1'000'000'000;

template <class T>
Result<T> named(const char* flag, Result<T> result) {
  if (result) return result;
  return fail(usage_error(
      fmt::format("invalid argument for \"--{}\" flag: {}", flag, result.error().message())));
}

}  // namespace

void ClusterFlags::declare(Flags& flags) {
  flags.toggle("autolock", &autolock_, "managers' keys on disk need a key after a restart");
  flags.value("task-history-limit", &history_, "N",
              "ended tasks kept per slot (5; negative = all)");
  flags.value("dispatcher-heartbeat", &heartbeat_, "DURATION", "period of the nodes' heartbeat");
  flags.value("vanished-agent-grace", &grace_, "DURATION",
              "how long a node stays up whose host answers but whose musterd is gone (30s)");
  declare_cert_expiry(flags);
  flags.list("external-ca", &external_cas_, "SPEC", "signers outside of the swarm");
  flags.value("raft-heartbeat", &raft_heartbeat_, "DURATION",
              "how often the leader tells the other managers that it is there (100ms)");
  flags.value(
      "raft-election-timeout", &election_timeout_, "DURATION",
      "after what silence of the leader, and up to twice that, managers elect another (1s)");
  flags.value("snapshot-interval", &snapshot_interval_, "N", "log entries between snapshots");
  flags.value("max-snapshots", &max_snapshots_, "N", "old snapshots kept: only 0 is known here");
  flags.value("event-retention", &retention_, "DURATION",
              "how long events and changes are kept (1h)");
  flags.value("drain-ack-timeout", &drain_ack_, "DURATION",
              "how long a task that stops waits for nodes that route to it (2s; 10s at most)");
  flags.value("network-key-rotation", &key_rotation_, "DURATION",
              "how long a key of encrypted networks is used (12h)");
  flags.toggle("encryption-udp", &encryption_udp_,
               "encrypted networks travel in UDP, where IP protocol 50 is filtered");
  flags.value("encryption-udp-port", &encryption_port_, "PORT", "the port they travel on (4500)");
  flags.value("default-log-driver", &log_driver_, "NAME",
              "log driver of services that name none (empty = each node's own)");
  flags.list("default-log-opt", &log_options_, "K=V", "option of that log driver");
}

void ClusterFlags::declare_cert_expiry(Flags& flags) {
  flags.value("cert-expiry", &cert_expiry_, "DURATION",
              "validity of node certificates (2160h0m0s)");
}

bool ClusterFlags::any() const {
  return history_ || heartbeat_ || grace_ || cert_expiry_ || retention_ || drain_ack_ ||
         key_rotation_ || encryption_udp_ || encryption_port_ || log_driver_ ||
         snapshot_interval_ || max_snapshots_ || raft_heartbeat_ || election_timeout_ ||
         autolock_ || !log_options_.empty() || !external_cas_.empty();
}

Status ClusterFlags::apply(v1::ClusterSpec* spec) const {
  if (autolock_) spec->set_autolock(*autolock_);
  if (history_) {
    MUSTER_ASSIGN(const int64_t limit, named("task-history-limit", parse_signed(*history_)));
    spec->set_task_history_limit(limit);
  }
  if (heartbeat_) {
    MUSTER_ASSIGN(const int64_t ns, named("dispatcher-heartbeat", parse_duration_ns(*heartbeat_)));
    spec->set_heartbeat_period_ns(ns);
  }
  if (grace_) {
    MUSTER_ASSIGN(const int64_t ns, named("vanished-agent-grace", parse_duration_ns(*grace_)));
    spec->set_vanished_agent_grace_ns(ns);
  }
  if (cert_expiry_) {
    MUSTER_ASSIGN(const int64_t ns, named("cert-expiry", parse_duration_ns(*cert_expiry_)));
    if (ns < kCertExpiryMinNs) return usage_error("--cert-expiry must be at least 1h0m0s");
    spec->set_node_cert_expiry_ns(ns);
  }
  if (retention_) {
    MUSTER_ASSIGN(const int64_t ns, named("event-retention", parse_duration_ns(*retention_)));
    if (ns <= 0) return usage_error("--event-retention must be more than 0");
    spec->set_event_retention_ns(ns);
  }
  if (drain_ack_) {
    MUSTER_ASSIGN(const int64_t ns, named("drain-ack-timeout", parse_duration_ns(*drain_ack_)));
    if (ns <= 0) return usage_error("--drain-ack-timeout must be more than 0");
    spec->set_drain_ack_timeout_ns(ns);
  }
  if (!external_cas_.empty()) {
    spec->clear_external_cas();
    for (const std::string& text : external_cas_) {
      MUSTER_ASSIGN(*spec->add_external_cas(), named("external-ca", parse_external_ca(text)));
    }
  }
  MUSTER_TRY(apply_raft(spec));
  MUSTER_TRY(apply_encryption(spec->mutable_encryption()));
  return apply_log_driver(spec);
}

Status ClusterFlags::apply_encryption(v1::EncryptionConfig* encryption) const {
  if (key_rotation_) {
    MUSTER_ASSIGN(const int64_t ns,
                  named("network-key-rotation", parse_duration_ns(*key_rotation_)));
    if (ns <= 0) return usage_error("--network-key-rotation must be more than 0");
    encryption->set_key_rotation_ns(ns);
  }
  if (encryption_udp_) encryption->set_udp_encapsulation(*encryption_udp_);
  if (encryption_port_) {
    MUSTER_ASSIGN(const uint64_t port,
                  named("encryption-udp-port", parse_unsigned(*encryption_port_)));
    if (port == 0 || port > 65535) {
      return usage_error("--encryption-udp-port must be from 1 to 65535");
    }
    encryption->set_udp_port(static_cast<uint32_t>(port));
  }
  return ok_status();
}

Status ClusterFlags::apply_raft(v1::ClusterSpec* spec) const {
  if (raft_heartbeat_) {
    MUSTER_ASSIGN(const int64_t ns, named("raft-heartbeat", parse_duration_ns(*raft_heartbeat_)));
    if (ns <= 0) return usage_error("--raft-heartbeat must be more than 0");
    spec->mutable_raft()->set_heartbeat_period_ns(ns);
  }
  if (election_timeout_) {
    MUSTER_ASSIGN(const int64_t ns,
                  named("raft-election-timeout", parse_duration_ns(*election_timeout_)));
    if (ns <= 0) return usage_error("--raft-election-timeout must be more than 0");
    spec->mutable_raft()->set_election_timeout_ns(ns);
  }
  if (snapshot_interval_) {
    MUSTER_ASSIGN(const uint64_t count,
                  named("snapshot-interval", parse_unsigned(*snapshot_interval_)));
    if (count == 0) return usage_error("--snapshot-interval must be more than 0");
    spec->mutable_raft()->set_snapshot_interval(count);
  }
  if (max_snapshots_ && *max_snapshots_ != "0") {
    return usage_error("--max-snapshots: old snapshots are not kept; use \"muster swarm backup\"");
  }
  return ok_status();
}

// Another driver begins without options; options alone change those there are.
Status ClusterFlags::apply_log_driver(v1::ClusterSpec* spec) const {
  if (log_driver_ && log_driver_->empty() && log_options_.empty()) {
    spec->clear_default_log_driver();
    return ok_status();
  }
  if (log_driver_) {
    spec->mutable_default_log_driver()->set_name(*log_driver_);
    spec->mutable_default_log_driver()->clear_options();
  }
  for (const std::string& text : log_options_) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return usage_error(fmt::format("invalid log option \"{}\": write key=value", text));
    auto& options = *spec->mutable_default_log_driver()->mutable_options();
    auto found = std::find_if(options.begin(), options.end(), [&](const auto& option) {
      return option.key() == text.substr(0, equals);
    });
    v1::KeyValue& option = found == options.end() ? *options.Add() : *found;
    option.set_key(text.substr(0, equals));
    option.set_value(text.substr(equals + 1));
  }
  return ok_status();
}

Result<v1::ExternalCa> parse_external_ca(const std::string& text) {
  v1::ExternalCa out;
  for (const std::string& field : split(text, ',')) {
    const size_t equals = field.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(invalid_argument("invalid field '{}' must be a key=value pair", field));
    const std::string key = lower(field.substr(0, equals));
    const std::string value = field.substr(equals + 1);
    if (key == "protocol") {
      if (lower(value) != "cfssl")
        return fail(invalid_argument("unrecognized external CA protocol {}", value));
      out.set_protocol("cfssl");
    } else if (key == "url") {
      out.set_url(value);
    } else if (key == "cacert") {
      auto pem = read_file(value, 1 << 20);
      if (!pem) return fail(pem.error().with_context("unable to read CA cert for external CA"));
      out.set_certificate_pem(*std::move(pem));
    } else {
      v1::KeyValue& option = *out.add_options();
      option.set_key(key);
      option.set_value(value);
    }
  }
  if (out.protocol().empty())
    return fail(invalid_argument("the external-ca option needs a protocol= parameter"));
  if (out.url().empty())
    return fail(invalid_argument("the external-ca option needs a url= parameter"));
  return out;
}

}  // namespace muster::deploy::cli
