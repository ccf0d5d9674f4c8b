#include "raft/storage/record.h"

#include <openssl/evp.h>

#include <utility>

#include "base/check.h"
#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr char kRecordVersion = 1;
constexpr char kWatermarkVersion = 1;
constexpr size_t kIndexAt = 2;
constexpr size_t kTermAt = 10;
constexpr size_t kChainAt = 18;
constexpr size_t kHeaderBytes = kChainAt + kChainBytes;

// The whole header is authenticated, not only what identifies the record.
std::string record_aad(const DataKey& key, uint64_t index, uint64_t term, std::string_view header) {
  return key.aad("entry", index, term).append(header);
}

}  // namespace

Chain next_chain(const Chain& previous, std::string_view record) {
  std::string input = previous;
  input.append(record);
  Chain out(kChainBytes, '\0');
  size_t size = 0;
  MUSTER_CHECK(EVP_Q_digest(nullptr, "SHA256", nullptr, input.data(), input.size(),
                            reinterpret_cast<unsigned char*>(out.data()), &size) == 1);
  return out;
}

Result<std::string> encode_record(const DataKey& key, const LogEntry& entry,
                                  const Chain& previous) {
  std::string out;
  out.reserve(kHeaderBytes + entry.payload.size() + security::Aead::kOverheadBytes);
  out.push_back(kRecordVersion);
  out.push_back(static_cast<char>(key.id()));
  put_u64(out, entry.index);
  put_u64(out, entry.term);
  out.append(previous);
  MUSTER_ASSIGN(const std::string sealed,
                key.aead().seal(entry.payload, record_aad(key, entry.index, entry.term, out)));
  return out.append(sealed);
}

Result<LogEntry> decode_record(const DataKey& key, uint64_t index, std::string_view record,
                               const Chain& previous) {
  const auto damaged = [&](std::string_view why) {
    return fail(data_loss("log entry {} is damaged: {}", index, why));
  };
  if (record.size() < kHeaderBytes) return damaged("it is too short");
  if (record[0] != kRecordVersion) return damaged("its version is not known");
  if (static_cast<uint8_t>(record[1]) != key.id()) return damaged("its key is not known");
  if (get_uint(record, kIndexAt, 8) != index) return damaged("it is another entry");
  if (stated_previous(record) != previous) return damaged("it does not follow the one before");
  LogEntry entry;
  entry.index = index;
  entry.term = get_uint(record, kTermAt, 8);
  auto payload =
      key.aead().open(record.substr(kHeaderBytes),
                      record_aad(key, index, entry.term, record.substr(0, kHeaderBytes)));
  if (!payload) return damaged(payload.error().message());
  entry.payload = *std::move(payload);
  return entry;
}

Chain stated_previous(std::string_view record) {
  return record.size() < kHeaderBytes ? Chain() : Chain(record.substr(kChainAt, kChainBytes));
}

std::string encode_watermark(const Watermark& mark) {
  std::string out(1, kWatermarkVersion);
  put_u64(out, mark.index);
  put_u64(out, mark.term);
  return out.append(mark.chain);
}

Result<Watermark> decode_watermark(std::string_view bytes) {
  if (bytes.size() != 17 + kChainBytes || bytes[0] != kWatermarkVersion) {
    return fail(data_loss("the log's watermark is damaged"));
  }
  return Watermark{get_uint(bytes, 1, 8), get_uint(bytes, 9, 8), Chain(bytes.substr(17))};
}

}  // namespace muster::raft
