#include "raft/storage/key_ring.h"

#include <openssl/crypto.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/file.h"
#include "base/rng.h"
#include "base/security/key_wrap.h"
#include "raft/storage/bytes.h"
#include "raft/storage/record.h"

namespace muster::raft {
namespace {

constexpr std::string_view kHead = "muster-log-key 2";
constexpr std::string_view kOldHead = "muster-log-key 1";
constexpr size_t kSumDigits = 16;
constexpr size_t kKeysMax = 16;  // of a ring; the number has one byte in every record

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
}

std::string to_hex(std::string_view data) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * data.size());
  for (const char c : data) {
    out.push_back(kDigits[static_cast<unsigned char>(c) >> 4]);
    out.push_back(kDigits[static_cast<unsigned char>(c) & 15]);
  }
  return out;
}

std::optional<std::string> from_hex(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  if (text.size() % 2 != 0) return std::nullopt;
  std::string out;
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high << 4 | low));
  }
  return out;
}

std::optional<uint64_t> to_number(std::string_view text, int base = 10) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Tells a damaged file from a wrong unlock key.
std::string sum_of(std::string_view text) {
  ChainHash hash;
  const Chain chain = hash.next(kNoChain, {text});
  return to_hex({chain.data(), kSumDigits / 2});
}

// Takes "WORD rest\n" off the front.
std::optional<std::string_view> take_line(std::string_view& text, std::string_view word) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = text.substr(0, end);
  if (!line.starts_with(word) || line.size() <= word.size() || line[word.size()] != ' ') {
    return std::nullopt;
  }
  text.remove_prefix(end + 1);
  return line.substr(word.size() + 1);
}

bool one_word(const std::string& text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c <= ' '; });
}

// How one data key lies in the file: as it is, or under the unlock key.
std::string wrap_aad(const std::string& log_name, uint8_t id) {
  return fmt::format("muster-log-key {} {}", log_name, id);
}

}  // namespace

DataKey::DataKey(uint8_t id, Index since, std::string bytes, security::Aead aead)
    : id_(id), since_(since), bytes_(std::move(bytes)), aead_(std::move(aead)) {}

DataKey::~DataKey() {
  wipe(bytes_);
}

Result<std::shared_ptr<const DataKey>> DataKey::create(uint8_t id, Index since, std::string bytes) {
  MUSTER_ASSIGN(security::Aead aead, security::Aead::create(bytes));
  return std::make_shared<const DataKey>(id, since, std::move(bytes), std::move(aead));
}

void KeyRing::bind(LogIdentity identity, std::string log_name) {
  identity_ = std::move(identity);
  log_name_ = std::move(log_name);
  for (const std::string* part : {&identity_.cluster_id, &identity_.node_id, &log_name_}) {
    put_u32(aad_prefix_, static_cast<uint32_t>(part->size()));
    aad_prefix_ += *part;
  }
}

KeyRing::~KeyRing() {
  if (unlock_key_) wipe(*unlock_key_);
}

Result<std::shared_ptr<KeyRing>> KeyRing::create(const std::filesystem::path& file,
                                                 LogIdentity identity,
                                                 std::optional<std::string> unlock_key) {
  if (!one_word(identity.cluster_id) || !one_word(identity.node_id)) {
    return fail(invalid_argument("the ids \"{}\" and \"{}\" are to be words", identity.cluster_id,
                                 identity.node_id));
  }
  SystemRng rng;
  std::shared_ptr<KeyRing> ring(new KeyRing(file));
  ring->bind(std::move(identity), rng.id());
  MUSTER_ASSIGN(auto key, DataKey::create(1, 0, security::Aead::random_key()));
  MUSTER_TRY(ring->save({key}, unlock_key));
  ring->keys_.push_back(std::move(key));
  ring->unlock_key_ = std::move(unlock_key);
  return ring;
}

Result<std::shared_ptr<KeyRing>> KeyRing::load(const std::filesystem::path& file,
                                               std::optional<std::string> unlock_key) {
  MUSTER_ASSIGN(std::string text, read_file(file, 64 << 10));
  struct stat info {};
  if (stat(file.c_str(), &info) != 0) return fail(errno_status(errno, file.string()));
  if ((info.st_mode & 077) != 0) {
    return fail(failed_precondition("{} is readable by others than its owner; chmod 600 it",
                                    file.string()));
  }
  std::shared_ptr<KeyRing> ring(new KeyRing(file));
  Status parsed = ring->parse(text, unlock_key);
  wipe(text);
  MUSTER_TRY(parsed);
  return ring;
}

