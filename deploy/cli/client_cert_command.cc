#include <charconv>
#include <filesystem>

#include "base/file.h"
#include "base/security/x509.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/paths.h"

namespace muster::deploy::cli {
namespace {

namespace fs = std::filesystem;

// Of what a number of nanoseconds holds; how long one may last is the managers' to say.
constexpr int64_t kDaysMost = 100'000;
constexpr const char* kNames[] = {"key.pem", "cert.pem", "ca.pem"};

// 0: as long as managers think right.
Result<int64_t> parse_days(const std::string& text) {
  if (text.empty()) return 0;
  int64_t days = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, days);
  if (read.ec == std::errc() && read.ptr == end && days >= 1 && days <= kDaysMost) return days;
  return fail(usage_error(
      fmt::format("invalid argument \"{}\" for \"--days\" flag: a number of days", text)));
}

// Before anything is asked for: nothing that is there is overwritten.
Status check_directory(const fs::path& dir) {
  for (const char* name : kNames) {
    std::error_code error;
    if (fs::exists(fs::symlink_status(dir / name, error))) {
      return already_exists("{} is there already: give another directory, or remove it",
                            (dir / name).string());
    }
  }
  return make_directory(dir, 0700);
}

// The certificate last: where it is, all is.
Status write_all(const fs::path& dir, const std::string& key,
                 const v1::IssueClientCertificateResponse& issued) {
  const auto write = [&](const char* name, const std::string& text, mode_t mode) {
    return write_file_atomic(dir / name, text, mode, Durability::kFsync);
  };
  MUSTER_TRY(write("key.pem", key, 0600));
  MUSTER_TRY(write("ca.pem", issued.trust_root_pem(), 0644));
  return write("cert.pem", issued.certificate_pem(), 0644);
}

}  // namespace

Result<int> client_cert_create(Run& run) {
  std::string out, days_text;
  run.flags.value("out,o", &out, "DIR", "directory for ca.pem, cert.pem and key.pem");
  run.flags.value("days", &days_text, "N", "how long the certificate lasts (30; 365 at most)");
  MUSTER_TRY(run.parse(1, 1));
  if (out.empty()) return fail(usage_error("--out DIR says where the files go"));
  MUSTER_ASSIGN(const int64_t days, parse_days(days_text));
  const fs::path dir = absolute_path(out, run.world.current_dir);
  MUSTER_TRY(check_directory(dir));

  MUSTER_ASSIGN(const std::string key, security::generate_key());
  v1::IssueClientCertificateRequest request;
  request.set_name(run.args[0]);
  request.set_validity_ns(Duration(24h * days).count());
  MUSTER_ASSIGN(*request.mutable_signing_request_pem(), security::create_signing_request(key));
  MUSTER_ASSIGN(const auto issued, run.client().call(request));
  MUSTER_TRY(security::check_key(issued.certificate_pem(), key));
  MUSTER_TRY(write_all(dir, key, issued));
  run.line(fmt::format("Client certificate of {} in {}, until {}.", run.args[0], out,
                       format_rfc3339({issued.not_after_ns()}).substr(0, 19) + "Z"));
  return 0;
}

}  // namespace muster::deploy::cli
