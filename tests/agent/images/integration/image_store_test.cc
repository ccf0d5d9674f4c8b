// The store with real overlays. Fails without root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/images/local_image_store.h"
#include "base/remove_tree.h"
#include "base/unique_fd.h"
#include "tests/agent/images/layout_builder.h"
#include "tests/agent/images/tar_builder.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

class ImageStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0U) << "these tests mount and need root";
    char path[] = "/var/tmp/muster-images-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    dir_ = path;
    options_.data_dir = dir_ / "data";
    options_.platform = {"linux", "amd64", ""};
    open();
  }
  void TearDown() override {
    if (store_ != nullptr) {
      const auto roots = store_->mounted_roots();
      ASSERT_TRUE(roots.has_value());
      for (const std::string& id : *roots) {
        EXPECT_TRUE(store_->unmount_root(id).ok());
      }
    }
    store_.reset();
    // Refuses to delete through a mount that was left.
    const Status removed = remove_tree(dir_.string());
    EXPECT_TRUE(removed.ok()) << removed.message();
  }

  // As after a start of the daemon.
  void open() {
    store_.reset();
    auto store = make_image_store(options_, null_log());
    ASSERT_TRUE(store.has_value()) << store.error().message();
    store_ = *std::move(store);
  }

  std::string load_error(const fs::path& from) {
    const auto loaded = store_->load(from.string());
    return loaded ? "" : loaded.error().message();
  }
  std::string load(const std::string& name, const std::vector<std::string>& layers) {
    const fs::path from = dir_ / ("layout-" + std::to_string(++layouts_));
    const std::string digest = LayoutBuilder(from).image(name, layers);
    EXPECT_EQ(load_error(from), "");
    return digest;
  }
  fs::path mount(const std::string& image, const std::string& container) {
    const auto handle = store_->find(image);
    EXPECT_TRUE(handle.has_value()) << handle.error().message();
    const auto root = handle ? store_->mount_root(*handle, container) : fail(handle.error());
    EXPECT_TRUE(root.has_value()) << root.error().message();
    return root ? *root : "";
  }
  static size_t count(const fs::path& dir) {
    size_t n = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(dir)) ++n;
    return n;
  }
  size_t blobs() const { return count(options_.data_dir / "images/blobs/sha256"); }
  size_t layers() const { return count(options_.data_dir / "images/layers"); }
  size_t temporaries() const { return count(options_.data_dir / "images/tmp"); }

  fs::path dir_;
  ImageStoreOptions options_;
  std::unique_ptr<ImageStore> store_;
  int layouts_ = 0;
};

std::string one_file(const std::string& name, const std::string& text) {
  return Tar().file(name, text).bytes();
}

TEST_F(ImageStoreTest, LayersLieOverEachOtherAndDeletionsHide) {
  Tar low;
  low.directory("etc").file("etc/gone", "1").file("etc/kept", "2").directory("opaque");
  low.file("opaque/old", "3").directory("replaced").file("replaced/old", "4").file("both", "low");
  Tar high;
  high.file("etc/.wh.gone").directory("opaque").file("opaque/.wh..wh..opq").file("opaque/new", "5");
  high.file(".wh.replaced").directory("replaced").file("replaced/new", "6").file("both", "high");
  load("web:1", {low.bytes(), high.bytes()});
  const fs::path root = mount("web:1", "c1");
  EXPECT_FALSE(fs::exists(root / "etc/gone"));
  EXPECT_EQ(*read_file(root / "etc/kept"), "2");
  EXPECT_FALSE(fs::exists(root / "opaque/old"));
  EXPECT_EQ(*read_file(root / "opaque/new"), "5");
  EXPECT_FALSE(fs::exists(root / "replaced/old"));
  EXPECT_EQ(*read_file(root / "replaced/new"), "6");
  EXPECT_EQ(*read_file(root / "both"), "high");
}

