#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "manager/store/store.h"
#include "manager/store/tables.h"

namespace muster::manager::store {

// One change read from an entry or a snapshot: an object to put, or an id to remove.
struct Removed {
  v1::Table table = v1::TABLE_UNSPECIFIED;
  std::string id;
};
using ReadChange =
    std::variant<Removed, Ptr<v1::Node>, Ptr<v1::Service>, Ptr<v1::Task>, Ptr<v1::Network>,
                 Ptr<v1::Secret>, Ptr<v1::Config>, Ptr<v1::Cluster>, Ptr<v1::Volume>,
                 Ptr<v1::Revision>, Ptr<v1::AppliedRequest>, Ptr<v1::Blob>>;

// The bytes of a v1::StoreEntry, written straight from the shared objects. Each change must have
// gone through encoded_bytes() since it was made: their sizes are not worked out again. The sum of
// what that returned is `bytes_expected`.
std::string encode_entry(uint32_t feature_level, WallTime proposed_at,
                         const std::vector<AnyChange>& changes, size_t bytes_expected);

// FAILED_PRECONDITION with reason "feature-level" when a member that knows levels up to `level_max`
// must stop.
Status check_feature_level(uint32_t level, uint32_t level_max);

struct ReadEntry {
  uint32_t feature_level = 0;
  WallTime proposed_at;
  std::vector<ReadChange> changes;
};
// FAILED_PRECONDITION "feature-level" when the entry is above `feature_level_max`: its changes may
// be of kinds unknown here, so they are not looked at. DATA_LOSS when it does not parse.
Result<ReadEntry> decode_entry(std::string_view bytes, uint32_t feature_level_max);

// Appends `object` as a StoreChange under `field` of a message, in wire format.
template <class T>
void append_object(std::string& out, int field, const T& object);
// Upper bound of what append_object() adds to the object's own bytes.
inline constexpr size_t kObjectOverheadBytes = 16;
// Upper bound of an entry without its changes.
inline constexpr size_t kEntryHeadBytes = 32;

// Bytes a change takes in an entry, at most.
size_t encoded_bytes(const AnyChange& change);

inline constexpr uint32_t kSnapshotFormatVersion = 1;
// The bytes of a v1::StoreSnapshotChunk around objects already appended under field 3.
std::string finish_chunk(uint64_t index, bool last, std::string objects);

struct ReadChunk {
  uint64_t index = 0;
  bool last = false;
  std::vector<ReadChange> objects;
};
// FAILED_PRECONDITION "format-version" for a newer format, DATA_LOSS when it does not parse.
Result<ReadChunk> decode_chunk(std::string_view bytes);

}  // namespace muster::manager::store
