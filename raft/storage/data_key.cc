#include "raft/storage/data_key.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/file.h"
#include "base/rng.h"
#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr std::string_view kHead = "muster-log-key 1\n";
constexpr size_t kNameBytes = 25;

std::string to_hex(std::string_view data) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : data) {
    out.push_back(kDigits[static_cast<unsigned char>(c) >> 4]);
    out.push_back(kDigits[static_cast<unsigned char>(c) & 15]);
  }
  return out;
}

Result<std::string> from_hex(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return fail(data_loss("the key is not hexadecimal"));
    out.push_back(static_cast<char>(high << 4 | low));
  }
  return out;
}

}  // namespace

// Layout: the head line, the log's name, the key's number and the key in hexadecimal, one a line.
Result<DataKey> DataKey::load(const std::filesystem::path& file, bool may_create) {
  auto text = read_file(file, 4096);
  if (!text && text.error().code() == StatusCode::kNotFound && may_create) {
    SystemRng rng;
    text = fmt::format("{}{}\n1\n{}\n", kHead, rng.id(), to_hex(security::Aead::random_key()));
    MUSTER_TRY(write_file_atomic(file, *text, 0600, Durability::kFsync));
  }
  if (!text) return fail(std::move(text).error());
  struct stat info {};
  if (stat(file.c_str(), &info) != 0) return fail(errno_status(errno, file.string()));
  if ((info.st_mode & 077) != 0) {
    return fail(failed_precondition("{} is readable by others than its owner; chmod 600 it",
                                    file.string()));
  }
  std::string_view rest = *text;
  if (!rest.starts_with(kHead)) {
    return fail(failed_precondition(
        "{} is of a version not known here: upgrade muster on this node", file.string()));
  }
  rest.remove_prefix(kHead.size());
  const size_t hex_at = kNameBytes + 3;
  if (rest.size() != hex_at + 2 * security::Aead::kKeyBytes + 1) {
    return fail(data_loss("{} is damaged", file.string()));
  }
  DataKey key;
  key.log_name_ = rest.substr(0, kNameBytes);
  key.id_ = static_cast<uint8_t>(rest[kNameBytes + 1] - '0');
  MUSTER_ASSIGN(const std::string bytes,
                from_hex(rest.substr(hex_at, 2 * security::Aead::kKeyBytes)));
  MUSTER_ASSIGN(security::Aead aead, security::Aead::create(bytes));
  key.aead_ = std::make_shared<const security::Aead>(std::move(aead));
  return key;
}

std::string DataKey::aad(std::string_view kind, uint64_t first, uint64_t second) const {
  std::string out = log_name_;
  out.push_back(static_cast<char>(kind.size()));
  out.append(kind);
  put_u64(out, first);
  put_u64(out, second);
  return out;
}

}  // namespace muster::raft