TEST_F(ImageStoreTest, OwnersDevicesAndCapabilitiesAreKept) {
  // cap_net_bind_service=ep, version 2.
  const std::string capability(
      "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00",
      20);
  Tar tar;
  tar.owner(1000, 2000)
      .directory("home", 02750)
      .file("home/ping", "x", 04755,
            {{"security.capability", capability},
             {"trusted.overlay.redirect", "/etc"},
             {"trusted.overlay.opaque", "y"}});
  tar.device("null", S_IFCHR, 1, 3).device("pipe", S_IFIFO, 0, 0);
  load("web:1", {tar.bytes()});
  const fs::path root = mount("web:1", "c1");
  struct stat st {};
  ASSERT_EQ(lstat((root / "home/ping").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 1000U);
  EXPECT_EQ(st.st_gid, 2000U);
  EXPECT_EQ(st.st_mode, S_IFREG | 04755U);
  char value[64];
  EXPECT_EQ(getxattr((root / "home/ping").c_str(), "security.capability", value, sizeof value), 20);
  ASSERT_EQ(lstat((root / "null").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
  ASSERT_EQ(lstat((root / "pipe").c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  // overlayfs's own attributes would lead out of the layer.
  for (const auto& layer : fs::directory_iterator(options_.data_dir / "images/layers")) {
    EXPECT_LT(getxattr((layer.path() / "fs/home/ping").c_str(), "trusted.overlay.redirect", value,
                       sizeof value),
              0);
  }
}

TEST_F(ImageStoreTest, ARootOutlivesTheProcessAndIsTheSameAgain) {
  load("web:1", {one_file("a", "a")});
  const fs::path root = mount("web:1", "c1");
  ASSERT_TRUE(write_file_atomic(root / "written", "w", 0644, Durability::kNone).ok());
  open();
  EXPECT_EQ(*store_->mounted_roots(), std::vector<std::string>{"c1"});
  EXPECT_EQ(mount("web:1", "c1"), root);
  EXPECT_EQ(*read_file(root / "written"), "w");
  // As after a reboot: not mounted any more.
  ASSERT_EQ(umount2(root.c_str(), 0), 0);
  EXPECT_EQ(mount("web:1", "c1"), root);
  EXPECT_EQ(*read_file(root / "written"), "w");
  EXPECT_TRUE(store_->unmount_root("c1").ok());
  EXPECT_TRUE(store_->unmount_root("c1").ok());
  EXPECT_FALSE(fs::exists(root.parent_path()));
}

// A set-user-id program of an image would make every user of the host root.
TEST_F(ImageStoreTest, UsersOfTheHostCannotReachImagesAndContainers) {
  load("web:1", {Tar().file("su", "x", 04755).bytes()});
  const fs::path root = mount("web:1", "c1");
  ASSERT_EQ(chmod(dir_.c_str(), 0755), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool reached =
        setgid(65534) != 0 || setuid(65534) != 0 || access((root / "su").c_str(), F_OK) == 0;
    _exit(reached ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(ImageStoreTest, LayersOfARunningContainerOutliveTheirImage) {
  load("web:1", {one_file("a", "a"), one_file("b", "b")});
  const fs::path root = mount("web:1", "c1");
  const auto refused = store_->remove("web:1", false);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message(),
            "conflict: unable to remove image \"web:1\" (must force) - container c1 is using it");
  EXPECT_EQ(store_->prune(true)->deleted_size(), 0);
  ASSERT_TRUE(store_->remove("web:1", true).has_value());
  EXPECT_EQ(*read_file(root / "a"), "a");
  // Worse: the catalog is lost.
  ASSERT_TRUE(fs::remove(options_.data_dir / "images/catalog.json"));
  open();
  EXPECT_TRUE(store_->list()->empty());
  EXPECT_EQ(layers(), 2U);
  EXPECT_EQ(*read_file(root / "a"), "a");
  EXPECT_TRUE(fs::exists(root / "b"));
  // With the container they go.
  ASSERT_TRUE(store_->unmount_root("c1").ok());
  ASSERT_TRUE(store_->prune(true).has_value());
  EXPECT_EQ(layers(), 0U);
  EXPECT_EQ(blobs(), 0U);
}

TEST_F(ImageStoreTest, WhatAnArchiveCouldNotBecomeLeavesNothing) {
  Tar escape;
  escape.symlink("door", dir_.string()).file("door/planted", "x");
  const fs::path bad = dir_ / "bad";
  LayoutBuilder layout(bad);
  layout.image("good:1", {one_file("a", "a")});
  layout.image("bad:1", {one_file("b", "b"), escape.bytes()});
  EXPECT_NE(load_error(bad).find("cannot unpack bad:1: layer sha256:"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir_ / "planted"));
  EXPECT_EQ(store_->list()->size(), 1U) << "the first image of the archive came whole";
  EXPECT_EQ(blobs(), 3U);
  EXPECT_EQ(layers(), 1U);
  EXPECT_EQ(temporaries(), 0U);
}

TEST_F(ImageStoreTest, DamagedBlobsAreNamed) {
  const fs::path from = dir_ / "damaged";
  LayoutBuilder layout(from);
  const std::string layer = one_file("a", "a");
  layout.image("web:1", {layer});
  std::string changed = layer;
  changed[600] = static_cast<char>(changed[600] ^ 1);
  ASSERT_TRUE(
      write_file_atomic(layout.blob(digest_of(layer)), changed, 0644, Durability::kNone).ok());
  EXPECT_EQ(load_error(from), "the download is damaged: blob " + digest_of(layer) + " hashes to " +
                                  digest_of(changed));
  ASSERT_TRUE(fs::remove(layout.blob(digest_of(layer))));
  EXPECT_EQ(load_error(from),
            "cannot load the archive: layer " + digest_of(layer) + " is not in the archive");
  EXPECT_EQ(blobs(), 0U);
}

TEST_F(ImageStoreTest, ArchivesThatAreNoneSayWhatTheyLack) {
  const auto error_of = [&](Tar& tar) {
    const fs::path file = dir_ / "archive.tar";
    EXPECT_TRUE(write_file_atomic(file, tar.bytes(), 0644, Durability::kNone).ok());
    return load_error(file);
  };
  Tar nothing;
  nothing.file("readme", "hello");
  EXPECT_EQ(error_of(nothing),
            "cannot load the archive: the file is neither a docker archive nor an OCI layout");
  Tar outside;
  outside.file("manifest.json", R"([{"Config":"../../../../etc/passwd","Layers":[]}])");
  EXPECT_NE(error_of(outside).find("names a file \"../../../../etc/passwd\" that it does not hold"),
            std::string::npos);
  Tar link;
  link.file("manifest.json", R"([{"Config":"config.json","Layers":[]}])");
  link.symlink("config.json", "/etc/passwd");
  EXPECT_NE(error_of(link).find("that it does not hold"), std::string::npos);
  Tar foreign;
  const fs::path layout = dir_ / "foreign";
  LayoutBuilder(layout).image("web:1", {}, "amd64");
  std::error_code error;
  fs::remove(layout / "index.json", error);
  EXPECT_NE(load_error(layout).find("neither a docker archive"), std::string::npos);
  EXPECT_EQ(temporaries(), 0U);
}

TEST_F(ImageStoreTest, ADockerArchiveIsLoadedWithItsNames) {
  const std::string layer = one_file("a", "docker");
  const std::string config = R"({"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[")" +
                             digest_of(layer) + R"(",")" + digest_of(layer) + R"("]}})";
  Tar tar;
  tar.file("cfg.json", config).directory("l1").file("l1/layer.tar", layer);
  tar.directory("l2").symlink("l2/layer.tar", "../l1/layer.tar");
  tar.file("manifest.json", R"([{"Config":"cfg.json","RepoTags":["web:1","h.x/web:2"],)"
                            R"("Layers":["l1/layer.tar","l2/layer.tar"]}])");
  const fs::path file = dir_ / "docker.tar";
  ASSERT_TRUE(write_file_atomic(file, tar.bytes(), 0644, Durability::kNone).ok());
  EXPECT_EQ(load_error(file), "");
  const fs::path root = mount("h.x/web:2", "c1");
  EXPECT_EQ(*read_file(root / "a"), "docker");
  EXPECT_EQ(layers(), 1U) << "the same layer twice is unpacked once";
}

TEST_F(ImageStoreTest, WhatAKilledProcessLeftIsRemovedAtTheNextStart) {
  load("web:1", {one_file("a", "a")});
  mount("web:1", "c1");
  const fs::path images = options_.data_dir / "images";
  store_.reset();
  ASSERT_TRUE(make_directory(images / "tmp/123-4/layer-1/fs", 0700).ok());
  ASSERT_TRUE(make_directory(images / "roots/c2/upper", 0700).ok());
  ASSERT_TRUE(make_directory(images / "roots/c2/merged", 0700).ok());
  ASSERT_EQ(::mount("none", (images / "roots/c2/merged").c_str(), "tmpfs", 0, nullptr), 0);
  for (const char* name : {"catalog.json.tmp77", "blobs/sha256/abc.tmp77", "blobs/sha256/abc"}) {
    ASSERT_TRUE(write_file_atomic(images / name, "x", 0600, Durability::kNone).ok());
  }
  ASSERT_TRUE(make_directory(images / "layers/0123/fs", 0700).ok());
  open();
  EXPECT_EQ(temporaries(), 0U);
  EXPECT_FALSE(fs::exists(images / "roots/c2"));
  EXPECT_FALSE(fs::exists(images / "catalog.json.tmp77"));
  EXPECT_EQ(blobs(), 3U);
  EXPECT_EQ(layers(), 1U);
  EXPECT_EQ(*store_->mounted_roots(), std::vector<std::string>{"c1"});
}

TEST_F(ImageStoreTest, AContainerCannotMakeATreeTooDeepToDelete) {
  load("web:1", {one_file("a", "a")});
  const fs::path root = mount("web:1", "c1");
  UniqueFd at(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 1200; ++i) {
    ASSERT_EQ(mkdirat(at.get(), "d", 0700), 0);
    at.reset(openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
  at.reset();
  const Status removed = store_->unmount_root("c1");
  EXPECT_TRUE(removed.ok()) << removed.message();
  EXPECT_FALSE(fs::exists(root.parent_path()));
}

TEST_F(ImageStoreTest, UnnamedImagesArePrunedAndNamedOnesOnlyWithAll) {
  load("web:1", {one_file("a", "a")});
  load("web:1", {one_file("b", "b")});
  EXPECT_EQ(store_->list()->size(), 2U);
  const auto pruned = store_->prune(false);
  EXPECT_EQ(pruned->deleted_size(), 1);
  EXPECT_GT(pruned->freed_bytes(), 0U);
  EXPECT_EQ(layers(), 1U);
  EXPECT_EQ(store_->prune(true)->deleted_size(), 1);
  EXPECT_EQ(layers(), 0U);
  EXPECT_EQ(store_->find("web:1").error().message(), "No such image: web:1");
}

}  // namespace
}  // namespace muster::agent
