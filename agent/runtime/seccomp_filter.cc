#include "agent/runtime/seccomp_filter.h"

#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

std::optional<uint32_t> action_of(const json::object& object, const char* key,
                                  const char* errno_key) {
  const json::string& name = object.at(key).as_string();
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name != "SCMP_ACT_ERRNO") return std::nullopt;
  const json::value* number = object.if_contains(errno_key);
  return SCMP_ACT_ERRNO(number != nullptr ? number->to_number<uint16_t>() : EPERM);
}

std::optional<scmp_compare> operator_of(const json::string& name) {
  if (name == "SCMP_CMP_NE") return SCMP_CMP_NE;
  if (name == "SCMP_CMP_EQ") return SCMP_CMP_EQ;
  if (name == "SCMP_CMP_MASKED_EQ") return SCMP_CMP_MASKED_EQ;
  return std::nullopt;
}

Status add_rule(scmp_filter_ctx filter, const json::object& rule, uint32_t default_action) {
  const auto action = action_of(rule, "action", "errnoRet");
  if (!action) return invalid_argument("unknown seccomp action");
  if (*action == default_action) return {};
  std::vector<scmp_arg_cmp> arguments;
  if (const json::value* list = rule.if_contains("args")) {
    for (const json::value& item : list->as_array()) {
      const json::object& arg = item.as_object();
      const auto op = operator_of(arg.at("op").as_string());
      if (!op) return invalid_argument("unknown seccomp comparison");
      scmp_arg_cmp compare{};
      compare.arg = arg.at("index").to_number<unsigned>();
      compare.op = *op;
      compare.datum_a = arg.at("value").to_number<uint64_t>();
      if (const json::value* second = arg.if_contains("valueTwo")) {
        compare.datum_b = second->to_number<uint64_t>();
      }
      arguments.push_back(compare);
    }
  }
  for (const json::value& name : rule.at("names").as_array()) {
    const int number = ::seccomp_syscall_resolve_name(name.as_string().c_str());
    if (number == __NR_SCMP_ERROR) continue;
    const int result = ::seccomp_rule_add_array(
        filter, *action, number, static_cast<unsigned>(arguments.size()), arguments.data());
    if (result != 0)
      return errno_status(-result, std::string("seccomp rule for ") + name.as_string().c_str());
  }
  return {};
}

Status add_architectures(scmp_filter_ctx filter, const json::object& profile) {
  const json::value* list = profile.if_contains("architectures");
  if (list == nullptr) return {};
  for (const json::value& item : list->as_array()) {
    // "SCMP_ARCH_X86_64" is "x86_64" to libseccomp.
    std::string name(item.as_string());
    name.erase(0, std::string_view("SCMP_ARCH_").size());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const uint32_t token = ::seccomp_arch_resolve_name(name.c_str());
    if (token == 0) return invalid_argument("unknown seccomp architecture {}", name);
    const int result = ::seccomp_arch_add(filter, token);
    if (result != 0 && result != -EEXIST) return errno_status(-result, "seccomp architecture");
  }
  return {};
}

std::string base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t have = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j) {
      word = (word << 8) | (j < have ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out.push_back(j <= have ? kDigits[(word >> (18 - 6 * j)) & 63] : '=');
    }
  }
  return out;
}

Result<std::string> export_program(scmp_filter_ctx filter) {
  const UniqueFd file(::memfd_create("muster-seccomp", MFD_CLOEXEC));
  if (!file) return fail(errno_status(errno, "memfd"));
  if (const int result = ::seccomp_export_bpf(filter, file.get()); result != 0) {
    return fail(errno_status(-result, "compiling the seccomp profile"));
  }
  std::string bytes;
  char buffer[16384];
  off_t at = 0;
  for (ssize_t got = 0; (got = ::pread(file.get(), buffer, sizeof buffer, at)) > 0; at += got) {
    bytes.append(buffer, static_cast<size_t>(got));
  }
  if (bytes.empty()) return fail(internal_error("the seccomp profile compiled to nothing"));
  return base64(bytes);
}

}  // namespace

Result<std::string> compile_seccomp(const json::object& profile) {
  const auto default_action = action_of(profile, "defaultAction", "defaultErrnoRet");
  if (!default_action) return fail(invalid_argument("unknown default seccomp action"));
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(::seccomp_init(*default_action),
                                                                &::seccomp_release);
  if (filter == nullptr) return fail(resource_exhausted("seccomp_init failed"));
  // A binary tree over the call numbers instead of hundreds of comparisons at every call.
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  MUSTER_TRY(add_architectures(filter.get(), profile));
  for (const json::value& rule : profile.at("syscalls").as_array()) {
    MUSTER_TRY(add_rule(filter.get(), rule.as_object(), *default_action));
  }
  return export_program(filter.get());
}

Result<std::string> SeccompCache::get(const json::object& profile) {
  std::string key = json::serialize(profile);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = programs_.find(key); found != programs_.end()) return found->second;
  MUSTER_ASSIGN(std::string program, compile_seccomp(profile));
  if (programs_.size() >= kProfilesMax) programs_.clear();
  programs_.emplace(std::move(key), program);
  return program;
}

}  // namespace muster::agent
