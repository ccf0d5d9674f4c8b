// Any bytes as a layer, unpacked into a directory: whatever they say, nothing outside of it is
// touched. The unpacker runs in a root of its own, so that absolute names lead there, too, where
// everything can be looked at. Needs root.

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "agent/images/unpacker.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace {

constexpr char kCanary[] = "untouched";

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "unpacker fuzzer: %s\n", what);
  std::abort();
}

// A directory that plays the host: a file that must stay as it is, and the layer's directory.
class Host {
 public:
  Host() {
    const bool memory = access("/dev/shm", W_OK) == 0;
    std::string path = std::string(memory ? "/dev/shm" : "/tmp") + "/muster-fuzz-XXXXXX";
    require(mkdtemp(path.data()) != nullptr, "no directory to work in");
    top_ = path;
    require(
        muster::write_file_atomic(top_ + "/canary", kCanary, 0640, muster::Durability::kNone).ok(),
        "no canary");
    require(stat((top_ + "/canary").c_str(), &canary_) == 0, "no canary");
  }
  ~Host() { (void)muster::remove_tree(top_); }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  void unpack(std::string_view archive, const muster::agent::UnpackOptions& options) {
    require(mkdir((top_ + "/layer").c_str(), 0755) == 0, "the last layer is still there");
    // The root belongs to the thread.
    std::thread([&] {
      require(unshare(CLONE_FS) == 0 && chroot(top_.c_str()) == 0 && chdir("/") == 0,
              "chroot failed; is this root?");
      (void)muster::agent::unpack_layer_bytes(archive, "/layer", options);
    }).join();
    check();
    const muster::Status removed = muster::remove_tree(top_ + "/layer");
    require(removed.ok(), removed.message().c_str());
  }

 private:
  void check() const {
    struct stat now {};
    require(stat((top_ + "/canary").c_str(), &now) == 0, "a file outside was deleted");
    require(now.st_ino == canary_.st_ino && now.st_nlink == 1 && now.st_mode == canary_.st_mode &&
                now.st_uid == canary_.st_uid && now.st_mtim.tv_nsec == canary_.st_mtim.tv_nsec &&
                now.st_ctim.tv_nsec == canary_.st_ctim.tv_nsec,
            "a file outside was changed");
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(top_)) {
      names.insert(entry.path().filename().string());
    }
    require(names == std::set<std::string>{"canary", "layer"}, "something was made outside");
    require(stat((top_ + "/layer").c_str(), &now) == 0 && S_ISDIR(now.st_mode),
            "the layer's own directory was replaced");
  }

  std::string top_;
  struct stat canary_ {};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Host host;
  muster::agent::UnpackOptions options;
  options.limits.bytes_max = 1 << 20;
  options.limits.entries_max = 500;
  options.limits.path_bytes_max = 512;
  options.limits.depth_max = 20;
  options.limits.ratio_floor_bytes = 1 << 16;
  options.ownership = muster::agent::Ownership::kKeep;
  options.whiteouts =
      size % 2 == 0 ? muster::agent::Whiteouts::kOverlay : muster::agent::Whiteouts::kNone;
  host.unpack({reinterpret_cast<const char*>(data), size}, options);
  return 0;
}
