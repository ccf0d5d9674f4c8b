#include "agent/volumes/driver_options.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <string>
#include <utility>
#include <vector>

#include "muster/v1/local.pb.h"

namespace muster::agent {
namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

Result<VolumeMount> parse(const Options& options) {
  v1::CreateVolumeRequest request;
  for (const auto& [key, value] : options) {
    v1::KeyValue& option = *request.add_driver_options();
    option.set_key(key);
    option.set_value(value);
  }
  return parse_driver_options(request.driver_options());
}

TEST(VolumeName, WhatDockerAllows) {
  for (const char* name : {"ab", "hello_data", "0x", "a.b-c_d", "A1"}) {
    EXPECT_TRUE(check_volume_name(name).ok()) << name;
  }
  EXPECT_TRUE(check_volume_name(std::string(255, 'a')).ok());
}

TEST(VolumeName, WhatDockerRefuses) {
  struct Case {
    std::string name, message;
  };
  for (const Case& c :
       std::vector<Case>{{"a", "volume name is too short"},
                         {"", "includes invalid characters"},
                         {".hidden", "includes invalid characters for a local volume name"},
                         {"-a", "includes invalid characters"},
                         {"a/b", "If you intended to pass a host directory, use absolute path"},
                         {"../etc", "includes invalid characters"},
                         {"a b", "includes invalid characters"},
                         {"h\xc3\xa4", "includes invalid characters"},
                         {std::string("ab\0c", 4), "includes invalid characters"},
                         {std::string(256, 'a'), "volume name is too long"}}) {
    const Status status = check_volume_name(c.name);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.name;
    EXPECT_NE(status.message().find(c.message), std::string::npos) << status.message();
  }
}

TEST(DriverOptions, NoneNeedNoMount) {
  const auto mount = parse({});
  ASSERT_TRUE(mount);
  EXPECT_FALSE(mount->needed());
}

TEST(DriverOptions, BecomeWhatMountTakes) {
  struct Case {
    Options options;
    unsigned long flags;
    unsigned long propagation;
    std::string data, address;
  };
  for (const Case& c : std::vector<Case>{
           {{{"type", "tmpfs"}, {"device", "tmpfs"}, {"o", "size=100m,uid=1000,nosuid"}},
            MS_NOSUID,
            0,
            "size=100m,uid=1000",
            ""},
           {{{"type", "none"}, {"device", "/srv"}, {"o", "bind"}}, MS_BIND, 0, "", ""},
           {{{"type", "none"}, {"device", "/srv"}, {"o", "rbind,ro,rshared"}},
            MS_BIND | MS_REC | MS_RDONLY,
            MS_SHARED | MS_REC,
            "",
            ""},
           {{{"o", "addr=10.0.0.1,rw,nfsvers=4"}, {"device", ":/export"}, {"type", "nfs"}},
            0,
            0,
            "nfsvers=4",
            "10.0.0.1"},
           {{{"type", "ext4"}, {"device", "/dev/vdb"}, {"o", "ro,rw,,addr=x"}}, 0, 0, "addr=x", ""},
           {{{"type", "btrfs"}, {"device", "/dev/vdb"}}, 0, 0, "", ""},
           {{{"type", "tmpfs"}, {"device", "tmpfs"}, {"o", ""}}, 0, 0, "", ""}}) {
    const auto mount = parse(c.options);
    ASSERT_TRUE(mount) << mount.error().message();
    EXPECT_TRUE(mount->needed());
    EXPECT_EQ(mount->flags, c.flags);
    EXPECT_EQ(mount->propagation, c.propagation);
    EXPECT_EQ(mount->data, c.data);
    EXPECT_EQ(mount->address, c.address);
  }
}

TEST(DriverOptions, RefusedWithTheReason) {
  struct Case {
    Options options;
    std::string message;
  };
  for (const Case& c : std::vector<Case>{
           {{{"typ", "nfs"}}, "invalid option: \"typ\""},
           {{{"type", "nfs"}}, "missing required option: \"device\""},
           {{{"device", "/srv"}}, "missing required option: \"type\""},
           {{{"o", "bind"}}, "missing required option: \"type\""},
           {{{"o", "bind"}, {"type", "none"}}, "missing required option: \"device\""},
           {{{"size", "1g"}}, "no quota support"},
           {{{"type", "none"}, {"device", "srv"}, {"o", "bind"}}, "absolute path, not \"srv\""},
           {{{"type", "none"}, {"device", "/srv"}, {"o", "remount"}}, "\"remount\""}}) {
    const auto mount = parse(c.options);
    ASSERT_FALSE(mount) << c.message;
    EXPECT_EQ(mount.error().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(mount.error().message().find(c.message), std::string::npos)
        << mount.error().message();
  }
}

}  // namespace
}  // namespace muster::agent
