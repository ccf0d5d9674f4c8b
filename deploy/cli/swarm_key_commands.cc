#include <signal.h>

#include "deploy/cli/cluster_flags.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/swarm_text.h"

namespace muster::deploy::cli {
namespace {

constexpr int64_t kRotationPollMs = 200;

// "  rotated TLS certificates:  [==========>          ] 2/3 nodes"
std::string progress_bar(size_t done, size_t all) {
  constexpr size_t kWidth = 50;
  const size_t filled = all == 0 ? kWidth : kWidth * done / all;
  return fmt::format("  rotated TLS certificates:  [{}>{}] {}/{} nodes", std::string(filled, '='),
                     std::string(kWidth - filled, ' '), done, all);
}

// Which nodes a rotation still waits for, and why the slow ones are slow.
struct Rotation {
  bool under_way = false;
  size_t nodes = 0;
  std::vector<std::string> waiting;
};

Result<Rotation> look_at_rotation(Run& run) {
  MUSTER_ASSIGN(const auto cluster, run.client().call(v1::GetClusterRequest()));
  MUSTER_ASSIGN(const auto nodes, run.client().call(v1::ListNodesRequest()));
  Rotation out;
  out.under_way = cluster.cluster().root_ca().has_rotation();
  out.nodes = static_cast<size_t>(nodes.nodes_size());
  for (const std::string& waiting : cluster.nodes_to_renew()) {
    std::string name = waiting;  // a host name, or an id
    for (const auto& node : nodes.nodes()) {
      if (node.id() != waiting && node.description().hostname() != waiting) continue;
      name = node.description().hostname();
      if (node.status().state() == v1::NodeStatus::DOWN) name += " (down)";
    }
    out.waiting.push_back(std::move(name));
  }
  return out;
}

// Until every node has a certificate of the new root. Ctrl-C leaves the rotation going on.
Status watch_rotation(Run& run, Signals& signals) {
  std::string shown;
  for (;;) {
    MUSTER_ASSIGN(const Rotation rotation, look_at_rotation(run));
    const size_t done = rotation.nodes - std::min(rotation.nodes, rotation.waiting.size());
    std::string text = progress_bar(done, rotation.nodes);
    if (rotation.waiting.size() > 0 && rotation.waiting.size() <= 5)
      text += fmt::format(", waiting for {}", join(rotation.waiting, ", "));
    if (text != shown) {
      if (run.world.out_is_terminal && !shown.empty()) run.out("\x1b[1A\x1b[2K");
      run.line(text);
      shown = text;
    }
    if (!rotation.under_way) return ok_status();
    wait_readable({signals.fd()}, kRotationPollMs);
    if (signals.pop() != 0) {
      run.line(
          "Operation continuing in background.\n"
          "Use `muster swarm ca` to see the current root.");
      return Status(StatusCode::kCancelled, "interrupted", "detached");
    }
  }
}

Status rotate_root(Run& run, const ClusterFlags& cluster, const std::string& cert_file,
                   const std::string& key_file) {
  MUSTER_ASSIGN(const auto current, run.client().call(v1::GetClusterRequest()));
  v1::UpdateClusterRequest request;
  request.set_version(current.cluster().meta().version());
  *request.mutable_spec() = current.cluster().spec();
  MUSTER_TRY(cluster.apply(request.mutable_spec()));
  v1::RotateRoot& rotate = *request.mutable_rotate_root();
  if (!cert_file.empty())
    MUSTER_TRY(read_pem_file(run, cert_file, rotate.mutable_certificate_pem()));
  if (!key_file.empty()) MUSTER_TRY(read_pem_file(run, key_file, rotate.mutable_key_pem()));
  const auto updated = run.client().call(request);
  return updated ? ok_status() : updated.error();
}

Status print_root(Run& run) {
  MUSTER_ASSIGN(const auto cluster, run.client().call(v1::GetClusterRequest()));
  run.out(cluster.cluster().root_ca().certificate_pem());
  return ok_status();
}

}  // namespace

Result<int> swarm_unlock(Run& run) {
  MUSTER_TRY(run.parse(0, 0));
  Signals signals({SIGINT, SIGTERM});
  MUSTER_ASSIGN(const auto info, run.client().call(v1::GetInfoRequest()));
  if (info.local_state() == "inactive")
    return fail(failed_precondition("This node is not part of a swarm"));
  if (info.local_state() != "locked") return fail(failed_precondition("swarm is not locked"));
  MUSTER_ASSIGN(const std::string key, read_hidden_line(run, signals, "Enter unlock key: "));
  v1::UnlockSwarmRequest request;
  request.set_unlock_key(key);
  const auto unlocked = run.client().call(request);
  if (!unlocked) return fail(unlocked.error());
  return 0;
}

Result<int> swarm_unlock_key(Run& run) {
  bool rotate = false;
  bool quiet = false;
  run.flags.toggle("rotate", &rotate, "make the old key worthless");
  run.flags.toggle("quiet,q", &quiet, "only the key");
  MUSTER_TRY(run.parse(0, 0));
  if (rotate) {
    MUSTER_ASSIGN(const auto current, run.client().call(v1::GetClusterRequest()));
    if (!current.cluster().spec().autolock())
      return fail(failed_precondition("cannot rotate because autolock is not turned on"));
    v1::UpdateClusterRequest request;
    request.set_version(current.cluster().meta().version());
    *request.mutable_spec() = current.cluster().spec();
    request.set_rotate_unlock_key(true);
    const auto updated = run.client().call(request);
    if (!updated) return fail(updated.error());
    if (!quiet) run.line("Successfully rotated manager unlock key.");
  }
  MUSTER_ASSIGN(const auto key, run.client().call(v1::GetUnlockKeyRequest()));
  if (key.unlock_key().empty()) return fail(failed_precondition("no unlock key is set"));
  if (quiet)
    run.line(key.unlock_key());
  else
    run.out(unlock_text(key.unlock_key()).substr(rotate ? 0 : 1));
  return 0;
}

Result<int> swarm_ca(Run& run) {
  bool rotate = false, detach = false, quiet = false;
  std::string cert_file, key_file;
  ClusterFlags cluster;
  run.flags.toggle("rotate", &rotate, "replace the root: by a new one, or by the one given");
  run.flags.value("ca-cert", &cert_file, "FILE", "the new root certificate, in PEM");
  run.flags.value("ca-key", &key_file, "FILE", "its key, in PEM");
  cluster.declare_cert_expiry(run.flags);
  run.flags.toggle("detach,d", &detach, "do not wait until every node has a new certificate");
  run.flags.toggle("quiet,q", &quiet, "no progress");
  MUSTER_TRY(run.parse(0, 0));
  if (!rotate) {
    for (const char* name : {"ca-cert", "ca-key", "cert-expiry", "detach"}) {
      if (run.flags.given().contains(name))
        return fail(usage_error(
            fmt::format("`--{}` flag requires the `--rotate` flag to update the CA", name)));
    }
    MUSTER_TRY(print_root(run));
    return 0;
  }
  if (!cert_file.empty() && key_file.empty())
    return fail(
        usage_error("the --ca-cert flag requires that a --ca-key flag be provided as well"));
  if (cert_file.empty() && !key_file.empty())
    return fail(
        usage_error("the --ca-key flag requires that a --ca-cert flag be provided as well"));
  Signals signals({SIGINT, SIGTERM});
  MUSTER_TRY(rotate_root(run, cluster, cert_file, key_file));
  if (detach) return 0;
  if (quiet) {
    for (;;) {
      MUSTER_ASSIGN(const Rotation rotation, look_at_rotation(run));
      if (!rotation.under_way) break;
      wait_readable({signals.fd()}, kRotationPollMs);
      if (signals.pop() != 0) return 0;
    }
  } else {
    const Status watched = watch_rotation(run, signals);
    if (watched.reason() == "detached") return 0;
    MUSTER_TRY(watched);
  }
  MUSTER_TRY(print_root(run));
  return 0;
}

}  // namespace muster::deploy::cli
