// The store on a real disk with real mounts, owners and devices. Fails without root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/volumes/local_volume_store.h"
#include "agent/volumes/volume_mounts.h"
#include "base/file.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Options = std::vector<std::pair<std::string, std::string>>;

struct stat stat_of(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info;
}

class VolumeStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "these tests mount and change owners: they need root";
    // Not /tmp, which may be a tmpfs: the attributes and links below want a disk.
    char path[] = "/var/tmp/muster-volumes-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    dir_ = fs::canonical(path);
    fs::create_directories(rootfs());
    reopen();
  }
  void TearDown() override {
    if (dir_.empty()) return;
    store_.reset();
    EXPECT_TRUE(unmount_below(dir_).ok());
    fs::remove_all(dir_);
  }

  // What a restart of the daemon does.
  void reopen() {
    auto store = make_volume_store({dir_ / "data"}, null_log());
    ASSERT_TRUE(store) << store.error().message();
    store_ = *std::move(store);
  }

  fs::path rootfs() const { return dir_ / "rootfs"; }
  fs::path volume(const std::string& name) const { return dir_ / "data/volumes" / name; }
  fs::path data(const std::string& name) const { return volume(name) / "_data"; }

  static void write(const fs::path& path, const std::string& text, unsigned mode = 0644) {
    fs::create_directories(path.parent_path());
    ASSERT_TRUE(write_file_atomic(path, text, mode, Durability::kNone).ok()) << path;
  }
  static std::string text_of(const fs::path& path) {
    const auto text = read_file(path);
    return text ? *text : "(" + text.error().message() + ")";
  }

  static v1::Mount mount(const std::string& source, const std::string& target = "/data",
                         const Options& options = {}) {
    v1::Mount out;
    out.set_source(source);
    out.set_target(target);
    for (const auto& [key, value] : options) {
      v1::KeyValue& option = *out.mutable_volume()->add_driver_options();
      option.set_key(key);
      option.set_value(value);
    }
    return out;
  }
  static v1::Mount part(const std::string& source, const std::string& subpath) {
    v1::Mount out = mount(source);
    out.mutable_volume()->set_subpath(subpath);
    return out;
  }
  std::string acquire(const v1::Mount& wanted, const std::string& container = "c1") {
    auto path = store_->acquire(wanted, rootfs(), container);
    EXPECT_TRUE(path) << path.error().message();
    return path ? *path : "";
  }
  Status refusal(const v1::Mount& wanted) {
    const auto path = store_->acquire(wanted, rootfs(), "c1");
    return path ? Status() : path.error();
  }
  std::vector<std::string> names() {
    std::vector<std::string> out;
    const auto volumes = store_->list();
    for (const auto& volume : *volumes) out.push_back(volume.name());
    return out;
  }
  size_t mounts() const { return mounts_below(dir_)->size(); }

  const Options tmpfs_ = {{"type", "tmpfs"}, {"device", "tmpfs"}, {"o", "size=1m"}};
  fs::path dir_;
  std::unique_ptr<VolumeStore> store_;
};

// ---------------------------------------------------------------- objects

TEST_F(VolumeStoreTest, WhatWasCreatedIsThereAfterARestart) {
  v1::CreateVolumeRequest request;
  request.set_name("shop_db");
  for (const char* key : {"b", "a"}) {
    request.add_labels()->set_key(key);
    request.mutable_labels()->rbegin()->set_value("1");
  }
  const auto made = store_->create(request);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->mountpoint(), data("shop_db").string());
  EXPECT_EQ(made->driver(), "local");
  EXPECT_GT(made->created_at_ns(), 0);
  EXPECT_FALSE(made->anonymous());
  ASSERT_EQ(made->labels_size(), 2);
  EXPECT_EQ(made->labels(0).key(), "a");
  ASSERT_TRUE(store_->create(request));  // a second time: the same one

  reopen();
  const auto again = store_->inspect("shop_db");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->SerializeAsString(), made->SerializeAsString());
  EXPECT_THAT(names(), ElementsAre("shop_db"));
}

