// Any bytes as a backup file, in pieces of any size: as it is, and as the contents of frames that
// were sealed with the right key.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/security/passphrase.h"
#include "deploy/daemon/backup.h"

namespace {

using namespace muster;  // NOLINT: a program of one file

constexpr std::string_view kMagic = "MUSTERBK";
constexpr std::string_view kPassphrase = "fuzz";

void must(bool good) {
  if (!good) __builtin_trap();
}

void put(std::string& out, uint64_t value, int bytes) {
  while (bytes-- > 0) out.push_back(static_cast<char>(value >> 8 * bytes));
}

Result<daemon::BackupState> read(std::string_view bytes, size_t piece) {
  daemon::BackupReader reader{std::string(kPassphrase)};
  for (size_t at = 0; at < bytes.size(); at += piece) {
    MUSTER_TRY(reader.add(bytes.substr(at, piece)));
  }
  return reader.finish();
}

// scrypt is slow by intention, where the header says so.
bool is_slow(std::string_view bytes) {
  const size_t at = kMagic.size() + 1;
  if (!bytes.starts_with(kMagic) || bytes.size() < at + 3) return false;
  return static_cast<uint8_t>(bytes[at]) > 6 || static_cast<uint8_t>(bytes[at + 1]) > 8 ||
         static_cast<uint8_t>(bytes[at + 2]) > 4;
}

struct Key {
  std::string header;
  security::Aead aead;
};
const Key& key() {
  static const Key made = [] {
    const security::PassphraseParameters cheap{1, 1, 1, std::string(16, 's')};
    return Key{std::string(kMagic) + '\1' + cheap.encode(),
               *security::Aead::create(*security::key_of_passphrase(kPassphrase, cheap))};
  }();
  return made;
}

std::string frame(uint64_t number, std::string_view plain, bool last) {
  std::string aad = key().header;
  put(aad, number, 8);
  aad += last ? 'L' : 'F';
  const std::string sealed = *key().aead.seal(plain, aad);
  std::string out;
  put(out, sealed.size() | (last ? uint64_t{1} << 31 : 0), 4);
  return out + sealed;
}

// The first piece of the input is what the first frame says, the others are chunks.
void frames(std::string_view text, size_t piece) {
  std::string bytes = key().header;
  std::vector<std::string> chunks;
  for (uint64_t number = 0; number == 0 || !text.empty(); ++number) {
    const size_t size = text.empty() ? 0 : static_cast<uint8_t>(text[0]);
    text.remove_prefix(std::min<size_t>(text.size(), 1));
    const std::string_view plain = text.substr(0, size);
    text.remove_prefix(plain.size());
    bytes += frame(number, plain, false);
    if (number > 0) chunks.emplace_back(plain);
  }
  const auto cut_off = read(bytes, piece);
  must(!cut_off);
  const auto state = read(bytes + frame(chunks.size() + 1, {}, true), piece);
  if (state) must(state->chunks == chunks);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t piece = std::max<size_t>(data[1], 1);
  if (data[0] % 2 == 0) {
    if (!is_slow(text)) must(!read(text, piece));  // nobody sealed it
  } else {
    frames(text, piece);
  }
  return 0;
}
