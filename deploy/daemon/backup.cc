#include "deploy/daemon/backup.h"

#include <boost/json.hpp>
#include <utility>

#include "base/security/passphrase.h"

namespace muster::daemon {
namespace {

constexpr std::string_view kMagic = "MUSTERBK";
constexpr char kVersion = 1;
constexpr size_t kHeaderBytes = kMagic.size() + 1 + security::PassphraseParameters::kBytes;
constexpr uint32_t kLastFrame = 1U << 31;
constexpr size_t kFrameBytesMax = 96 << 20;  // a chunk of the store is 64 MiB at most
constexpr uint64_t kBytesMax = uint64_t{4} << 30;

void put_u32(std::string* out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) *out += static_cast<char>(value >> shift);
}

uint32_t get_u32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string frame_aad(const std::string& header, uint64_t number, bool last) {
  std::string aad = header;
  put_u32(&aad, static_cast<uint32_t>(number >> 32));
  put_u32(&aad, static_cast<uint32_t>(number));
  aad += last ? 'L' : 'F';
  return aad;
}

Status damaged() {
  return data_loss("the backup is damaged");
}

}  // namespace

BackupWriter::BackupWriter(security::Aead aead, std::string header)
    : aead_(std::move(aead)), header_(std::move(header)) {}

Result<BackupWriter> BackupWriter::create(std::string_view passphrase,
                                          const std::string& cluster_id, uint64_t version) {
  if (passphrase.empty()) return fail(invalid_argument("a backup needs a passphrase"));
  const auto parameters = security::PassphraseParameters::fresh();
  MUSTER_ASSIGN(const std::string key, security::key_of_passphrase(passphrase, parameters));
  MUSTER_ASSIGN(auto aead, security::Aead::create(key));
  BackupWriter writer(std::move(aead), std::string(kMagic) + kVersion + parameters.encode());
  const boost::json::object about{{"cluster_id", cluster_id}, {"version", std::to_string(version)}};
  MUSTER_ASSIGN(const std::string first, writer.frame(boost::json::serialize(about), false));
  writer.beginning_ = writer.header_ + first;
  return writer;
}

Result<std::string> BackupWriter::frame(std::string_view plain, bool last) {
  MUSTER_ASSIGN(const std::string sealed, aead_.seal(plain, frame_aad(header_, frames_++, last)));
  std::string out;
  put_u32(&out, static_cast<uint32_t>(sealed.size()) | (last ? kLastFrame : 0));
  return out + sealed;
}

Result<std::string> BackupWriter::chunk(std::string_view chunk) {
  return frame(chunk, false);
}

Result<std::string> BackupWriter::end() {
  return frame({}, true);
}

BackupReader::~BackupReader() = default;

Status BackupReader::add(std::string_view piece) {
  bytes_ += piece.size();
  if (bytes_ > kBytesMax) return resource_exhausted("the backup is over 4 GiB");
  buffer_ += piece;
  if (header_.empty()) {
    if (buffer_.size() < kHeaderBytes) {
      const size_t known = std::min(buffer_.size(), kMagic.size());
      if (buffer_.substr(0, known) == kMagic.substr(0, known)) return ok_status();
      return invalid_argument("this is no backup of a swarm");
    }
    MUSTER_TRY(read_header());
  }
  size_t at = 0;
  while (buffer_.size() - at >= 4) {
    if (ended_) return damaged();
    const uint32_t word = get_u32(std::string_view(buffer_).substr(at));
    const size_t length = word & ~kLastFrame;
    if (length > kFrameBytesMax || length < security::Aead::kOverheadBytes) return damaged();
    if (buffer_.size() - at - 4 < length) break;
    buffer_.erase(0, at + 4);
    at = 0;
    MUSTER_TRY(read_frame(length, (word & kLastFrame) != 0));
    at = length;
  }
  buffer_.erase(0, at);
  return ok_status();
}

Status BackupReader::read_header() {
  if (!buffer_.starts_with(kMagic)) return invalid_argument("this is no backup of a swarm");
  if (buffer_[kMagic.size()] != kVersion) {
    return invalid_argument("the backup was written by a newer muster (format {}, known is {})",
                            static_cast<int>(buffer_[kMagic.size()]), static_cast<int>(kVersion));
  }
  header_ = buffer_.substr(0, kHeaderBytes);
  buffer_.erase(0, kHeaderBytes);
  MUSTER_ASSIGN(const auto parameters, security::PassphraseParameters::decode(
                                           std::string_view(header_).substr(kMagic.size() + 1)));
  MUSTER_ASSIGN(const std::string key, security::key_of_passphrase(passphrase_, parameters));
  MUSTER_ASSIGN(auto aead, security::Aead::create(key));
  aead_.push_back(std::move(aead));
  return ok_status();
}

Status BackupReader::read_frame(size_t length, bool last) {
  const uint64_t number = frames_++;
  auto plain = aead_.front().open(std::string_view(buffer_).substr(0, length),
                                  frame_aad(header_, number, last));
  if (!plain) {
    if (number > 0) return damaged();
    return Status(StatusCode::kUnauthenticated,
                  "the backup does not open with this passphrase, or is damaged",
                  "wrong-passphrase");
  }
  if (last) {
    ended_ = true;
    return ok_status();
  }
  if (number > 0) {
    state_.chunks.push_back(*std::move(plain));
    return ok_status();
  }
  boost::system::error_code error;
  const boost::json::value about = boost::json::parse(*plain, error);
  if (error || !about.is_object()) return damaged();
  const auto* cluster = about.get_object().if_contains("cluster_id");
  const auto* version = about.get_object().if_contains("version");
  if (cluster == nullptr || !cluster->is_string() || version == nullptr || !version->is_string()) {
    return damaged();
  }
  state_.cluster_id = cluster->get_string().c_str();
  state_.version = std::strtoull(version->get_string().c_str(), nullptr, 10);
  return ok_status();
}

Result<BackupState> BackupReader::finish() {
  if (header_.empty()) return fail(invalid_argument("this is no backup of a swarm"));
  if (!ended_ || !buffer_.empty()) {
    return fail(data_loss("the backup is not whole: its end is missing"));
  }
  return std::move(state_);
}

}  // namespace muster::daemon
