#include "deploy/daemon/node_state.h"

#include <fcntl.h>
#include <sys/file.h>

#include <boost/json.hpp>
#include <cerrno>

#include "base/file.h"
#include "base/rng.h"

namespace muster::daemon {
namespace {

constexpr int64_t kVersion = 1;

std::filesystem::path file_in(const std::filesystem::path& data_dir) {
  return data_dir / "node.json";
}

std::string text_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_string()) return {};
  return std::string(value->get_string().data(), value->get_string().size());
}

}  // namespace

Result<UniqueFd> lock_data_dir(const std::filesystem::path& data_dir) {
  const std::filesystem::path path = data_dir / "lock";
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return fail(errno_status(errno, path.string()));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return fail(errno_status(errno, path.string()));
  return fail(failed_precondition("another musterd already uses {}", data_dir.string()));
}

Result<NodeState> load_node_state(const std::filesystem::path& data_dir) {
  const std::filesystem::path path = file_in(data_dir);
  const auto text = read_file(path, 1 << 20);
  if (!text && text.error().code() == StatusCode::kNotFound) {
    NodeState fresh;
    fresh.instance_id = SystemRng().id().substr(0, 8);
    MUSTER_TRY(make_directory(data_dir, 0711));
    MUSTER_TRY(save_node_state(data_dir, fresh));
    return fresh;
  }
  if (!text) return fail(text.error());
  boost::system::error_code error;
  const boost::json::value parsed = boost::json::parse(*text, error);
  if (error || !parsed.is_object()) {
    return fail(data_loss("{} is damaged: {}", path.string(), error.message()));
  }
  const boost::json::object& object = parsed.get_object();
  const auto* version = object.if_contains("version");
  if (version == nullptr || !version->is_int64()) {
    return fail(data_loss("{} is damaged: it has no version", path.string()));
  }
  if (version->get_int64() > kVersion) {
    return fail(failed_precondition("{} was written by a newer musterd (format {}, known is {})",
                                    path.string(), version->get_int64(), kVersion));
  }
  NodeState state;
  state.instance_id = text_at(object, "instance_id");
  if (state.instance_id.empty()) {
    return fail(data_loss("{} is damaged: it has no instance_id", path.string()));
  }
  if (const auto* member = object.if_contains("membership"); member && member->is_object()) {
    const boost::json::object& m = member->get_object();
    state.membership = Membership{text_at(m, "node_id"), text_at(m, "cluster_id"),
                                  text_at(m, "listen_addr"), text_at(m, "advertise_addr")};
  }
  return state;
}

Status save_node_state(const std::filesystem::path& data_dir, const NodeState& state) {
  boost::json::object object{{"version", kVersion}, {"instance_id", state.instance_id}};
  if (state.membership) {
    object["membership"] =
        boost::json::object{{"node_id", state.membership->node_id},
                            {"cluster_id", state.membership->cluster_id},
                            {"listen_addr", state.membership->listen_addr},
                            {"advertise_addr", state.membership->advertise_addr}};
  }
  return write_file_atomic(file_in(data_dir), boost::json::serialize(object) + "\n", 0600,
                           Durability::kFsync);
}

}  // namespace muster::daemon
