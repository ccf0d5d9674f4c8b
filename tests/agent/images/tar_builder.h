#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::agent {

// An archive for tests, written as it is told: escapes, lies and all.
class Tar {
 public:
  using Attributes = std::vector<std::pair<std::string, std::string>>;

  enum class Compression { kNone, kGzip, kZstd };
  explicit Tar(Compression compression = Compression::kNone) : archive_(archive_write_new()) {
    if (compression == Compression::kGzip) archive_write_add_filter_gzip(archive_);
    if (compression == Compression::kZstd) archive_write_add_filter_zstd(archive_);
    archive_write_set_format_pax_restricted(archive_);
    archive_write_set_bytes_in_last_block(archive_, 1);
    archive_write_open2(archive_, &bytes_, nullptr, &append, nullptr, nullptr);
  }
  ~Tar() { archive_write_free(archive_); }
  Tar(const Tar&) = delete;
  Tar& operator=(const Tar&) = delete;

  Tar& directory(const std::string& path, mode_t mode = 0755) {
    return entry(path, AE_IFDIR, mode, "", {}, 0);
  }
  Tar& file(const std::string& path, std::string_view content = "", mode_t mode = 0644,
            const Attributes& attributes = {}) {
    return entry(path, AE_IFREG, mode, content, attributes, 0);
  }
  Tar& symlink(const std::string& path, const std::string& target) {
    return entry(path, AE_IFLNK, 0777, "", {},
                 [&](archive_entry* e) { archive_entry_set_symlink(e, target.c_str()); });
  }
  Tar& hard_link(const std::string& path, const std::string& target) {
    return entry(path, AE_IFREG, 0644, "", {},
                 [&](archive_entry* e) { archive_entry_set_hardlink(e, target.c_str()); });
  }
  Tar& device(const std::string& path, mode_t type, unsigned major, unsigned minor) {
    return entry(path, type, 0600, "", {}, [&](archive_entry* e) {
      archive_entry_set_rdevmajor(e, major);
      archive_entry_set_rdevminor(e, minor);
    });
  }
  Tar& owner(unsigned uid, unsigned gid) {
    uid_ = uid;
    gid_ = gid;
    return *this;
  }

  // Ends the archive.
  std::string bytes() {
    archive_write_close(archive_);
    return bytes_;
  }

 private:
  static la_ssize_t append(archive*, void* to, const void* data, size_t size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), size);
    return static_cast<la_ssize_t>(size);
  }

  template <class More>
  Tar& entry(const std::string& path, mode_t type, mode_t mode, std::string_view content,
             const Attributes& attributes, More more) {
    archive_entry* e = archive_entry_new();
    archive_entry_set_pathname(e, path.c_str());
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, mode);
    archive_entry_set_uid(e, uid_);
    archive_entry_set_gid(e, gid_);
    archive_entry_set_mtime(e, 1'700'000'000, 0);
    archive_entry_set_size(e, static_cast<la_int64_t>(content.size()));
    for (const auto& [key, value] : attributes) {
      archive_entry_xattr_add_entry(e, key.c_str(), value.data(), value.size());
    }
    if constexpr (std::is_invocable_v<More, archive_entry*>) more(e);
    archive_write_header(archive_, e);
    if (!content.empty()) archive_write_data(archive_, content.data(), content.size());
    archive_entry_free(e);
    return *this;
  }

  archive* archive_;
  std::string bytes_;
  unsigned uid_ = 0;
  unsigned gid_ = 0;
};

}  // namespace muster::agent
