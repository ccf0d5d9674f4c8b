#include "raft/storage/record.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr char kRecordVersion = 2;
constexpr char kWatermarkVersion = 2;
constexpr char kManifestVersion = 2;
constexpr size_t kKindAt = 2;
constexpr size_t kIndexAt = 3;
constexpr size_t kTermAt = 11;
constexpr size_t kChainAt = 19;
constexpr size_t kHeadBytes = kChainAt + kChainBytes;
constexpr size_t kManifestHeadBytes = 18;

std::string_view view(const Chain& chain) {
  return {chain.data(), chain.size()};
}

Chain chain_at(std::string_view bytes, size_t at) {
  Chain chain{};
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at), kChainBytes, chain.begin());
  return chain;
}

// The whole head is authenticated, not only what identifies the record.
std::string record_aad(const KeyRing& ring, Index index, Term term, std::string_view head) {
  return ring.aad("entry", index, term).append(head);
}

}  // namespace

ChainHash::ChainHash()
    : digest_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
  MUSTER_CHECK(digest_ != nullptr && context_ != nullptr);
}

ChainHash::~ChainHash() {
  EVP_MD_CTX_free(context_);
  EVP_MD_free(digest_);
}

Chain ChainHash::next(const Chain& before, std::initializer_list<std::string_view> parts) {
  bool good = EVP_DigestInit_ex2(context_, digest_, nullptr) == 1 &&
              EVP_DigestUpdate(context_, before.data(), before.size()) == 1;
  for (const std::string_view part : parts) {
    good = good && EVP_DigestUpdate(context_, part.data(), part.size()) == 1;
  }
  Chain out{};
  unsigned size = 0;
  good = good &&
         EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(out.data()), &size) == 1;
  MUSTER_CHECK(good && size == kChainBytes);
  return out;
}

Result<Record> encode_record(const KeyRing& ring, const DataKey& key, const Entry& entry,
                             const Chain& previous) {
  Record out;
  out.head.reserve(kHeadBytes);
  out.head.push_back(kRecordVersion);
  out.head.push_back(static_cast<char>(key.id()));
  out.head.push_back(static_cast<char>(entry.kind));
  put_u64(out.head, entry.index);
  put_u64(out.head, entry.term);
  out.head.append(view(previous));
  MUSTER_ASSIGN(out.sealed, key.aead().seal(entry.bytes(),
                                            record_aad(ring, entry.index, entry.term, out.head)));
  return out;
}

Result<Entry> decode_record(const KeyRing& ring, Index index, std::string_view record,
                            const Chain& previous) {
  const auto damaged = [&](std::string_view why) {
    return fail(data_loss("log entry {} is damaged: {}", index, why));
  };
  const auto head = read_head(record);
  if (!head) return damaged("it is too short or of an unknown version");
  if (head->index != index) return damaged("it is another entry");
  if (head->previous != previous) return damaged("it does not follow the one before");
  const auto key = ring.find(head->key_id);
  if (key == nullptr) return damaged("its key is not known");
  auto payload = key->aead().open(
      record.substr(kHeadBytes), record_aad(ring, index, head->term, record.substr(0, kHeadBytes)));
  if (!payload) return damaged(payload.error().message());
  if (head->kind > EntryKind::kMembers) {
    return fail(
        StatusCode::kFailedPrecondition,
        fmt::format("log entry {} is of a kind not known here: upgrade muster on this node", index),
        "feature-level");
  }
  Entry entry{index, head->term, head->kind, nullptr};
  if (!payload->empty()) {
    entry.payload = std::make_shared<const std::string>(*std::move(payload));
  }
  return entry;
}

std::optional<RecordHead> read_head(std::string_view record) {
  if (record.size() < kHeadBytes || record[0] != kRecordVersion) return std::nullopt;
  return RecordHead{static_cast<uint8_t>(record[1]), static_cast<EntryKind>(record[kKindAt]),
                    get_uint(record, kIndexAt, 8), get_uint(record, kTermAt, 8),
                    chain_at(record, kChainAt)};
}

std::string encode_watermark(const Watermark& mark) {
  std::string out(1, kWatermarkVersion);
  put_u64(out, mark.step);
  put_u64(out, mark.index);
  put_u64(out, mark.term);
  return out.append(view(mark.chain));
}

Result<Watermark> decode_watermark(std::string_view bytes) {
  if (bytes.size() != 25 + kChainBytes || bytes[0] != kWatermarkVersion) {
    return fail(data_loss("the log's watermark is damaged"));
  }
  return Watermark{get_uint(bytes, 1, 8), get_uint(bytes, 9, 8), get_uint(bytes, 17, 8),
                   chain_at(bytes, 25)};
}

Result<std::string> encode_manifest(const KeyRing& ring, const DataKey& key,
                                    const Manifest& manifest) {
  std::string out(1, kManifestVersion);
  out.push_back(static_cast<char>(key.id()));
  put_u64(out, manifest.mark.index);
  put_u64(out, manifest.mark.term);
  std::string plain;
  put_u64(plain, manifest.base_index);
  put_u64(plain, manifest.base_term);
  plain.append(view(manifest.base_chain));
  plain.append(encode_members(manifest.mark.members));
  MUSTER_ASSIGN(
      const std::string sealed,
      key.aead().seal(plain,
                      ring.aad("manifest", manifest.mark.index, manifest.mark.term).append(out)));
  return out.append(sealed);
}

Result<Manifest> decode_manifest(const KeyRing& ring, std::string_view bytes) {
  const auto damaged = [] { return fail(data_loss("the snapshot's manifest is damaged")); };
  if (bytes.size() < kManifestHeadBytes || bytes[0] != kManifestVersion) return damaged();
  Manifest manifest;
  manifest.key_id = static_cast<uint8_t>(bytes[1]);
  manifest.mark.index = get_uint(bytes, 2, 8);
  manifest.mark.term = get_uint(bytes, 10, 8);
  const auto key = ring.find(manifest.key_id);
  if (key == nullptr) return damaged();
  const auto plain = key->aead().open(bytes.substr(kManifestHeadBytes),
                                      ring.aad("manifest", manifest.mark.index, manifest.mark.term)
                                          .append(bytes.substr(0, kManifestHeadBytes)));
  if (!plain || plain->size() < 16 + kChainBytes) return damaged();
  manifest.base_index = get_uint(*plain, 0, 8);
  manifest.base_term = get_uint(*plain, 8, 8);
  manifest.base_chain = chain_at(*plain, 16);
  MUSTER_ASSIGN(manifest.mark.members,
                decode_members(std::string_view(*plain).substr(16 + kChainBytes)));
  return manifest;
}

}  // namespace muster::raft