TEST_F(VolumeStoreTest, WithoutANameItGetsARandomOne) {
  const auto a = store_->create({});
  const auto b = store_->create({});
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->name().find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(a->name().size(), 64u);
  EXPECT_NE(a->name(), b->name());
  EXPECT_TRUE(a->anonymous());
  ASSERT_EQ(a->labels_size(), 1);
  EXPECT_EQ(a->labels(0).key(), "com.docker.volume.anonymous");
}

TEST_F(VolumeStoreTest, BadRequestsSayWhy) {
  v1::CreateVolumeRequest request;
  request.set_name("../x");
  EXPECT_THAT(store_->create(request).error().message(), HasSubstr("use absolute path"));
  request.set_name("db");
  request.set_driver("rexray");
  EXPECT_EQ(store_->create(request).error().message(),
            "error looking up volume plugin rexray: plugin \"rexray\" not found");
  request.set_driver("local");
  request.add_driver_options()->set_key("typ");
  EXPECT_THAT(store_->create(request).error().message(), HasSubstr("invalid option: \"typ\""));
  EXPECT_THAT(names(), ElementsAre());

  request.clear_driver_options();
  ASSERT_TRUE(store_->create(request));
  *request.mutable_driver_options() = mount("db", "/", tmpfs_).volume().driver_options();
  EXPECT_EQ(store_->create(request).error().code(), StatusCode::kAlreadyExists);
  for (const auto& id : std::vector<std::string>{"", "a/b", "..", std::string("a\0b", 3)}) {
    EXPECT_FALSE(store_->acquire(mount("db"), rootfs(), id)) << id;
  }
}

TEST_F(VolumeStoreTest, RemoveOnlyWhatNobodyUses) {
  acquire(mount("db"), "c1");
  acquire(mount("db"), "c2");
  const Status status = store_->remove("db", true);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "remove db: volume is in use - [c1, c2]");
  EXPECT_EQ(store_->inspect("db")->users(), 2u);

  reopen();  // uses are on the disk
  EXPECT_EQ(store_->remove("db", false).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(store_->release("c1").ok());
  ASSERT_TRUE(store_->release("c1").ok());
  ASSERT_TRUE(store_->release("c2").ok());
  ASSERT_TRUE(store_->remove("db", false).ok());
  EXPECT_FALSE(fs::exists(volume("db")));
  EXPECT_EQ(store_->remove("db", false), not_found("no such volume: db"));
  EXPECT_TRUE(store_->remove("db", true).ok());
}

TEST_F(VolumeStoreTest, PruneTakesUnusedAnonymousOnesAndAllWhenAsked) {
  const std::string unnamed = store_->create({})->name();
  acquire(mount("used"));
  acquire(mount("unused"), "c2");
  ASSERT_TRUE(store_->release("c2").ok());
  write(data("unused") / "f", std::string(1000, 'x'));
  fs::create_hard_link(data("unused") / "f", data("unused") / "g");
  EXPECT_THAT(store_->prune(false)->deleted(), ElementsAre(unnamed));
  const auto pruned = store_->prune(true);
  EXPECT_THAT(pruned->deleted(), ElementsAre("unused"));
  EXPECT_EQ(pruned->freed_bytes(), 1000u);
  EXPECT_THAT(names(), ElementsAre("used"));
}

// ---------------------------------------------------------------- filling