// Layout: FORMAT.md.
Status KeyRing::parse(std::string_view text, const std::optional<std::string>& unlock_key) {
  if (text.starts_with(kOldHead)) {
    return failed_precondition(
        "{} belongs to a log of format 1, written by a muster whose managers could not form a "
        "group; this one cannot read it: remove the directory and begin anew",
        file_.string());
  }
  const auto damaged = [&] { return data_loss("{} is damaged", file_.string()); };
  const size_t sum_at = text.rfind("sum ");
  if (sum_at == std::string_view::npos ||
      text.substr(sum_at) != "sum " + sum_of(text.substr(0, sum_at)) + "\n") {
    return damaged();
  }
  std::string_view rest = text.substr(0, sum_at);
  if (!rest.starts_with(kHead) || !rest.substr(kHead.size()).starts_with('\n')) {
    return failed_precondition("{} is of a version not known here: upgrade muster on this node",
                               file_.string());
  }
  rest.remove_prefix(kHead.size() + 1);
  const auto name = take_line(rest, "log");
  const auto cluster = take_line(rest, "cluster");
  const auto node = take_line(rest, "node");
  const auto member = take_line(rest, "member");
  const auto lock = take_line(rest, "lock");
  if (!name || !cluster || !node || !member || !lock) return damaged();
  const auto member_id = to_number(*member, 16);
  if (!member_id || (*lock != "yes" && *lock != "no")) return damaged();
  const bool locked = *lock == "yes";
  if (locked && !unlock_key) return security::swarm_locked();
  std::optional<security::Aead> wrapping;
  if (locked) {
    MUSTER_ASSIGN(security::Aead aead, security::Aead::create(*unlock_key));
    wrapping.emplace(std::move(aead));
  }
  while (const auto line = take_line(rest, "key")) {
    const size_t first = line->find(' ');
    const size_t second = line->find(' ', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) return damaged();
    const auto id = to_number(line->substr(0, first));
    const auto since = to_number(line->substr(first + 1, second - first - 1));
    auto bytes = from_hex(line->substr(second + 1));
    if (!id || *id == 0 || *id > UINT8_MAX || !since || !bytes) return damaged();
    if (wrapping) {
      auto plain = wrapping->open(*bytes, wrap_aad(std::string(*name), static_cast<uint8_t>(*id)));
      if (!plain) return security::wrong_unlock_key();
      bytes = *std::move(plain);
    }
    auto key = DataKey::create(static_cast<uint8_t>(*id), *since, *std::move(bytes));
    if (!key) return damaged();
    keys_.push_back(*std::move(key));
  }
  if (keys_.empty() || !rest.empty()) return damaged();
  bind({std::string(*cluster), std::string(*node), MemberId{*member_id}}, std::string(*name));
  if (locked) unlock_key_ = unlock_key;
  return ok_status();
}

Status KeyRing::save(const std::vector<std::shared_ptr<const DataKey>>& keys,
                     const std::optional<std::string>& unlock_key) const {
  std::optional<security::Aead> wrapping;
  if (unlock_key) {
    auto aead = security::Aead::create(*unlock_key);
    if (!aead) return invalid_argument("an unlock key has {} bytes", security::Aead::kKeyBytes);
    wrapping.emplace(*std::move(aead));
  }
  std::string text = fmt::format("{}\nlog {}\ncluster {}\nnode {}\nmember {:016x}\nlock {}\n",
                                 kHead, log_name_, identity_.cluster_id, identity_.node_id,
                                 identity_.member.value, unlock_key ? "yes" : "no");
  for (const auto& key : keys) {
    std::string bytes = key->bytes();
    if (wrapping) {
      MUSTER_ASSIGN(bytes, wrapping->seal(key->bytes(), wrap_aad(log_name_, key->id())));
    }
    text += fmt::format("key {} {} {}\n", key->id(), key->since(), to_hex(bytes));
    wipe(bytes);
  }
  text += fmt::format("sum {}\n", sum_of(text));
  Status status = write_file_atomic(file_, text, 0600, Durability::kFsync);
  wipe(text);
  return status;
}

std::string KeyRing::aad(std::string_view kind, Index index, Term term) const {
  std::string out;
  out.reserve(aad_prefix_.size() + kind.size() + 80);
  out = aad_prefix_;
  out.push_back(static_cast<char>(kind.size()));
  out.append(kind);
  put_u64(out, index);
  put_u64(out, term);
  return out;
}

std::shared_ptr<const DataKey> KeyRing::current() const {
  const std::lock_guard lock(mutex_);
  return keys_.back();
}

std::shared_ptr<const DataKey> KeyRing::find(uint8_t id) const {
  const std::lock_guard lock(mutex_);
  for (const auto& key : keys_) {
    if (key->id() == id) return key;
  }
  return nullptr;
}

size_t KeyRing::size() const {
  const std::lock_guard lock(mutex_);
  return keys_.size();
}

bool KeyRing::wrapped() const {
  const std::lock_guard lock(mutex_);
  return unlock_key_.has_value();
}

Status KeyRing::rotate(Index since) {
  const std::lock_guard lock(mutex_);
  if (keys_.size() >= kKeysMax) {
    return resource_exhausted("{} data keys are still needed; a snapshot frees them", keys_.size());
  }
  auto id = static_cast<uint8_t>(keys_.back()->id() % UINT8_MAX + 1);
  const auto taken = [&](const auto& key) { return key->id() == id; };
  while (std::any_of(keys_.begin(), keys_.end(), taken)) {
    id = static_cast<uint8_t>(id % UINT8_MAX + 1);
  }
  MUSTER_ASSIGN(auto fresh, DataKey::create(id, since, security::Aead::random_key()));
  auto next = keys_;
  next.push_back(std::move(fresh));
  MUSTER_TRY(save(next, unlock_key_));
  keys_ = std::move(next);
  return ok_status();
}

Status KeyRing::retain(const std::set<uint8_t>& needed) {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const DataKey>> next;
  for (const auto& key : keys_) {
    // Copies are handed out under the mutex only, so a count of one stays one.
    if (key == keys_.back() || needed.contains(key->id()) || key.use_count() > 1) {
      next.push_back(key);
    }
  }
  if (next.size() == keys_.size()) return ok_status();
  MUSTER_TRY(save(next, unlock_key_));
  keys_ = std::move(next);
  return ok_status();
}

Status KeyRing::rewrap(const std::optional<std::string>& unlock_key) {
  const std::lock_guard lock(mutex_);
  MUSTER_TRY(save(keys_, unlock_key));
  if (unlock_key_) wipe(*unlock_key_);
  unlock_key_ = unlock_key;
  return ok_status();
}

}  // namespace muster::raft
