#include "base/security/renewal.h"

#include <algorithm>

namespace muster::security {
namespace {

constexpr Duration kRetryFirst = 5s;
constexpr Duration kRetryMax = 1h;

Duration random_below(Duration bound, Rng& rng) {
  return bound <= 0ns
             ? 0ns
             : Duration(static_cast<int64_t>(rng.below(static_cast<uint64_t>(bound.count()))));
}

}  // namespace

WallTime renewal_due(const CertificateFacts& certificate, Rng& rng) {
  // Backdating is no part of its life: a certificate of an hour would be half over when it is made.
  const WallTime made = std::min(certificate.not_before + kBackdate, certificate.not_after);
  const Duration life = certificate.not_after - made;
  return made + life / 2 + random_below(life / 10 * 3, rng);
}

Duration renewal_retry(const CertificateFacts& certificate, WallTime now, unsigned failures,
                       Rng& rng) {
  const unsigned doublings = std::min(failures == 0 ? 0u : failures - 1, 16u);
  Duration delay = std::min<Duration>(kRetryFirst * (int64_t{1} << doublings), kRetryMax);
  delay = std::min(delay, std::max<Duration>((certificate.not_after - now) / 16, kRetryFirst));
  return delay - random_below(delay / 5, rng);
}

Duration renewal_spread(uint64_t nodes, Rng& rng) {
  return random_below(
      std::min<Duration>(3s * static_cast<int64_t>(std::min<uint64_t>(nodes, 2000)) / 100, 60s),
      rng);
}

Status check_validity(const CertificateFacts& certificate, WallTime now) {
  if (now < certificate.not_before) {
    return Status(StatusCode::kUnauthenticated,
                  fmt::format("this node's certificate is valid from {} on, and it is {} here: set "
                              "the clock",
                              format_rfc3339(certificate.not_before), format_rfc3339(now)),
                  "clock-skew");
  }
  if (now >= certificate.not_after) {
    return Status(StatusCode::kUnauthenticated,
                  fmt::format("this node's certificate expired at {}: leave the swarm and join it "
                              "again, or set the clock when it is wrong ({})",
                              format_rfc3339(certificate.not_after), format_rfc3339(now)),
                  "certificate-expired");
  }
  return ok_status();
}

}  // namespace muster::security
