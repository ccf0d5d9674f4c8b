#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <set>

#include "agent/runtime/capabilities.h"
#include "agent/runtime/conmon_runtime.h"
#include "agent/runtime/oci_bundle.h"
#include "agent/runtime/seccomp_filter.h"
#include "agent/runtime/seccomp_profile.h"
#include "agent/runtime/signals.h"
#include "agent/runtime/user_lookup.h"

namespace muster::agent {
namespace {

namespace json = boost::json;
using Strings = std::vector<std::string>;

HostFacts facts() {
  HostFacts host;
  host.cgroups = CgroupVersion::kV2;
  host.capabilities = (uint64_t{1} << 41) - 1;
  host.hard_limits.fill(RLIM_INFINITY);
  host.init_path = "/usr/bin/tini-static";
  host.architecture = "x86_64";
  return host;
}

ContainerRequest request() {
  ContainerRequest out;
  out.container_id = "c1";
  out.instance_id = "inst";
  out.task_id = TaskId("t1");
  out.name = "web.1.t1";
  out.rootfs = "/rootfs";
  out.hostname = "box";
  out.image.cmd = {"nginx"};
  return out;
}

json::value bundle(const ContainerRequest& req, const HostFacts& host = facts(),
                   const ImageFiles& files = {}) {
  auto config = make_bundle(req, host, files);
  EXPECT_TRUE(config.has_value()) << config.error().message();
  return config ? json::value(*config) : json::value();
}

std::string error_of(const ContainerRequest& req, const HostFacts& host = facts()) {
  auto config = make_bundle(req, host, {});
  return config ? "" : config.error().message();
}

Strings strings(const json::value& list) {
  Strings out;
  for (const json::value& item : list.as_array()) out.emplace_back(item.as_string());
  return out;
}

json::object mount_at(const json::value& config, std::string_view target) {
  for (const json::value& entry : config.at("mounts").as_array()) {
    if (entry.at("destination").as_string() == json::string_view(target.data(), target.size())) {
      return entry.as_object();
    }
  }
  return {};
}

TEST(Args, DockersRules) {
  struct Case {
    Strings entrypoint, cmd, command, args, want;
  };
  const Case cases[] = {
      {{}, {"a"}, {}, {}, {"a"}},
      {{"e"}, {"a"}, {}, {}, {"e", "a"}},
      {{"e"}, {"a"}, {}, {"x", "y"}, {"e", "x", "y"}},
      {{"e"}, {"a"}, {"c"}, {}, {"c"}},
      {{"e"}, {"a"}, {"c"}, {"x"}, {"c", "x"}},
      {{}, {}, {}, {"x"}, {"x"}},
      {{}, {}, {}, {}, {}},
  };
  for (const Case& c : cases) {
    ImageConfig image;
    image.entrypoint = c.entrypoint;
    image.cmd = c.cmd;
    v1::ContainerSpec spec;
    for (const auto& item : c.command) spec.add_command(item);
    for (const auto& item : c.args) spec.add_args(item);
    const auto got = container_args(spec, image);
    EXPECT_EQ(got.value_or(Strings{}), c.want);
  }
}

TEST(Env, LaterWinsKeepsPlaceAndUnsets) {
  EXPECT_EQ(merge_env({{"A=1", "B=2"}, {"A=3", "C=4"}, {"B"}}), (Strings{"A=3", "C=4"}));
  EXPECT_EQ(merge_env({{"AB=1"}, {"A=2"}}), (Strings{"AB=1", "A=2"}));
  EXPECT_EQ(merge_env({{"A="}, {"=x"}}), (Strings{"A="}));
}

TEST(Env, DefaultsAreThere) {
  ContainerRequest req = request();
  req.image.env = {"PATH=/x"};
  req.spec.mutable_container()->set_tty(true);
  req.extra_env = {"DOCKER_RESOURCE_GPU=a"};
  EXPECT_EQ(container_env(req, "/home/u"), (Strings{"PATH=/x", "HOSTNAME=box", "TERM=xterm",
                                                    "DOCKER_RESOURCE_GPU=a", "HOME=/home/u"}));
  req.spec.mutable_container()->add_env("HOME=/mine");
  EXPECT_EQ(container_env(req, "/home/u").back(), "DOCKER_RESOURCE_GPU=a");
}

TEST(User, NamesNumbersAndGroups) {
  const std::string passwd = "root:x:0:0:r:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/false\n";
  const std::string group = "root:x:0:\nwww:x:34:\nlog:x:4:web,other\ndocker:x:99:web\n";
  struct Case {
    std::string user;
    Strings groups;
    uint32_t uid, gid;
    std::vector<uint32_t> more;
    std::string home;
  };
  const Case cases[] = {
      {"", {}, 0, 0, {}, "/root"},
      {"web", {}, 33, 34, {4, 99}, "/var/www"},
      {"33", {}, 33, 34, {4, 99}, "/var/www"},
      {"web:log", {}, 33, 4, {}, "/var/www"},
      {"1000", {}, 1000, 0, {}, "/"},
      {"1000:1001", {}, 1000, 1001, {}, "/"},
      {"web", {"77", "log"}, 33, 34, {4, 77, 99}, "/var/www"},
  };
  for (const Case& c : cases) {
    const auto got = resolve_user(c.user, c.groups, passwd, group);
    ASSERT_TRUE(got.has_value()) << c.user;
    EXPECT_EQ(got->uid, c.uid) << c.user;
    EXPECT_EQ(got->gid, c.gid) << c.user;
    EXPECT_EQ(got->groups, c.more) << c.user;
    EXPECT_EQ(got->home, c.home) << c.user;
  }
  EXPECT_EQ(resolve_user("nobody", {}, passwd, group).error().message(),
            "user \"nobody\" is not in the image's /etc/passwd");
  EXPECT_EQ(resolve_user("web:x", {}, passwd, group).error().message(),
            "group \"x\" is not in the image's /etc/group");
}

TEST(Capabilities, AddDropAll) {
  const uint64_t all = (uint64_t{1} << 41) - 1;
  EXPECT_EQ(effective_capabilities({}, {}, false, all)->size(), 14u);
  EXPECT_EQ(effective_capabilities({}, {"ALL"}, false, all)->size(), 0u);
  EXPECT_EQ(*effective_capabilities({"net_admin"}, {"ALL"}, false, all), Strings{"CAP_NET_ADMIN"});
  EXPECT_EQ(effective_capabilities({"ALL"}, {"CAP_SYS_ADMIN"}, false, all)->size(), 40u);
  EXPECT_EQ(effective_capabilities({}, {}, true, all)->size(), 41u);
  EXPECT_EQ(effective_capabilities({}, {"MKNOD"}, false, all)->size(), 13u);
  EXPECT_EQ(effective_capabilities({"NOPE"}, {}, false, all).error().message(),
            "unknown capability \"NOPE\"");
  const uint64_t without = all & ~(uint64_t{1} << 24);  // CAP_SYS_RESOURCE
  EXPECT_EQ(effective_capabilities({"ALL"}, {}, false, without)->size(), 40u);
  EXPECT_EQ(effective_capabilities({"SYS_RESOURCE"}, {}, false, without).error().code(),
            StatusCode::kFailedPrecondition);
}

TEST(Signals, NamesAndNumbers) {
  EXPECT_EQ(*parse_signal(""), 15);
  EXPECT_EQ(*parse_signal("SIGINT"), 2);
  EXPECT_EQ(*parse_signal("quit"), 3);
  EXPECT_EQ(*parse_signal("9"), 9);
  EXPECT_EQ(*parse_signal("SIGRTMIN+3"), 37);
  EXPECT_EQ(*parse_signal("RTMAX"), 64);
  for (const char* bad : {"0", "65", "NOPE", "9x", "SIGRTMIN-1", "RTMIN+99"}) {
    EXPECT_FALSE(parse_signal(bad).has_value()) << bad;
  }
}

TEST(Bundle, ProcessOfAnOrdinaryContainer) {
  ContainerRequest req = request();
  req.spec.mutable_container()->set_user("33");
  req.image.working_dir = "/srv";
  const json::value config = bundle(req);
  const json::value& process = config.at("process");
  EXPECT_EQ(strings(process.at("args")), Strings{"nginx"});
  EXPECT_EQ(process.at("cwd").as_string(), "/srv");
  EXPECT_EQ(process.at("user").at("uid").to_number<int>(), 33);
  EXPECT_EQ(strings(process.at("capabilities").at("bounding")).size(), 14u);
  EXPECT_FALSE(process.at("capabilities").as_object().contains("effective")) << "not root";
  EXPECT_FALSE(process.as_object().contains("oomScoreAdj"));
  EXPECT_FALSE(process.as_object().contains("rlimits"));
  EXPECT_EQ(config.at("linux").at("cgroupsPath").as_string(), "/muster/inst/c1");
  EXPECT_EQ(config.at("hostname").as_string(), "box");
}

TEST(Bundle, NamespacesFollowTheNetwork) {
  const auto types = [](const json::value& config) {
    std::set<std::string> out;
    for (const json::value& item : config.at("linux").at("namespaces").as_array()) {
      out.emplace(item.at("type").as_string());
    }
    return out;
  };
  ContainerRequest req = request();
  EXPECT_EQ(types(bundle(req)), (std::set<std::string>{"cgroup", "ipc", "mount", "pid", "uts"}))
      << "no path: the host's network";
  req.network_namespace = "/run/netns/x";
  EXPECT_EQ(types(bundle(req)).count("network"), 1u);
  HostFacts v1_host = facts();
  v1_host.cgroups = CgroupVersion::kV1;
  EXPECT_EQ(types(bundle(req, v1_host)).count("cgroup"), 0u);
}

TEST(Bundle, InitGoesInFront) {
  ContainerRequest req = request();
  req.spec.mutable_container()->set_init(true);
  EXPECT_EQ(strings(bundle(req).at("process").at("args")),
            (Strings{"/sbin/docker-init", "--", "nginx"}));
  EXPECT_EQ(mount_at(bundle(req), "/sbin/docker-init").at("source").as_string(),
            "/usr/bin/tini-static");
  HostFacts none = facts();
  none.init_path.clear();
  EXPECT_NE(error_of(req, none).find("install the package tini"), std::string::npos);
}

TEST(Resources, Table) {
  struct Case {
    int64_t cpus, memory, pids, reserve_cpus;
    std::optional<int64_t> swap;
    bool accounting;
    std::string want;
  };
  const Case cases[] = {
      {0, 0, 0, 0, {}, true, R"({})"},
      {500'000'000, 0, 0, 0, {}, true, R"({"cpu":{"period":100000,"quota":50000}})"},
      {1'000'000, 0, 0, 0, {}, true, R"({"cpu":{"period":100000,"quota":1000}})"},
      {0, 0, 0, 2'000'000'000, {}, true, R"({"cpu":{"shares":2048}})"},
      {0, 0, 7, 0, {}, true, R"({"pids":{"limit":7}})"},
      {0, 1000, 0, 0, {}, true, R"({"memory":{"limit":1000,"swap":2000}})"},
      {0, 1000, 0, 0, 0, true, R"({"memory":{"limit":1000,"swap":1000}})"},
      {0, 1000, 0, 0, -1, true, R"({"memory":{"limit":1000,"swap":-1}})"},
      {0, 1000, 0, 0, {}, false, R"({"memory":{"limit":1000}})"},
  };
  for (const Case& c : cases) {
    v1::TaskSpec spec;
    auto& resources = *spec.mutable_resources();
    resources.mutable_limits()->set_nano_cpus(c.cpus);
    resources.mutable_limits()->set_memory_bytes(c.memory);
    resources.mutable_limits()->set_pids(c.pids);
    resources.mutable_reservations()->set_nano_cpus(c.reserve_cpus);
    if (c.swap) resources.set_memory_swap_bytes(*c.swap);
    HostFacts host = facts();
    host.swap_accounting = c.accounting;
    json::object got = resources_object(spec, host, false);
    got.erase("devices");
    EXPECT_EQ(json::value(got), json::parse(c.want)) << json::serialize(got);
  }
}

TEST(Mounts, UsersWinAndParentsComeFirst) {
  ContainerRequest req = request();
  const auto add = [&](v1::Mount::Type type, const char* source, const char* target) {
    PreparedMount& mount = req.mounts.emplace_back();
    mount.source = source;
    mount.spec.set_type(type);
    mount.spec.set_target(target);
    return &mount;
  };
  add(v1::Mount::BIND, "/h/b", "/data/deep/er");
  add(v1::Mount::VOLUME, "/vol", "/data/")->spec.set_read_only(true);
  add(v1::Mount::TMPFS, "", "/dev/shm")->spec.mutable_tmpfs()->set_size_bytes(4096);
  const json::value config = bundle(req);
  const auto& mounts = config.at("mounts").as_array();
  const auto position = [&](const char* target) {
    return std::find_if(mounts.begin(), mounts.end(),
                        [&](const json::value& entry) {
                          return entry.at("destination").as_string() == target;
                        }) -
           mounts.begin();
  };
  EXPECT_LT(position("/data"), position("/data/deep/er"));
  EXPECT_LT(position("/dev"), position("/dev/shm"));
  EXPECT_EQ(strings(mount_at(config, "/data").at("options")),
            (Strings{"rbind", "rprivate", "rro"}));
  EXPECT_EQ(strings(mount_at(config, "/dev/shm").at("options")),
            (Strings{"noexec", "nosuid", "nodev", "mode=1777", "size=4096"}));
  ContainerRequest bad = request();
  bad.mounts.emplace_back().spec.set_target("relative");
  EXPECT_EQ(error_of(bad), "mount target \"relative\" is not an absolute path");
}

TEST(Mounts, ReadOnlyReachesWhatIsBelowWhereItCan) {
  struct Case {
    bool kernel, non_recursive, writable_below, forced;
    std::vector<std::string> want;  // empty: refused
  };
  for (const Case& c : {Case{true, false, false, false, {"rbind", "rprivate", "rro"}},
                        Case{false, false, false, false, {"rbind", "rprivate", "ro"}},
                        Case{true, true, false, false, {"bind", "rprivate", "ro"}},
                        Case{true, false, true, false, {"rbind", "rprivate", "ro"}},
                        Case{true, false, false, true, {"rbind", "rprivate", "rro"}},
                        Case{false, false, false, true, {}}}) {
    ContainerRequest req = request();
    PreparedMount& mount = req.mounts.emplace_back();
    mount.source = "/a";
    mount.spec.set_type(v1::Mount::BIND);
    mount.spec.set_target("/a");
    mount.spec.set_read_only(true);
    mount.spec.mutable_bind()->set_non_recursive(c.non_recursive);
    mount.spec.mutable_bind()->set_read_only_non_recursive(c.writable_below);
    mount.spec.mutable_bind()->set_read_only_force_recursive(c.forced);
    HostFacts host = facts();
    host.recursive_read_only = c.kernel;
    const auto made = make_bundle(req, host, {});
    ASSERT_EQ(made.has_value(), !c.want.empty());
    if (made) {
      EXPECT_EQ(strings(mount_at(*made, "/a").at("options")), c.want);
    } else {
      EXPECT_EQ(made.error().message(),
                "mount at /a: this node's kernel cannot make mounts below it read-only, which "
                "bind-recursive=readonly asks for");
    }
  }
}

TEST(Bundle, LimitsTheHostCannotSet) {
  ContainerRequest req = request();
  v1::Ulimit& ulimit = *req.spec.mutable_container()->add_ulimits();
  ulimit.set_name("nofile");
  ulimit.set_soft(5000);
  ulimit.set_hard(1'000'000);
  req.spec.mutable_container()->set_oom_score_adj(-500);
  HostFacts weak = facts();
  weak.can_raise_limits = false;
  weak.hard_limits[RLIMIT_NOFILE] = 20000;
  const json::value strong_process = bundle(req).at("process");
  EXPECT_EQ(strong_process.at("rlimits").as_array()[0].at("hard").to_number<int>(), 1'000'000);
  EXPECT_EQ(strong_process.at("oomScoreAdj").as_int64(), -500);
  const json::value process = bundle(req, weak).at("process");
  EXPECT_EQ(process.at("rlimits").as_array()[0].at("hard").to_number<int>(), 20000);
  EXPECT_FALSE(process.as_object().contains("oomScoreAdj"));
}

TEST(Bundle, TheDaemonsOwnOomScoreIsNotInherited) {
  HostFacts unit = facts();
  unit.oom_score_adj = -500;
  unit.can_raise_limits = false;
  const json::value process = bundle(request(), unit).at("process");
  EXPECT_EQ(process.at("oomScoreAdj").as_int64(), 0);
}

TEST(Bundle, PrivilegesNeedTheNodesConsent) {
  ContainerRequest req = request();
  req.spec.mutable_container()->set_privileged(true);
  EXPECT_EQ(error_of(req),
            "this node does not allow privileged containers (allow-privileged is off)");
  HostFacts host = facts();
  host.allow_privileged = true;
  const json::value config = bundle(req, host);
  EXPECT_FALSE(config.at("linux").as_object().contains("seccomp"));
  EXPECT_FALSE(config.at("linux").as_object().contains("maskedPaths"));
}

TEST(Bundle, Errors) {
  const auto with = [](auto change) {
    ContainerRequest req = request();
    change(*req.spec.mutable_container());
    return error_of(req);
  };
  EXPECT_EQ(with([](auto& c) { c.set_user("ghost"); }),
            "user \"ghost\" is not in the image's /etc/passwd");
  EXPECT_EQ(with([](auto& c) { c.set_dir("srv"); }), "working directory \"srv\" is not absolute");
  EXPECT_EQ(with([](auto& c) { c.add_ulimits()->set_name("files"); }), "unknown ulimit \"files\"");
  EXPECT_EQ(with([](auto& c) { c.add_security_options("x"); }), "unknown security option \"x\"");
  ContainerRequest none = request();
  none.image.cmd.clear();
  EXPECT_EQ(error_of(none), "no command specified, and the image has none");
}

TEST(Seccomp, CapabilitiesExtendTheList) {
  const auto allows = [](const json::object& profile, const char* name) {
    for (const json::value& rule : profile.at("syscalls").as_array()) {
      if (rule.at("action").as_string() != "SCMP_ACT_ALLOW" || rule.as_object().contains("args")) {
        continue;
      }
      for (const json::value& item : rule.at("names").as_array()) {
        if (item.as_string() == name) return true;
      }
    }
    return false;
  };
  const json::object plain = default_seccomp_profile("x86_64", {"CAP_CHOWN"});
  const json::object admin = default_seccomp_profile("x86_64", {"CAP_SYS_ADMIN"});
  EXPECT_TRUE(allows(plain, "openat"));
  EXPECT_TRUE(allows(plain, "arch_prctl"));
  for (const char* call : {"mount", "clone", "setns", "reboot", "init_module", "socket", "keyctl",
                           "io_uring_setup", "userfaultfd"}) {
    EXPECT_FALSE(allows(plain, call)) << call;
  }
  EXPECT_TRUE(allows(admin, "mount"));
  EXPECT_TRUE(allows(admin, "clone"));
  EXPECT_FALSE(allows(admin, "reboot"));
  EXPECT_FALSE(allows(default_seccomp_profile("aarch64", {}), "arch_prctl"));
}

TEST(Seccomp, ProfilesCompile) {
  const auto plain = compile_seccomp(default_seccomp_profile("x86_64", {}));
  ASSERT_TRUE(plain.has_value()) << plain.error().message();
  EXPECT_EQ(plain->size() % 4, 0u);
  SeccompCache cache;
  EXPECT_EQ(*cache.get(default_seccomp_profile("x86_64", {})), *plain);
  EXPECT_EQ(*cache.get(default_seccomp_profile("x86_64", {})), *plain);
  EXPECT_NE(*cache.get(default_seccomp_profile("x86_64", {"CAP_SYS_ADMIN"})), *plain);
}

TEST(RuntimeErrors, SpeakTheUsersLanguage) {
  struct Case {
    const char* output;
    StatusCode code;
    const char* want;
  };
  const Case cases[] = {
      {"executable file `x` not found in $PATH: No such file or directory\n", StatusCode::kNotFound,
       "command not found: \"x\""},
      {"time=\"t\" level=error msg=\"runc create failed: exec: \\\"x\\\": executable file not "
       "found in $PATH\"\n",
       StatusCode::kNotFound, "command not found: \"x\""},
      {"open executable: Permission denied", StatusCode::kPermissionDenied,
       "permission denied: \"x\" is not executable"},
      {"mount `a` to `b`: No such file or directory\n", StatusCode::kInternal,
       "cannot create the container: mount `a` to `b`: No such file or directory"},
      {"", StatusCode::kInternal,
       "cannot create the container: the container runtime gave no reason"},
  };
  for (const Case& c : cases) {
    const Status got = explain_runtime_error(c.output, "x");
    EXPECT_EQ(got.code(), c.code) << c.output;
    EXPECT_EQ(got.message(), c.want);
  }
}

}  // namespace
}  // namespace muster::agent
