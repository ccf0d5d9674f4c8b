#include "agent/volumes/driver_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>

namespace muster::agent {
namespace {

struct MountFlag {
  std::string_view name;
  bool clear;
  unsigned long bits;
};

// The words of fstab(5) that are flags of mount(2) rather than options of a file system.
constexpr std::array<MountFlag, 30> kFlags = {{
    {"defaults", false, 0},
    {"ro", false, MS_RDONLY},
    {"rw", true, MS_RDONLY},
    {"nosuid", false, MS_NOSUID},
    {"suid", true, MS_NOSUID},
    {"nodev", false, MS_NODEV},
    {"dev", true, MS_NODEV},
    {"noexec", false, MS_NOEXEC},
    {"exec", true, MS_NOEXEC},
    {"sync", false, MS_SYNCHRONOUS},
    {"async", true, MS_SYNCHRONOUS},
    {"dirsync", false, MS_DIRSYNC},
    {"remount", false, MS_REMOUNT},
    {"mand", false, MS_MANDLOCK},
    {"nomand", true, MS_MANDLOCK},
    {"noatime", false, MS_NOATIME},
    {"atime", true, MS_NOATIME},
    {"nodiratime", false, MS_NODIRATIME},
    {"diratime", true, MS_NODIRATIME},
    {"relatime", false, MS_RELATIME},
    {"norelatime", true, MS_RELATIME},
    {"strictatime", false, MS_STRICTATIME},
    {"nostrictatime", true, MS_STRICTATIME},
    {"bind", false, MS_BIND},
    {"rbind", false, MS_BIND | MS_REC},
    {"lazytime", false, MS_LAZYTIME},
    {"nolazytime", true, MS_LAZYTIME},
    {"silent", false, MS_SILENT},
    {"loud", true, MS_SILENT},
    {"iversion", false, MS_I_VERSION},
}};

constexpr std::array<MountFlag, 8> kPropagation = {{
    {"private", false, MS_PRIVATE},
    {"rprivate", false, MS_PRIVATE | MS_REC},
    {"shared", false, MS_SHARED},
    {"rshared", false, MS_SHARED | MS_REC},
    {"slave", false, MS_SLAVE},
    {"rslave", false, MS_SLAVE | MS_REC},
    {"unbindable", false, MS_UNBINDABLE},
    {"runbindable", false, MS_UNBINDABLE | MS_REC},
}};

template <size_t N>
const MountFlag* find(const std::array<MountFlag, N>& flags, std::string_view name) {
  const auto at = std::find_if(flags.begin(), flags.end(),
                               [&](const MountFlag& flag) { return flag.name == name; });
  return at == flags.end() ? nullptr : &*at;
}

bool is_network_type(std::string_view type) {
  return type.rfind("nfs", 0) == 0 || type == "cifs" || type == "smb3";
}

void add_option(VolumeMount& mount, std::string_view option) {
  if (option.empty()) return;
  if (const MountFlag* flag = find(kFlags, option)) {
    mount.flags = flag->clear ? mount.flags & ~flag->bits : mount.flags | flag->bits;
    return;
  }
  if (const MountFlag* flag = find(kPropagation, option)) {
    mount.propagation = flag->bits;
    return;
  }
  constexpr std::string_view kAddress = "addr=";
  if (is_network_type(mount.type) && option.rfind(kAddress, 0) == 0) {
    mount.address = option.substr(kAddress.size());
    return;
  }
  if (!mount.data.empty()) mount.data += ",";
  mount.data += option;
}

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

Status check_volume_name(std::string_view name) {
  constexpr size_t kNameMax = 255;  // of a file
  if (name.size() == 1) {
    return invalid_argument(
        "volume name is too short, names should be at least two alphanumeric characters");
  }
  if (name.size() > kNameMax) {
    return invalid_argument("volume name is too long: {} characters, at most {} are allowed",
                            name.size(), kNameMax);
  }
  const bool valid =
      !name.empty() && is_alnum(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
        return is_alnum(c) || c == '_' || c == '.' || c == '-';
      });
  if (valid) return {};
  return invalid_argument(
      "\"{}\" includes invalid characters for a local volume name, only "
      "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use "
      "absolute path",
      name);
}

Result<VolumeMount> parse_driver_options(
    const google::protobuf::RepeatedPtrField<v1::KeyValue>& options) {
  VolumeMount mount;
  std::string flags;
  bool has_flags = false;
  for (const v1::KeyValue& option : options) {
    if (option.key() == "type") {
      mount.type = option.value();
    } else if (option.key() == "device") {
      mount.device = option.value();
    } else if (option.key() == "o") {
      flags = option.value();
      has_flags = true;
    } else if (option.key() == "size") {
      return fail(invalid_argument(
          "quota size requested but no quota support: limit a tmpfs volume with o=size=..."));
    } else {
      return fail(invalid_argument("invalid option: \"{}\"", option.key()));
    }
  }
  if (mount.type.empty() && (has_flags || !mount.device.empty())) {
    return fail(invalid_argument("missing required option: \"type\""));
  }
  if (mount.device.empty() && (has_flags || !mount.type.empty())) {
    return fail(invalid_argument("missing required option: \"device\""));
  }
  std::string_view rest = flags;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    add_option(mount, rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  if ((mount.flags & MS_BIND) != 0 && mount.device[0] != '/') {
    return fail(invalid_argument("the device of a bind has to be an absolute path, not \"{}\"",
                                 mount.device));
  }
  if ((mount.flags & MS_REMOUNT) != 0) {
    return fail(invalid_argument("a volume cannot be mounted with the option \"remount\""));
  }
  return mount;
}

}  // namespace muster::agent
