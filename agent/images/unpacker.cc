#include "agent/images/unpacker.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "agent/images/digest.h"
#include "agent/images/layer_tree.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

struct FreeArchive {
  void operator()(archive* a) const { archive_read_free(a); }
};
using ArchivePtr = std::unique_ptr<archive, FreeArchive>;

constexpr size_t kChunkBytes = 1 << 18;
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaqueWhiteout = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";

// libarchive's message, without its habit of ending in odd ways.
std::string message_of(archive* a) {
  const char* text = archive_error_string(a);
  return text == nullptr ? "unknown error" : text;
}

// The uncompressed archive as a stream: hashed and counted while the tar reader pulls it.
class Decompressor {
 public:
  explicit Decompressor(const UnpackOptions& options) : options_(options) {}

  Status open(const std::filesystem::path& path) {
    prepare();
    if (archive_read_open_filename(raw_.get(), path.c_str(), kChunkBytes) != ARCHIVE_OK) {
      return data_loss("cannot read the layer: {}", message_of(raw_.get()));
    }
    return start();
  }
  Status open(std::string_view bytes) {
    prepare();
    if (archive_read_open_memory(raw_.get(), bytes.data(), bytes.size()) != ARCHIVE_OK) {
      return data_loss("cannot read the layer: {}", message_of(raw_.get()));
    }
    return start();
  }

  // The next piece; size 0 at the end. A failure is kept in status().
  size_t next(const void** data) {
    size_t size = 0;
    *data = nullptr;
    if (!status_.ok() || ended_) return 0;
    if (options_.cancelled != nullptr && options_.cancelled->load()) {
      status_ = Status(StatusCode::kCancelled, "unpacking was cancelled");
      return 0;
    }
    la_int64_t offset = 0;
    const int r = archive_read_data_block(raw_.get(), data, &size, &offset);
    if (r == ARCHIVE_EOF) {
      ended_ = true;
      return 0;
    }
    if (r != ARCHIVE_OK) {
      status_ = data_loss("the layer is damaged: {}", message_of(raw_.get()));
      return 0;
    }
    sha_.update(*data, size);
    bytes_out_ += size;
    check_limits();
    return status_.ok() ? size : 0;
  }

  const Status& status() const { return status_; }
  archive* raw() { return raw_.get(); }

  // Reads what the tar reader left (padding), so that the digest covers everything.
  Result<std::string> finish() {
    const void* data = nullptr;
    while (next(&data) > 0) {
    }
    if (!status_.ok()) return fail(status_);
    return sha_.finish();
  }

 private:
  void prepare() {
    raw_.reset(archive_read_new());
    archive_read_support_filter_gzip(raw_.get());
    archive_read_support_filter_zstd(raw_.get());
    archive_read_support_format_raw(raw_.get());
    archive_read_support_format_empty(raw_.get());
  }

  Status start() {
    archive_entry* entry = nullptr;
    const int r = archive_read_next_header(raw_.get(), &entry);
    ended_ = r == ARCHIVE_EOF;
    if (r == ARCHIVE_OK || r == ARCHIVE_EOF) return ok_status();
    return data_loss("the layer is damaged: {}", message_of(raw_.get()));
  }

  void check_limits() {
    // -1: the outermost filter, the bytes as they are in the blob.
    const auto bytes_in = static_cast<uint64_t>(archive_filter_bytes(raw_.get(), -1));
    if (options_.progress) options_.progress(bytes_in);
    const UnpackLimits& limits = options_.limits;
    // Headers and padding come on top of the content; a quarter more is never honest.
    if (bytes_out_ > limits.bytes_max + limits.bytes_max / 4 + (uint64_t{64} << 20)) {
      status_ = resource_exhausted("the layer is larger than {} bytes", limits.bytes_max);
    } else if (bytes_out_ > limits.ratio_floor_bytes && bytes_out_ / limits.ratio_max > bytes_in) {
      status_ = resource_exhausted("the layer is compressed more than {}:1, which no honest one is",
                                   limits.ratio_max);
    }
  }

  const UnpackOptions& options_;
  ArchivePtr raw_;
  Sha256 sha_;
  Status status_;
  bool ended_ = false;
  uint64_t bytes_out_ = 0;
};

