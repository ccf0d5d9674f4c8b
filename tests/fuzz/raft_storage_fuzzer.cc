// Any bytes as what lies on a manager's disk, or comes to lie there: records, watermark, manifest,
// members, key file, snapshot files, RocksDB's write-ahead log, chunks on their way from another
// member. What nobody sealed must not open; what was, comes back as it was, and is refused when a
// bit of it differs; what parses has one form.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "raft/node/chunk_frames.h"
#include "raft/storage/bytes.h"
#include "raft/storage/key_ring.h"
#include "raft/storage/record.h"
#include "raft/storage/snapshot_file.h"
#include "raft/storage/wal_tail.h"

namespace {

using namespace muster;        // NOLINT: a program of one file
using namespace muster::raft;  // NOLINT

void must(bool good) {
  if (!good) __builtin_trap();
}

const std::string& unlock_key() {
  static const std::string kKey(32, 'u');
  return kKey;
}

// Removed at the end: it lies in memory.
struct Folder {
  Folder() {
    char name[] = "/dev/shm/muster-fuzz-XXXXXX";
    must(mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

const std::filesystem::path& folder() {
  static const Folder made;
  return made.path;
}

const KeyRing& ring() {
  static const std::shared_ptr<KeyRing> made =
      *KeyRing::create(folder() / "log.key", {"cluster", "node", {1}}, std::nullopt);
  return *made;
}
std::shared_ptr<const KeyRing> shared_ring() {
  return {std::shared_ptr<const KeyRing>(), &ring()};
}

// Numbers and pieces off the front of the input; zeros and nothing once it is used up.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}
  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    for (const char c : take(bytes)) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  std::string_view take(size_t bytes) {
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

std::string changed(std::string bytes, uint64_t where) {
  bytes[where / 8 % bytes.size()] ^= static_cast<char>(1 << where % 8);
  return bytes;
}

void record(Input in) {
  must(!decode_record(ring(), 7, in.rest(), kNoChain));  // nobody sealed it
  (void)read_head(in.rest());
  Chain before{};
  before[0] = static_cast<char>(in.number(1));
  const uint64_t where = in.number(2);
  Entry entry{in.number(8), in.number(8), static_cast<EntryKind>(in.number(1) % 3), nullptr};
  if (!in.empty()) entry.payload = std::make_shared<const std::string>(in.rest());
  const auto made = encode_record(ring(), *ring().current(), entry, before);
  must(made.has_value());
  const std::string bytes = made->head + made->sealed;
  const auto back = decode_record(ring(), entry.index, bytes, before);
  must(back && *back == entry);
  must(!decode_record(ring(), entry.index + 1, bytes, before));
  must(!decode_record(ring(), entry.index, changed(bytes, where), before));
}

void watermark(Input in) {
  if (const auto mark = decode_watermark(in.rest())) must(encode_watermark(*mark) == in.rest());
}

void members(Input in) {
  const auto got = decode_members(in.rest());
  if (!got) return;
  const auto again = decode_members(encode_members(*got));
  must(again && *again == *got);
  must(std::is_sorted(got->list.begin(), got->list.end(),
                      [](const Member& a, const Member& b) { return a.id < b.id; }));
}

void manifest(Input in) {
  must(!decode_manifest(ring(), in.rest()));
  // Sealed, but of any content.
  const auto key = ring().current();
  std::string head(1, '\2');
  head.push_back(static_cast<char>(key->id()));
  const Index index = in.number(8);
  const Term term = in.number(8);
  put_u64(head, index);
  put_u64(head, term);
  const auto sealed = key->aead().seal(in.rest(), ring().aad("manifest", index, term).append(head));
  const auto got = decode_manifest(ring(), head + *sealed);
  if (!got) return;
  const auto again = decode_manifest(ring(), *encode_manifest(ring(), *key, *got));
  must(again && again->mark == got->mark && again->base_index == got->base_index &&
       again->base_term == got->base_term && again->base_chain == got->base_chain);
}

void key_file(Input in, bool right_sum) {
  std::string text(in.rest());
  if (right_sum) {
    const Chain sum = ChainHash().next(kNoChain, {text});
    text += "sum ";
    for (size_t i = 0; i < 8; ++i) text += fmt::format("{:02x}", static_cast<uint8_t>(sum[i]));
    text += "\n";
  }
  const std::filesystem::path file = folder() / "any.key";
  must(write_file_atomic(file, text, 0600, Durability::kNone).ok());
  for (const bool locked : {true, false}) {
    auto got = KeyRing::load(file, locked ? std::optional(unlock_key()) : std::nullopt);
    if (!got) continue;
    const LogIdentity identity = (*got)->identity();
    const size_t keys = (*got)->size();
    const auto key = (*got)->current();
    // As it is written again, it says the same.
    must((*got)->rewrap(unlock_key()).ok());
    const auto again = KeyRing::load(file, unlock_key());
    must(again && (*again)->identity() == identity && (*again)->size() == keys &&
         (*again)->wrapped() && (*again)->current()->bytes() == key->bytes());
    must(!KeyRing::load(file, std::string(32, 'x')) && !KeyRing::load(file, std::nullopt));
  }
}

// The chunks, when it is whole.
std::optional<std::vector<std::string>> read_snapshot() {
  auto source = SnapshotFileReader::open(folder(), shared_ring(), 5, 2);
  if (!source) return std::nullopt;
  std::vector<std::string> chunks;
  while (true) {
    auto chunk = (*source)->next();
    if (!chunk) return std::nullopt;
    if (chunk->empty()) return chunks;
    chunks.push_back(*std::move(chunk));
  }
}

void snapshot_file(Input in) {
  const std::filesystem::path file = folder() / snapshot_file_name(5, 2);
  std::string head = "muster-snapshot 2\n";
  head.push_back(static_cast<char>(ring().current()->id()));
  put_u64(head, 5);
  put_u64(head, 2);
  for (const std::string& beginning : {std::string(), head}) {
    must(write_file_atomic(file, beginning + std::string(in.rest()), 0600, Durability::kNone).ok());
    must(!read_snapshot());
    (void)snapshot_key_id(file);
  }
  const uint64_t where = in.number(2);
  auto sink = SnapshotFileWriter::create(folder(), shared_ring(), 5, 2, 0);
  must(sink.has_value());
  std::vector<std::string> chunks;
  while (!in.empty()) {
    const size_t bytes = in.number(1);
    const std::string_view chunk = in.take(bytes);
    if (chunk.empty()) continue;
    must((*sink)->add(chunk).ok());
    chunks.emplace_back(chunk);
  }
  must((*sink)->finish().ok());
  must(read_snapshot() == chunks);
  // Another nonce in the head is another file, too.
  const std::string bytes = *read_file(file);
  must(write_file_atomic(file, changed(bytes, where), 0600, Durability::kNone).ok());
  must(!read_snapshot());
  must(
      write_file_atomic(file, bytes.substr(0, where % bytes.size()), 0600, Durability::kNone).ok());
  must(!read_snapshot());
}

void wal(Input in) {
  const auto cut = torn_tail(in.rest());
  if (!cut) return;
  must(*cut < in.rest().size());
  must(!torn_tail(in.rest().substr(0, *cut)));
}

// Keeps what it is given.
class Kept final : public SnapshotSink {
 public:
  explicit Kept(std::vector<std::string>& chunks) : chunks_(chunks) {}
  Status add(std::string_view chunk) override {
    must(!chunk.empty() && chunk.size() <= kSnapshotChunkBytesMax);
    chunks_.emplace_back(chunk);
    return ok_status();
  }
  Status finish() override { return ok_status(); }

 private:
  std::vector<std::string>& chunks_;
};

// However it is cut into pieces.
void chunk_frames(Input in) {
  const auto step = std::max<size_t>(in.number(1), 1);
  const auto write = [&](size_t piece, std::vector<std::string>& chunks) {
    FramedWriter writer(std::make_unique<Kept>(chunks), std::make_shared<std::atomic<bool>>(true));
    for (size_t at = 0; at < in.rest().size(); at += piece) {
      if (!writer.write(in.rest().substr(at, piece)).ok()) return false;
    }
    return writer.finish().ok();
  };
  std::vector<std::string> whole;
  std::vector<std::string> cut;
  must(write(std::max<size_t>(in.rest().size(), 1), whole) == write(step, cut));
  must(whole == cut);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Input in({reinterpret_cast<const char*>(data) + 1, size - 1});
  switch (data[0] % 9) {
    case 0: record(in); break;
    case 1: watermark(in); break;
    case 2: members(in); break;
    case 3: manifest(in); break;
    case 4: key_file(in, false); break;
    case 5: key_file(in, true); break;
    case 6: snapshot_file(in); break;
    case 7: wal(in); break;
    default: chunk_frames(in); break;
  }
  return 0;
}
