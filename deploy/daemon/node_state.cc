#include "deploy/daemon/node_state.h"

#include <fcntl.h>
#include <sys/file.h>

#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/file.h"
#include "base/json_fields.h"
#include "base/rng.h"

namespace muster::daemon {
namespace {

constexpr int64_t kVersion = 1;

std::filesystem::path file_in(const std::filesystem::path& data_dir) {
  return data_dir / "node.json";
}

Result<std::optional<Membership>> membership_of(const boost::json::object& object,
                                                const std::filesystem::path& path) {
  Membership out;
  out.node_id = text_at(object, "node_id");
  out.cluster_id = text_at(object, "cluster_id");
  out.listen_addr = text_at(object, "listen_addr");
  out.advertise_addr = text_at(object, "advertise_addr");
  out.data_path_addr = text_at(object, "data_path_addr");
  if (const auto* port = object.if_contains("data_path_port"); port && port->is_int64()) {
    out.data_path_port = static_cast<uint32_t>(port->get_int64());
  }
  if (const auto* managers = object.if_contains("managers"); managers && managers->is_array()) {
    for (const auto& address : managers->get_array()) {
      if (address.is_string()) out.managers.emplace_back(address.get_string().c_str());
    }
  }
  const std::string member = text_at(object, "member_id");
  if (!member.empty()) {
    const char* end = member.data() + member.size();
    const auto parsed = std::from_chars(member.data(), end, out.member_id, 16);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return fail(data_loss("{} is damaged: \"{}\" is no member id", path.string(), member));
    }
  }
  out.log_begun = flag_at(object, "log_begun");
  out.removed = flag_at(object, "removed");
  return std::optional(std::move(out));
}

// Numbers of 64 bits are texts: readers of JSON take them for floating point.
boost::json::object json_of(const Membership& membership) {
  boost::json::object out{{"node_id", membership.node_id},
                          {"cluster_id", membership.cluster_id},
                          {"listen_addr", membership.listen_addr},
                          {"advertise_addr", membership.advertise_addr}};
  if (!membership.data_path_addr.empty()) out["data_path_addr"] = membership.data_path_addr;
  if (membership.data_path_port != 0) out["data_path_port"] = membership.data_path_port;
  boost::json::array managers;
  for (const auto& address : membership.managers) managers.emplace_back(address);
  out["managers"] = std::move(managers);
  if (membership.member_id != 0) out["member_id"] = fmt::format("{:x}", membership.member_id);
  if (membership.log_begun) out["log_begun"] = true;
  if (membership.removed) out["removed"] = true;
  return out;
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
    MUSTER_ASSIGN(state.membership, membership_of(member->get_object(), path));
  }
  return state;
}

Status save_node_state(const std::filesystem::path& data_dir, const NodeState& state) {
  boost::json::object object{{"version", kVersion}, {"instance_id", state.instance_id}};
  if (state.membership) object["membership"] = json_of(*state.membership);
  return write_file_atomic(file_in(data_dir), boost::json::serialize(object) + "\n", 0600,
                           Durability::kFsync);
}

}  // namespace muster::daemon