la_ssize_t read_piece(archive*, void* client, const void** data) {
  auto* source = static_cast<Decompressor*>(client);
  const size_t size = source->next(data);
  return source->status().ok() ? static_cast<la_ssize_t>(size) : -1;
}

std::string text_of(const char* mbs, const char* utf8) {
  return mbs != nullptr ? mbs : utf8 != nullptr ? utf8 : "";
}

std::string_view base_name(std::string_view path) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string_view parent_of(std::string_view path) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

class Unpacking {
 public:
  Unpacking(UniqueFd root, const UnpackOptions& options)
      : options_(options), tree_(std::move(root), options.limits.depth_max), source_(options) {}

  template <class Input>
  Result<UnpackSummary> run(const Input& input) {
    MUSTER_TRY(source_.open(input));
    tar_.reset(archive_read_new());
    archive_read_support_format_tar(tar_.get());
    archive_read_support_format_empty(tar_.get());
    if (archive_read_open(tar_.get(), &source_, nullptr, read_piece, nullptr) != ARCHIVE_OK) {
      return fail(trouble());
    }
    while (true) {
      archive_entry* entry = nullptr;
      const int r = archive_read_next_header(tar_.get(), &entry);
      if (r == ARCHIVE_EOF) break;
      // A warning is about names in other character sets; they are used as they are.
      if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return fail(trouble());
      MUSTER_TRY(one(entry));
    }
    MUSTER_TRY(tree_.finish());
    MUSTER_ASSIGN(summary_.diff_id, source_.finish());
    return summary_;
  }

 private:
  Status trouble() {
    if (!source_.status().ok()) return source_.status();
    return data_loss("the layer is damaged: {}", message_of(tar_.get()));
  }

  Status one(archive_entry* entry) {
    const std::string path =
        text_of(archive_entry_pathname(entry), archive_entry_pathname_utf8(entry));
    if (path.empty()) return data_loss("the layer is damaged: an entry has no name");
    if (path.size() > options_.limits.path_bytes_max) {
      return resource_exhausted("a name in the layer is longer than {} bytes",
                                options_.limits.path_bytes_max);
    }
    if (++summary_.entries > options_.limits.entries_max) {
      return resource_exhausted("the layer has more than {} entries", options_.limits.entries_max);
    }
    const std::string_view name = base_name(path);
    if (options_.whiteouts == Whiteouts::kOverlay && name.starts_with(kWhiteout)) {
      return whiteout(path, name);
    }
    const std::string hard_link =
        text_of(archive_entry_hardlink(entry), archive_entry_hardlink_utf8(entry));
    if (!hard_link.empty()) return tree_.make_hard_link(path, hard_link);
    MUSTER_ASSIGN(const FileAttributes attributes, attributes_of(entry));
    switch (archive_entry_filetype(entry)) {
      case AE_IFDIR: return tree_.make_directory(path, attributes);
      case AE_IFREG: return file(entry, path, attributes);
      case AE_IFLNK:
        return tree_.make_symlink(
            path, text_of(archive_entry_symlink(entry), archive_entry_symlink_utf8(entry)),
            attributes);
      case AE_IFCHR: return node(entry, path, S_IFCHR, attributes);
      case AE_IFBLK: return node(entry, path, S_IFBLK, attributes);
      case AE_IFIFO: return node(entry, path, S_IFIFO, attributes);
      default: return data_loss("the layer is damaged: \"{}\" is of an unknown type", path);
    }
  }

  Status whiteout(const std::string& path, std::string_view name) {
    const std::string parent(parent_of(path));
    if (name == kOpaqueWhiteout) return tree_.make_opaque(parent);
    if (name.starts_with(kAufsPrefix)) return ok_status();  // AUFS's own bookkeeping
    const std::string hidden(name.substr(kWhiteout.size()));
    if (hidden.empty() || hidden == "." || hidden == "..") {
      return data_loss("malicious or damaged layer: \"{}\" deletes nothing sensible", path);
    }
    return tree_.make_whiteout(parent.empty() ? hidden : parent + "/" + hidden);
  }