TEST_F(VolumeStoreTest, ANewVolumeGetsWhatTheImageHas) {
  const fs::path from = rootfs() / "data";
  write(from / "deep/er/file", "text", 0640);
  write(from / "suid", "x");
  ASSERT_EQ(::chown((from / "suid").c_str(), 33, 34), 0);
  ASSERT_EQ(::chmod((from / "suid").c_str(), 04755), 0);
  ASSERT_EQ(::setxattr((from / "suid").c_str(), "user.note", "hi", 2, 0), 0);
  fs::create_hard_link(from / "suid", from / "deep/same");
  fs::create_symlink("/etc/passwd", from / "link");
  ASSERT_EQ(::lchown((from / "link").c_str(), 5, 6), 0);
  ASSERT_EQ(::mkfifo((from / "pipe").c_str(), 0600), 0);
  ASSERT_EQ(::mknod((from / "null").c_str(), S_IFCHR | 0600, 0x103), 0);
  ASSERT_EQ(::chmod((from / "null").c_str(), 0666), 0);
  ASSERT_EQ(::chown((from / "deep").c_str(), 7, 8), 0);
  ASSERT_EQ(::chown(from.c_str(), 33, 33), 0);
  ASSERT_EQ(::chmod(from.c_str(), 01770), 0);
  const timespec old[2] = {{1'000'000'000, 5}, {1'000'000'000, 5}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (from / "deep").c_str(), old, 0), 0);

  const fs::path to = acquire(mount("db"));
  EXPECT_EQ(to, data("db"));
  EXPECT_EQ(text_of(to / "deep/er/file"), "text");
  EXPECT_EQ(stat_of(to / "deep/er/file").st_mode & 07777, 0640u);
  const struct stat suid = stat_of(to / "suid");
  EXPECT_EQ(suid.st_mode & 07777, 04755u);
  EXPECT_EQ(suid.st_uid, 33u);
  EXPECT_EQ(suid.st_gid, 34u);
  EXPECT_EQ(suid.st_ino, stat_of(to / "deep/same").st_ino);
  EXPECT_NE(suid.st_ino, stat_of(from / "suid").st_ino);
  char note[8] = {};
  EXPECT_EQ(::getxattr((to / "suid").c_str(), "user.note", note, sizeof note), 2);
  EXPECT_EQ(fs::read_symlink(to / "link"), "/etc/passwd");
  EXPECT_EQ(stat_of(to / "link").st_uid, 5u);
  EXPECT_TRUE(S_ISFIFO(stat_of(to / "pipe").st_mode));
  EXPECT_EQ(stat_of(to / "null").st_rdev, stat_of(from / "null").st_rdev);
  EXPECT_EQ(stat_of(to / "null").st_mode & 07777, 0666u);
  EXPECT_EQ(stat_of(to / "deep").st_gid, 8u);
  EXPECT_EQ(stat_of(to / "deep").st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(stat_of(to).st_mode & 07777, 01770u);
  EXPECT_EQ(stat_of(to).st_uid, 33u);
  EXPECT_FALSE(fs::exists(volume("db") / "filling"));
}

TEST_F(VolumeStoreTest, AnEmptyFolderOfTheImageStillGivesOwnerAndMode) {
  fs::create_directories(rootfs() / "data");
  ASSERT_EQ(::chown((rootfs() / "data").c_str(), 101, 102), 0);
  const fs::path to = acquire(mount("db"));
  EXPECT_EQ(stat_of(to).st_uid, 101u);
}

TEST_F(VolumeStoreTest, WhatHasContentsOrIsNotToBeFilledStaysAsItIs) {
  write(rootfs() / "data/image", "i");
  v1::Mount no_copy = mount("plain");
  no_copy.mutable_volume()->set_no_copy(true);
  EXPECT_TRUE(fs::is_empty(acquire(no_copy)));

  ASSERT_TRUE(store_->create([] {
    v1::CreateVolumeRequest request;
    request.set_name("full");
    return request;
  }()));
  write(data("full") / "mine", "m");
  EXPECT_FALSE(fs::exists(fs::path(acquire(mount("full"))) / "image"));
  EXPECT_TRUE(fs::is_empty(acquire(mount("elsewhere", "/not/in/image"))));
}

