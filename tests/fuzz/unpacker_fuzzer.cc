// Any bytes as a layer, unpacked into a directory: whatever they say, nothing outside of it is
// touched. The unpacker runs in a root of its own, so that absolute names lead there, too, where
// everything can be looked at. Needs root.
//
// Bytes that begin with 0xff are a recipe instead: an archive of well-formed entries, with names
// and links made of what is of interest, which mutation of an archive would hardly ever come upon.

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
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

// The bytes of a recipe, one after another; 0 beyond the end.
class Recipe {
 public:
  explicit Recipe(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  unsigned next() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  std::string path() {
    constexpr const char* kParts[] = {"..",   ".", "canary",       "layer",       "a",     "b",
                                      "door", "",  ".wh.a",        ".wh.door",    ".wh..", ".wh...",
                                      ".wh.", "c", ".wh..wh..opq", ".wh..wh.plnk"};
    unsigned choice = next();
    std::string path = choice >= 192 ? "/" : "";
    for (unsigned count = choice % 4; count-- > 0;) {
      path += kParts[next() % std::size(kParts)];
      if (count > 0) path += "/";
    }
    return path;
  }

 private:
  std::string_view rest_;
};

void append_entry(Recipe& recipe, std::string& tar) {
  constexpr std::string_view kTypes = "0512346";  // ustar's
  const char type = kTypes[recipe.next() % kTypes.size()];
  const std::string name = recipe.path();
  const std::string link = type == '1' || type == '2' ? recipe.path() : "";
  const unsigned mode = recipe.next() * 16 % 010000;
  const std::string content = type == '0' ? std::string(recipe.next() % 20, 'x') : "";
  std::string header(512, '\0');
  const auto put = [&](size_t at, const std::string& text) {
    header.replace(at, text.size(), text);
  };
  put(0, name.substr(0, 99));
  put(100, fmt::format("{:07o}", mode));
  put(108, "0000000");
  put(116, "0000000");
  put(124, fmt::format("{:011o}", content.size()));
  put(136, "14524570000");
  put(148, "        ");
  header[156] = type;
  put(157, link.substr(0, 99));
  put(257, "ustar");
  put(263, "00");
  put(329, "0000001");
  put(337, "0000003");
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  tar += header;
  if (!content.empty()) tar += content + std::string(512 - content.size(), '\0');
}

std::string archive_of(Recipe recipe) {
  std::string tar;
  while (!recipe.empty()) append_entry(recipe, tar);
  return tar + std::string(1024, '\0');
}

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
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] == 0xff) {
    host.unpack(archive_of(Recipe(bytes.substr(1))), options);
  } else {
    host.unpack(bytes, options);
  }
  return 0;
}