  Status node(archive_entry* entry, const std::string& path, mode_t type,
              const FileAttributes& attributes) {
    const bool device = type != S_IFIFO;
    if (device && options_.ownership == Ownership::kIgnore) return ok_status();
    const dev_t number =
        device ? makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry)) : 0;
    return tree_.make_node(path, type, number, attributes);
  }

  Result<FileAttributes> attributes_of(archive_entry* entry) {
    FileAttributes a;
    if (options_.ownership == Ownership::kKeep) {
      a.uid = static_cast<uint32_t>(archive_entry_uid(entry));
      a.gid = static_cast<uint32_t>(archive_entry_gid(entry));
    } else {
      a.uid = geteuid();
      a.gid = getegid();
    }
    a.mode = archive_entry_perm(entry);
    a.mtime.tv_sec = archive_entry_mtime(entry);
    a.mtime.tv_nsec = archive_entry_mtime_nsec(entry);
    if (a.mtime.tv_nsec < 0 || a.mtime.tv_nsec > 999'999'999) a.mtime.tv_nsec = 0;
    archive_entry_xattr_reset(entry);
    const char* key = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
      xattr_bytes_ += size;
      if (xattr_bytes_ > options_.limits.xattr_bytes_max) {
        return fail(resource_exhausted("the layer's extended attributes exceed {} bytes",
                                       options_.limits.xattr_bytes_max));
      }
      // An allow-list: trusted.overlay.* would let a layer redirect overlayfs to other places.
      const std::string_view k = key == nullptr ? "" : key;
      const bool capability = k == "security.capability" && options_.ownership == Ownership::kKeep;
      if (!capability && !k.starts_with("user.")) continue;
      a.xattrs.emplace_back(k, std::string(static_cast<const char*>(value), size));
    }
    return a;
  }

  Status file(archive_entry* entry, const std::string& path, const FileAttributes& attributes) {
    const la_int64_t size = archive_entry_size(entry);
    const uint64_t left = options_.limits.bytes_max - summary_.bytes;
    if (size < 0 || static_cast<uint64_t>(size) > left) {
      return resource_exhausted("the layer is larger than {} bytes", options_.limits.bytes_max);
    }
    summary_.bytes += static_cast<uint64_t>(size);
    MUSTER_ASSIGN(const UniqueFd fd, tree_.make_file(path));
    while (true) {
      const void* data = nullptr;
      size_t n = 0;
      la_int64_t offset = 0;
      const int r = archive_read_data_block(tar_.get(), &data, &n, &offset);
      if (r == ARCHIVE_EOF) break;
      if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return trouble();
      if (offset < 0 || offset > size || n > static_cast<uint64_t>(size - offset)) {
        return data_loss("the layer is damaged: \"{}\" is longer than announced", path);
      }
      MUSTER_TRY(write_at(fd.get(), static_cast<const char*>(data), n, offset, path));
    }
    // Holes at the end.
    if (size > 0 && ftruncate(fd.get(), size) != 0) {
      return errno_status(errno, fmt::format("cannot write \"{}\" of the layer", path));
    }
    return tree_.finish_file(fd.get(), path, attributes);
  }

  static Status write_at(int fd, const char* data, size_t n, off_t offset,
                         const std::string& path) {
    while (n > 0) {
      const ssize_t written = pwrite(fd, data, n, offset);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        return errno_status(errno, fmt::format("cannot write \"{}\" of the layer", path));
      }
      data += written;
      n -= static_cast<size_t>(written);
      offset += written;
    }
    return ok_status();
  }

  const UnpackOptions& options_;
  LayerTree tree_;
  Decompressor source_;
  ArchivePtr tar_;
  UnpackSummary summary_;
  uint64_t xattr_bytes_ = 0;
};

template <class Input>
Result<UnpackSummary> unpack(const Input& input, const std::filesystem::path& target,
                             const UnpackOptions& options) {
  UniqueFd root(open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    return fail(errno_status(errno, fmt::format("cannot open {}", target.string())));
  }
  return Unpacking(std::move(root), options).run(input);
}

}  // namespace

Result<UnpackSummary> unpack_layer(const std::filesystem::path& archive,
                                   const std::filesystem::path& target,
                                   const UnpackOptions& options) {
  return unpack(archive, target, options);
}

Result<UnpackSummary> unpack_layer_bytes(std::string_view archive,
                                         const std::filesystem::path& target,
                                         const UnpackOptions& options) {
  return unpack(archive, target, options);
}

}  // namespace muster::agent