TEST_F(VolumeStoreTest, LinksInTheImageLeadNowhereOutsideOfIt) {
  const fs::path outside = dir_ / "outside";
  write(outside / "host", "h");
  write(rootfs() / outside.relative_path() / "inside", "i");
  fs::create_symlink(outside, rootfs() / "absolute");
  fs::create_symlink("../../../../../../../../" + outside.string(), rootfs() / "upwards");
  EXPECT_EQ(text_of(fs::path(acquire(mount("v1", "/absolute"))) / "inside"), "i");
  EXPECT_EQ(text_of(fs::path(acquire(mount("v2", "/upwards"))) / "inside"), "i");
  EXPECT_FALSE(fs::exists(data("v1") / "host"));
}

TEST_F(VolumeStoreTest, ACopyThatWasCutOffGoesOnAndOverwritesNothing) {
  write(rootfs() / "data/a", "image");
  write(rootfs() / "data/b", "image");
  write(rootfs() / "data/sub/c", "image");
  acquire(mount("db"));
  write(data("db") / "a", "container");
  fs::remove(data("db") / "b");
  fs::remove_all(data("db") / "sub");
  write(data("db") / ".muster-volume-copy~", "ima");
  write(volume("db") / "filling", "");
  reopen();
  acquire(mount("db"), "c2");
  EXPECT_EQ(text_of(data("db") / "a"), "container");
  EXPECT_EQ(text_of(data("db") / "b"), "image");
  EXPECT_EQ(text_of(data("db") / "sub/c"), "image");
  EXPECT_FALSE(fs::exists(data("db") / ".muster-volume-copy~"));
  EXPECT_FALSE(fs::exists(volume("db") / "filling"));
}

