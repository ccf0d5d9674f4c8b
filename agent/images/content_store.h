#pragma once

#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "agent/images/unpacker.h"
#include "base/log.h"
#include "base/status.h"

namespace muster::agent {

// A layer to have unpacked: its blob and what its content must hash to.
struct LayerBlob {
  std::string digest;
  std::string diff_id;
};

// What images are made of, named by what it is:
//   blobs/sha256/<64 hex>      manifests, configurations, compressed layers, as downloaded
//   layers/<24 hex>/fs         a layer unpacked, in overlayfs's form; the name begins its diff id,
//   layers/<24 hex>/layer.json short since all names of an image go into one page of mount options
//   tmp/<n>                    work in progress, deleted at start
// Everything appears by rename after it has reached the disk, so a crash leaves the old or the new.
// Thread-safe. What is added while a Pin is held is not collected until the pin is gone, by which
// time the catalog must name it.
class ContentStore {
 public:
  using Pin = std::shared_lock<std::shared_mutex>;

  ContentStore(std::filesystem::path dir, Log log) : dir_(std::move(dir)), log_(std::move(log)) {}

  // Makes the folders and deletes what an earlier process left in tmp.
  Status open();

  // A new private folder (0700) for work in progress; the caller deletes it.
  Result<std::filesystem::path> make_temp();

  Pin pin() { return Pin(collecting_); }

  bool has_blob(const std::string& digest) const;
  std::filesystem::path blob_path(const std::string& digest) const;
  Result<std::string> read_blob(const std::string& digest) const;
  // DATA_LOSS when the content does not hash to `digest`. The file is moved in.
  Status add_blob_file(const std::filesystem::path& file, const std::string& digest);
  Status add_blob(std::string_view content, const std::string& digest);
  void drop_blob(const std::string& digest);

  bool has_layer(const std::string& diff_id) const;
  // Relative to layers_dir(): a lowerdir= of an overlay mount.
  static std::string layer_mount_name(const std::string& diff_id);
  std::filesystem::path layers_dir() const { return dir_ / "layers"; }
  uint64_t layer_bytes(const std::string& diff_id) const;
  // Unpacks those that are missing, several at a time, and makes them durable together. A blob
  // that turns out to be damaged is dropped, so that the next pull fetches it again.
  Status unpack_layers(const std::vector<LayerBlob>& layers, const std::filesystem::path& temp,
                       const UnpackOptions& options);

  // Deletes every blob and layer that is not named; waits for pins. Returns the bytes freed.
  // `live` is asked once no pin is held. New pins wait for renames only, not for the deletion.
  struct Live {
    std::set<std::string> blobs;  // digests
    std::set<std::string> diff_ids;
  };
  uint64_t collect(const std::function<Live()>& live);
  // The same if no pin is held just now; false if one is.
  bool try_collect(const std::function<Live()>& live);

  Result<uint64_t> bytes_free() const;
  // Everything written to the store's file system has reached the disk on return.
  Status sync() const;

 private:
  Status unpack_one(const LayerBlob& layer, const std::filesystem::path& target,
                    const UnpackOptions& options);
  uint64_t collect(std::unique_lock<std::shared_mutex> alone, const std::function<Live()>& live);
  Status keep_layer(const std::filesystem::path& unpacked, const std::string& diff_id);

  const std::filesystem::path dir_;
  const Log log_;
  std::shared_mutex collecting_;
  std::atomic<uint64_t> temp_counter_{0};
};

// The sizes of all files below `dir`; what a download has put on the disk so far.
uint64_t bytes_below(const std::filesystem::path& dir);

}  // namespace muster::agent
