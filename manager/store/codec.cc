#include "manager/store/codec.h"

#include <google/protobuf/io/coded_stream.h>

#include <climits>
#include <utility>

#include "manager/store/state.h"

namespace muster::manager::store {
namespace {

using google::protobuf::io::CodedOutputStream;

constexpr uint32_t kLengthDelimited = 2;
constexpr int kEntryFieldChanges = v1::StoreEntry::kChangesFieldNumber;
constexpr int kChunkFieldObjects = v1::StoreSnapshotChunk::kObjectsFieldNumber;

void append_varint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void append_tag(std::string& out, int field) {
  append_varint(out, static_cast<uint64_t>(field) << 3 | kLengthDelimited);
}

template <class T>
Ptr<T> take(T* object) {
  return make_stored<T>(std::move(*object));
}

// The numbers of StoreChange's fields are those of v1::Table.
Result<ReadChange> read_change(v1::StoreChange& change) {
  switch (change.put_case()) {
    case v1::StoreChange::kNode: return take(change.mutable_node());
    case v1::StoreChange::kService: return take(change.mutable_service());
    case v1::StoreChange::kTask: return take(change.mutable_task());
    case v1::StoreChange::kNetwork: return take(change.mutable_network());
    case v1::StoreChange::kSecret: return take(change.mutable_secret());
    case v1::StoreChange::kConfig: return take(change.mutable_config());
    case v1::StoreChange::kCluster: return take(change.mutable_cluster());
    case v1::StoreChange::kVolume: return take(change.mutable_volume());
    case v1::StoreChange::kRevision: return take(change.mutable_revision());
    case v1::StoreChange::kRequest: return take(change.mutable_request());
    case v1::StoreChange::kBlob: return take(change.mutable_blob());
    case v1::StoreChange::kRemove:
      if (!v1::Table_IsValid(change.remove().table()) ||
          change.remove().table() == v1::TABLE_UNSPECIFIED) {
        return fail(data_loss("a removal from unknown table {}",
                              static_cast<int>(change.remove().table())));
      }
      return Removed{change.remove().table(), std::move(*change.mutable_remove()->mutable_id())};
    case v1::StoreChange::PUT_NOT_SET: break;
  }
  return fail(data_loss("a change of no known kind"));
}

Result<std::vector<ReadChange>> read_changes(
    google::protobuf::RepeatedPtrField<v1::StoreChange>& changes) {
  std::vector<ReadChange> out;
  out.reserve(static_cast<size_t>(changes.size()));
  for (v1::StoreChange& change : changes) {
    MUSTER_ASSIGN(ReadChange read, read_change(change));
    out.push_back(std::move(read));
  }
  return out;
}

template <class M>
bool parse(M& message, std::string_view bytes) {
  return bytes.size() <= INT_MAX &&
         message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace

namespace {

// `bytes` is the object's size, which it has cached in itself and its parts.
template <class T>
void append_sized(std::string& out, int field, const T& object, size_t bytes) {
  const int table = TableTraits<T>::kTable;
  // Table numbers are below 16: their tags take one byte.
  const size_t inner = 1 + CodedOutputStream::VarintSize64(bytes) + bytes;
  append_tag(out, field);
  append_varint(out, inner);
  append_tag(out, table);
  append_varint(out, bytes);
  const size_t at = out.size();
  out.resize(at + bytes);
  object.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data() + at));
}

}  // namespace

template <class T>
void append_object(std::string& out, int field, const T& object) {
  append_sized(out, field, object, object.ByteSizeLong());
}

size_t encoded_bytes(const AnyChange& change) {
  return std::visit(
      [](const auto& c) {
        const size_t bytes = c.after != nullptr ? c.after->ByteSizeLong() : c.before->id().size();
        return bytes + kObjectOverheadBytes;
      },
      change);
}

std::string encode_entry(uint32_t feature_level, WallTime proposed_at,
                         const std::vector<AnyChange>& changes, size_t bytes_expected) {
  v1::StoreEntry head;
  head.set_feature_level(feature_level);
  head.set_proposed_at_ns(proposed_at.unix_ns);
  // Field order on the wire is free; the level comes first so that a reader can stop early.
  std::string out;
  out.reserve(bytes_expected + kEntryHeadBytes);
  head.AppendToString(&out);
  for (const AnyChange& change : changes) {
    std::visit(
        [&](const auto& c) {
          using T = typename std::remove_cvref_t<decltype(c.before)>::element_type;
          if (c.after != nullptr) {
            append_sized(out, kEntryFieldChanges, *c.after,
                         static_cast<size_t>(c.after->GetCachedSize()));
            return;
          }
          v1::StoreChange removal;
          removal.mutable_remove()->set_table(TableTraits<std::remove_const_t<T>>::kTable);
          removal.mutable_remove()->set_id(c.before->id());
          append_tag(out, kEntryFieldChanges);
          append_varint(out, removal.ByteSizeLong());
          removal.AppendToString(&out);
        },
        change);
  }
  return out;
}

Status check_feature_level(uint32_t level, uint32_t level_max) {
  if (level <= level_max) return ok_status();
  return Status(StatusCode::kFailedPrecondition,
                fmt::format("the cluster uses feature level {}, this member knows levels up to {}: "
                            "upgrade muster on this node",
                            level, level_max),
                "feature-level");
}

Result<ReadEntry> decode_entry(std::string_view bytes, uint32_t feature_level_max) {
  v1::StoreEntry entry;
  if (!parse(entry, bytes)) return fail(data_loss("an entry of store changes does not parse"));
  MUSTER_TRY(check_feature_level(entry.feature_level(), feature_level_max));
  ReadEntry out;
  out.feature_level = entry.feature_level();
  out.proposed_at = {entry.proposed_at_ns()};
  MUSTER_ASSIGN(out.changes, read_changes(*entry.mutable_changes()));
  return out;
}

std::string finish_chunk(uint64_t index, bool last, std::string objects) {
  v1::StoreSnapshotChunk head;
  head.set_format_version(kSnapshotFormatVersion);
  head.set_index(index);
  head.set_last(last);
  head.AppendToString(&objects);
  return objects;
}

Result<ReadChunk> decode_chunk(std::string_view bytes) {
  v1::StoreSnapshotChunk chunk;
  if (!parse(chunk, bytes)) return fail(data_loss("a snapshot chunk does not parse"));
  if (chunk.format_version() != kSnapshotFormatVersion) {
    return fail(
        StatusCode::kFailedPrecondition,
        fmt::format("snapshot format {} is not known here (only {}): upgrade muster on this "
                    "node",
                    chunk.format_version(), kSnapshotFormatVersion),
        "format-version");
  }
  ReadChunk out;
  out.index = chunk.index();
  out.last = chunk.last();
  MUSTER_ASSIGN(out.objects, read_changes(*chunk.mutable_objects()));
  return out;
}

static_assert(kChunkFieldObjects == 3);

#define MUSTER_INSTANTIATE(T) template void append_object<T>(std::string&, int, const T&);
MUSTER_STORE_KINDS(MUSTER_INSTANTIATE)
#undef MUSTER_INSTANTIATE

}  // namespace muster::manager::store