TEST_F(VolumeStoreTest, ManyContainersAtOnceGetOneFilledVolume) {
  for (int n = 0; n < 200; ++n) write(rootfs() / "data" / std::to_string(n), "x");
  std::vector<std::thread> threads;
  std::vector<size_t> seen(8);
  for (size_t n = 0; n < seen.size(); ++n) {
    threads.emplace_back([&, n] {
      const auto path = store_->acquire(mount("db"), rootfs(), "c" + std::to_string(n));
      if (!path) return;
      for (const auto& entry : fs::directory_iterator(*path)) seen[n] += entry.exists() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seen, ::testing::Each(200u));
  EXPECT_EQ(store_->inspect("db")->users(), 8u);
}

// ---------------------------------------------------------------- anonymous

TEST_F(VolumeStoreTest, AnonymousOnesGoWithTheirContainer) {
  write(rootfs() / "data/f", "x");
  const std::string a = acquire(mount("", "/data"));
  const std::string b = acquire(mount("", "/other"));
  EXPECT_NE(a, b);
  EXPECT_EQ(acquire(mount("", "/data")), a);
  EXPECT_NE(acquire(mount("", "/data"), "c2"), a);
  EXPECT_EQ(names().size(), 3u);
  EXPECT_TRUE(store_->list()->at(0).anonymous());
  reopen();
  EXPECT_EQ(acquire(mount("", "/data")), a);
  ASSERT_TRUE(store_->release("c1").ok());
  EXPECT_EQ(names().size(), 1u);
  EXPECT_FALSE(fs::exists(a));
  ASSERT_TRUE(store_->release("c2").ok());
  EXPECT_TRUE(fs::is_empty(dir_ / "data/volumes"));
}

// ---------------------------------------------------------------- subpaths

TEST_F(VolumeStoreTest, APartOfAVolume) {
  acquire(mount("db"));
  write(data("db") / "a/b/file", "x");
  fs::create_symlink("a/b", data("db") / "within");
  EXPECT_EQ(text_of(fs::path(acquire(part("db", "a/b"))) / "file"), "x");
  EXPECT_EQ(text_of(fs::path(acquire(part("db", "within"))) / "file"), "x");
  EXPECT_EQ(text_of(acquire(part("db", "a/b/file"))), "x");
  EXPECT_EQ(acquire(part("db", "a/b")), acquire(part("db", "a/b")));
  EXPECT_EQ(mounts(), 3u);
  reopen();  // with containers running nothing is touched
  EXPECT_EQ(mounts(), 3u);
  ASSERT_TRUE(store_->release("c1").ok());
  EXPECT_EQ(mounts(), 0u);
  EXPECT_TRUE(fs::is_empty(volume("db") / "subpaths"));
  EXPECT_EQ(text_of(data("db") / "a/b/file"), "x");
}

TEST_F(VolumeStoreTest, APartIsNeverOutside) {
  acquire(mount("db"));
  write(dir_ / "outside/secret", "s");
  fs::create_symlink(dir_ / "outside", data("db") / "absolute");
  fs::create_symlink("../../../../outside", data("db") / "upwards");
  fs::create_symlink("/proc/self/root", data("db") / "magic");
  EXPECT_THAT(refusal(part("db", "../db2")).message(), HasSubstr("leads out of the volume"));
  EXPECT_THAT(refusal(part("db", "/etc")).message(), HasSubstr("must be a relative path"));
  for (const std::string name : {"absolute", "upwards", "magic", "missing", "absolute/secret"}) {
    const Status status = refusal(part("db", name));
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << name;
    EXPECT_THAT(status.message(), HasSubstr("cannot access subpath \"" + name + "\" of volume db"));
  }
}

TEST_F(VolumeStoreTest, APartIsFixedWhenItIsAcquired) {
  acquire(mount("db"));
  write(data("db") / "part/file", "x");
  const fs::path path = acquire(part("db", "part"), "c2");
  fs::rename(data("db") / "part", data("db") / "moved");
  fs::create_symlink("/etc", data("db") / "part");
  EXPECT_EQ(text_of(path / "file"), "x");
}

// ---------------------------------------------------------------- driver options

TEST_F(VolumeStoreTest, MountedWithTheFirstUseAndUnmountedWithTheLast) {
  const v1::Mount wanted = mount("scratch", "/data", tmpfs_);
  write(rootfs() / "data/f", "from the image");
  EXPECT_EQ(text_of(fs::path(acquire(wanted, "c1")) / "f"), "from the image");
  acquire(mount("scratch"), "c2");
  EXPECT_EQ(mounts(), 1u);
  write(data("scratch") / "g", "kept");
  reopen();
  EXPECT_EQ(mounts(), 1u);
  acquire(wanted, "c3");
  EXPECT_EQ(mounts(), 1u);
  EXPECT_EQ(text_of(data("scratch") / "g"), "kept");
  for (const char* id : {"c1", "c2", "c3"}) {
    EXPECT_EQ(mounts(), 1u);
    ASSERT_TRUE(store_->release(id).ok());
  }
  EXPECT_EQ(mounts(), 0u);
  EXPECT_TRUE(fs::is_empty(data("scratch")));
}

TEST_F(VolumeStoreTest, AMountThatNobodyUsesIsUndoneAtTheStart) {
  acquire(mount("scratch", "/data", tmpfs_));
  fs::remove(volume("scratch") / "uses/c1");  // as if killed in the middle of a release
  reopen();
  EXPECT_EQ(mounts(), 0u);
}

TEST_F(VolumeStoreTest, RemovingABindLeavesTheHostsFolderAlone) {
  write(dir_ / "host/file", "precious");
  const Options bind = {{"type", "none"}, {"device", dir_ / "host"}, {"o", "bind"}};
  EXPECT_EQ(text_of(fs::path(acquire(mount("bound", "/data", bind))) / "file"), "precious");
  ASSERT_TRUE(store_->release("c1").ok());
  // Even when an unmount was missed:
  ASSERT_EQ(::mount((dir_ / "host").c_str(), data("bound").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_TRUE(store_->remove("bound", false).ok());
  EXPECT_EQ(text_of(dir_ / "host/file"), "precious");
  EXPECT_EQ(mounts(), 0u);
}

TEST_F(VolumeStoreTest, ARecursiveBindLeavesMountsAtItsOriginAlone) {
  const fs::path host = dir_ / "host";
  fs::create_directories(host);
  ASSERT_EQ(::mount("tmpfs", host.c_str(), "tmpfs", 0, "size=1m"), 0);
  ASSERT_EQ(::mount(nullptr, host.c_str(), nullptr, MS_SHARED | MS_REC, nullptr), 0);
  fs::create_directories(host / "sub");
  ASSERT_EQ(::mount("tmpfs", (host / "sub").c_str(), "tmpfs", 0, "size=1m"), 0);
  const Options bind = {{"type", "none"}, {"device", host}, {"o", "rbind,rshared"}};
  acquire(mount("bound", "/data", bind));
  EXPECT_EQ(mounts_below(data("bound"))->size(), 2u);
  ASSERT_TRUE(store_->release("c1").ok());
  EXPECT_EQ(mounts_below(data("bound"))->size(), 0u);
  EXPECT_EQ(mounts_below(host)->size(), 2u);
}

TEST_F(VolumeStoreTest, AReadOnlyBindIsReadOnly) {
  fs::create_directories(dir_ / "host");
  const Options bind = {{"type", "none"}, {"device", dir_ / "host"}, {"o", "bind,ro"}};
  v1::Mount wanted = mount("bound", "/data", bind);
  const fs::path path = acquire(wanted);
  const UniqueFd fd(::open((path / "f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_FALSE(fd);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(VolumeStoreTest, AMountThatFailsSaysWhatAndKeepsTheUseForRelease) {
  const Options bind = {
      {"type", "none"}, {"device", dir_ / "missing"}, {"o", "bind,password=hidden"}};
  const Status status = refusal(mount("bound", "/data", bind));
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("failed to mount local volume: mount "));
  EXPECT_THAT(status.message(), HasSubstr("No such file or directory"));
  EXPECT_THAT(status.message(), ::testing::Not(HasSubstr("hidden")));
  ASSERT_TRUE(store_->release("c1").ok());
  EXPECT_TRUE(store_->remove("bound", false).ok());
}

// ---------------------------------------------------------------- trouble

TEST_F(VolumeStoreTest, AVolumeThatCannotBeReadIsKeptAndRefused) {
  struct Case {
    std::string text, message;
  };
  for (const Case& c : std::vector<Case>{{"", "damaged"},
                                         {"muster-volume 2\n...", "newer version of muster"},
                                         {"muster-volume 1\n\xff\xff", "damaged"}}) {
    acquire(mount("db"));
    ASSERT_TRUE(store_->release("c1").ok());
    write(data("db") / "precious", "p");
    write(volume("db") / "volume", c.text);
    reopen();
    EXPECT_THAT(names(), ElementsAre("db"));
    EXPECT_EQ(refusal(mount("db")).code(), StatusCode::kDataLoss);
    EXPECT_THAT(refusal(mount("db")).message(), HasSubstr(c.message));
    EXPECT_THAT(store_->prune(true)->deleted(), ElementsAre());
    EXPECT_EQ(text_of(data("db") / "precious"), "p");
    ASSERT_TRUE(store_->remove("db", false).ok());
  }
}

TEST_F(VolumeStoreTest, AFolderRestoredByHandIsAVolume) {
  write(data("old") / "file", "x");
  reopen();
  EXPECT_EQ(text_of(fs::path(acquire(mount("old"))) / "file"), "x");
}

TEST_F(VolumeStoreTest, WhatCrashesLeaveIsCleared) {
  write(volume(".new-db") / "_data/f", "x");
  write(volume(".removed-db") / "_data/f", "x");
  write(dir_ / "host/file", "precious");
  // Killed between the rename and the deletion, and somebody mounted there: still not ours.
  ASSERT_EQ(::mount((dir_ / "host").c_str(), (volume(".removed-db") / "_data").c_str(), nullptr,
                    MS_BIND, nullptr),
            0);
  reopen();
  EXPECT_TRUE(fs::is_empty(dir_ / "data/volumes"));
  EXPECT_EQ(text_of(dir_ / "host/file"), "precious");
}

}  // namespace
}  // namespace muster::agent
